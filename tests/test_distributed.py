"""Several processes against one: the same losses, every prediction once, and an end when one of them ends."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import distributed_jobs
import numpy as np
import pytest
import torch

from posekit import create_model, list_models, training
from posekit.cli import build_parser
from posekit.data import Augmentation, CropLoader, Mannequin

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(900)
SECONDS = 240  # nothing here takes longer, on a busy machine either, unless processes wait for each other in vain


def start(command, size, **more):
    """``size`` processes with the environment that torchrun gives; size 1 is a plain start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plain = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    plain |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started = []
    for rank in range(size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = plain | ({key: str(value) for key, value in place.items()} if size > 1 else {}) | more
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        ends = [process.communicate(timeout=SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, out, err) for process, (out, err) in zip(started, ends)]


def work(folder, size, *jobs):
    return start([sys.executable, str(ROOT / "tests" / "distributed_jobs.py"), str(folder), *jobs], size)


def answers(folder, job, size):
    """What the processes of a job left, in the order of their ranks."""
    return [json.loads((folder / f"{job}{size}-{rank}.json").read_text()) for rank in range(size)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with a drawn dataset, as COCO file and pictures."""
    folder = tmp_path_factory.mktemp("distributed")
    dataset = Mannequin("val", level="bib", scenes=8, root=folder / "drawn", progress=False)
    (folder / "people.json").write_text(dataset.annotation_file.read_text())
    (folder / "images").symlink_to(dataset.folder / "images")
    return folder


@pytest.fixture(scope="module")
def death(drawn):
    """Exit code and words of two processes, of which the second dies in the middle."""
    return work(drawn, 2, "death")


@pytest.fixture(scope="module")
def alone(drawn):
    """What one process finds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {job: getattr(distributed_jobs, f"job_{job}")(drawn, 1) for job in ("loss", "evaluate")}
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def together(drawn, death):
    """What each of two processes finds; one start does all, for torch takes long to be imported."""
    jobs = ("loss", "evaluate", "models", "resume")
    ends = work(drawn, 2, *jobs)
    assert [code for code, _, _ in ends] == [0, 0], "\n".join(said for _, _, said in ends)
    return {job: answers(drawn, job, 2) for job in jobs}


def readme_lines():
    """The training commands of README, as a shell hands them over: lists of words."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"begin training commands.*?```\n(.*?)```", text, re.DOTALL).group(1)
    show = "posekit() { printf '%s\\n' posekit \"$@\" --; }; torchrun() { printf '%s\\n' torchrun \"$@\" --; }\n"
    words = subprocess.run(["bash", "-c", show + block], capture_output=True, text=True, check=True).stdout
    return [line.split("\n") for line in words.strip().removesuffix("\n--").split("\n--\n")]


def test_commands_of_readme_are_understood():
    from torch.distributed.run import get_args_parser

    lines = readme_lines()
    assert [line[0] for line in lines] == ["posekit", "torchrun", "torchrun", "torchrun"]
    places = []
    for name, *words in lines:
        if name == "torchrun":
            place = get_args_parser().parse_args(words)
            assert place.module and place.training_script == "posekit"
            places.append((place.nnodes, place.nproc_per_node, place.master_addr))
            words = place.training_script_args
        options = build_parser().parse_args(words)
        assert options.model in list_models() and callable(options.run)
    assert places == [("1:1", "8", "127.0.0.1"), ("2", "8", "10.0.0.1"), ("1:1", "8", "127.0.0.1")]


def test_readmes_line_for_one_machine_runs(drawn):
    """Its own words, on a miniature: two processes, a small network, eight pictures."""
    words = readme_lines()[1][1:]
    net = distributed_jobs.make(create_model, "tiny_srpose").state_dict()
    torch.save({k.removeprefix("backbone."): v for k, v in net.items() if "backbone" in k}, drawn / "imagenet.pth")
    small = {
        "8": "2", "hrnet_w32_srpose": "tiny_srpose", "hrnet_w32-36af842e.pth": str(drawn / "imagenet.pth"),
        "4": "0", "build/runs/srpose": str(drawn / "readme"), "batch_size=256": "batch_size=6",
        "coco/annotations/person_keypoints_train2017.json": str(drawn / "people.json"),
        "coco/annotations/person_keypoints_val2017.json": str(drawn / "people.json"),
        "coco/train2017": str(drawn / "images"), "coco/val2017": str(drawn / "images"),
    }  # fmt: skip
    assert set(small) <= set(words)
    more = ["--set", "epochs=1", "--set", "evaluations=1", "--device", "cpu", "--json"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *(small.get(w, w) for w in words), *more]
    ((code, out, said),) = start(command, 1)
    assert code == 0, said
    answer = json.loads(out)
    _, meta = training.load_tensors(drawn / "readme" / training.WEIGHTS)
    assert answer["metrics"] == meta["metrics"] and answer["steps"] == meta["steps"] > 0
    assert said.count("imagenet.pth: backbone only") == 1, "one process speaks"


def values(answer, key):
    return np.array([record[key] for record in answer["history"]])


def test_two_processes_have_the_loss_curve_of_one(drawn, alone, together):
    """Seven people a batch: the parts have three and four."""
    for kind in ("maps", "points"):
        one, two = alone["loss"][kind], together["loss"][0][kind]
        assert len(one["history"]) >= 4
        assert values(one, "loss")[-1] != values(one, "loss")[0]
        for key in ("step", "loss", "gradient_norm", "lr"):
            np.testing.assert_allclose(values(two, key), values(one, key), rtol=2e-5, err_msg=kind)
        assert together["loss"][1][kind]["metrics"] == two["metrics"]
        for name, value in one["metrics"].items():
            assert two["metrics"][name] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    one, two = alone["loss"]["maps"], together["loss"][0]["maps"]
    for name, value in one["state"].items():
        assert two["state"][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert two["state"] == together["loss"][1]["maps"]["state"]
    lines = (drawn / "maps2" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == values(two, "step").tolist(), "written once"


def test_every_person_is_scored_once(alone, together):
    """Equal to one process to the last bit, in the same order, in every process."""
    assert len(alone["evaluate"]["person"]) == len(set(alone["evaluate"]["person"])) == 9
    assert together["evaluate"] == [alone["evaluate"]] * 2


def test_parts_of_a_batch_are_the_batch(drawn):
    people = distributed_jobs.people(drawn)
    options = {"batch_size": 7, "shuffle": True, "seed": 3, "augmentation": Augmentation()}
    whole = list(CropLoader(people, (32, 32), **options))
    parts = [list(CropLoader(people, (32, 32), share=(rank, 3), **options)) for rank in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        for name in ("images", "keypoints", "visibility", "affine", "person", "box", "flip"):
            assert torch.equal(getattr(batch, name), torch.cat([getattr(share, name) for share in shares])), name
    assert {len(share) for part in parts for share in part} >= {2, 3}
    with pytest.raises(ValueError, match="no part of a whole"):
        CropLoader(people, (32, 32), share=(2, 2), **options)


def test_networks_with_unread_parameters_and_several_outputs(together):
    first, second = together["models"]
    assert first == second and all(np.isfinite(list(first.values())))


def test_a_process_that_dies_ends_the_others_with_a_sentence(drawn, death):
    (code, _, said), (died, _, _) = death
    assert (code, died) == (2, 7)
    sentence = said.strip().splitlines()[-1]
    assert "another process of this job has ended" in sentence
    assert f"the last good checkpoint is {drawn / 'killed' / 'checkpoint.safetensors'}" in sentence


def test_what_is_left_of_them_resumes(together):
    """Bit for bit the run in which nobody died."""
    whole, resumed = together["loss"][0]["maps"], together["resume"][0]
    assert values(resumed, "loss").tolist() == values(whole, "loss").tolist()
    assert resumed["state"] == whole["state"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batch_norm_sees_the_whole_batch_on_a_gpu(drawn):
    assert [code for size in (1, 2) for code, _, _ in work(drawn, size, "norm")] == [0, 0, 0]
    (alone,), together = answers(drawn, "norm", 1), answers(drawn, "norm", 2)
    assert (alone["kind"], together[0]["kind"]) == ("BatchNorm2d", "SyncBatchNorm")
    np.testing.assert_allclose(values(together[0], "loss"), values(alone, "loss"), rtol=1e-3)
