"""Nothing lost: killed anywhere, or stopped by the disk or a file, a run goes on from its last good checkpoint."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_training import RECIPE, make_loader, make_net

from posekit import create_model, training
from posekit.data import ImageError, Mannequin
from posekit.training import TrainingError


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(record["step"], record["loss"], record.get("val")) for record in map(json.loads, lines)]


@pytest.mark.timeout(600)
def test_a_run_killed_twenty_times_ends_with_the_same_weights(tmp_path):
    """At lines of the package, in the middle of saving and of evaluating, and with half a checkpoint written."""
    script = Path(__file__).with_name("killed_run.py")
    ran = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["ends"] == [-signal.SIGKILL] * 20, list(zip(answer["kills"], answer["ends"]))
    assert (answer["last"], answer["whole"]) == (0, 0)
    assert answer["steps"][0] < 20 < answer["steps"][-1] < 60, "kills all along the run"
    whole, _ = training.load_tensors(tmp_path / "whole" / training.WEIGHTS)
    killed, _ = training.load_tensors(tmp_path / "killed" / training.WEIGHTS)
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        assert torch.equal(value, killed[name]), name
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")
    assert not torch.equal(whole["layers.0.weight"], make_net().layers[0].weight)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        pytest.param(3000, r"cannot write .*checkpoint\.safetensors .*; free some space", id="checkpoint"),
        pytest.param(600, r"cannot write .*metrics\.jsonl", id="metrics"),
    ],
)
def test_a_disk_that_takes_no_more_ends_with_a_sentence(tmp_path, size, says):
    """The system itself refuses to let a file grow: what was written stays, and the run goes on when there is room."""
    options = {"seed": 0, "log_every": 1, "checkpoint_seconds": 0, "device": "cpu"}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(record):
        if record["step"] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    try:
        with pytest.raises(TrainingError, match=says) as caught:
            training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path / "full", on_log=fill, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value) and "last good" in str(caught.value)
    assert training.load_tensors(tmp_path / "full" / training.CHECKPOINT)[1]["step"] == 3
    nets = make_net(), make_net()
    for net, name in zip(nets, ("full", "whole")):
        training.fit(net, make_loader(), None, RECIPE, out_dir=tmp_path / name, **options)
    for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values()):
        assert torch.equal(a, b)


@pytest.fixture
def stopped(tmp_path):
    """A run of 20 steps whose checkpoint is of step 13 and whose log goes on to 15: how to go on, and its folder."""
    options = {"out_dir": tmp_path / "run", "seed": 0, "log_every": 1, "device": "cpu"}

    def stop(record):
        if record["step"] == 13:
            raise KeyboardInterrupt

    def go_on(on_log=None):
        return training.fit(make_net(), make_loader(), None, RECIPE, on_log=on_log, **options)

    with pytest.raises(KeyboardInterrupt):
        go_on(stop)
    log = tmp_path / "run" / "metrics.jsonl"
    last = json.loads(log.read_text().splitlines()[-1])
    log.write_text(log.read_text() + "".join(json.dumps(last | {"step": step}) + "\n" for step in (14, 15)))
    return go_on, tmp_path / "run"


def damage(log, how):
    lines = log.read_text().splitlines(keepends=True)
    changed = {"broken": ["{\x00", *lines[1:]], "short": lines[:8], "half a line": ["".join(lines[:12]), lines[12][:9]]}
    changed["no records"] = ["null\n"] * len(lines)
    log.unlink()
    if how in changed:
        log.write_text("".join(changed[how]))


DAMAGES = ["broken", "short", "half a line", "no records", "missing"]


@pytest.mark.parametrize("how", ["longer", *DAMAGES])
def test_records_and_run_json_come_back_from_the_checkpoint(stopped, how):
    go_on, folder = stopped
    logged = (folder / "metrics.jsonl").read_text().splitlines()[:13]
    about = json.loads((folder / "run.json").read_text())
    if how != "longer":
        damage(folder / "metrics.jsonl", how)
        (folder / "run.json").unlink()
    result = go_on()
    written = (folder / "metrics.jsonl").read_text().splitlines()
    assert written[:13] == logged and [json.loads(line) for line in written] == result.history
    assert [record["step"] for record in result.history] == list(range(1, 21))
    again = json.loads((folder / "run.json").read_text())
    assert again["digest"] == about["digest"] and again["recipe"] == about["recipe"]


@pytest.mark.parametrize("how", ["longer", *DAMAGES])
def test_a_checkpoint_without_records_needs_the_whole_file(stopped, how):
    """Earlier versions wrote such checkpoints."""
    go_on, folder = stopped
    tensors, meta = training.load_tensors(folder / training.CHECKPOINT)
    del tensors["records"]
    training.save_tensors(folder / training.CHECKPOINT, tensors, meta)
    if how == "longer":
        assert [record["step"] for record in go_on().history] == list(range(1, 21))
        return
    damage(folder / "metrics.jsonl", how)
    with pytest.raises(
        TrainingError, match=r"metrics\.jsonl does not hold the 13 records .*put it back or .*resume=False"
    ):
        go_on()


@pytest.mark.parametrize("meta", [None, {}, "weights", {"digest": "x"}, [1]])
def test_another_file_under_the_checkpoints_name_ends_with_a_sentence(stopped, meta):
    go_on, folder = stopped
    name = folder / training.CHECKPOINT
    if meta == "weights":
        go_on()
        name.write_bytes((folder / training.WEIGHTS).read_bytes())
    elif meta is None:
        save_file({"weight": torch.ones(1)}, name)
    else:
        training.save_tensors(name, {"weight": torch.ones(1)}, meta)
    with pytest.raises(TrainingError, match=rf"{re.escape(str(name))} .*resume=False") as caught:
        go_on()
    assert "\n" not in str(caught.value)


def test_a_vanished_picture_ends_with_a_sentence(tmp_path):
    # Enough pictures that some are still to be read when those of the batches cut ahead are in memory.
    data = Mannequin("val", level="bib", scenes=12, root=tmp_path, progress=False)
    recipe = replace(RECIPE, batch_size=2, epochs=2, ema=None)
    options = {"out_dir": tmp_path / "run", "seed": 0, "log_every": 1, "checkpoint_seconds": 0, "device": "cpu"}
    kept = {file: file.read_bytes() for file in (data.folder / "images").iterdir()}

    def remove(record):
        for file in kept:
            file.unlink(missing_ok=True)

    def net():
        torch.manual_seed(0)
        return create_model("tiny_deeppose", input_size=(64, 64))

    with pytest.raises(ImageError, match=str(data.folder)) as caught:
        training.fit(net(), data, None, recipe, on_log=remove, **options)
    assert "\n" not in str(caught.value)
    assert training.load_tensors(tmp_path / "run" / training.CHECKPOINT)[1]["step"] >= 1
    for file, content in kept.items():
        file.write_bytes(content)
    result = training.fit(net(), data, None, recipe, **options)
    assert [record["step"] for record in result.history] == list(range(1, result.steps + 1))
