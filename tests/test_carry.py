"""Runs carried from a borrowed machine: what travels, what is recorded at home, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from posekit import training
from posekit.experiments import LedgerError, environment, ledger
from posekit.experiments.ablations import Ablation, Arm, carry, frozen, run, sweep
from posekit.experiments.ablations.definition import gain
from posekit.experiments.runner import save_arrays

ARMS = {"a": Arm("tiny_simple_baseline", "simple_baseline_r50"), "b": Arm("tiny_hrnet", "hrnet_w32")}
PAIR = Ablation("pair", ("H07",), "Is one better?", ARMS, (gain("a", "b"),), "tiny")
ASKED = carry.Asked(("pair",), "smoke", (1, 2), True)
CODE = "c0de" * 10


def finish(folder, config, seed, split="test"):
    """A finished run as a worker leaves it."""
    place = folder / split / f"{ledger.config_hash(config)}-seed{seed}"
    job = sweep.Job(config, seed, place, split, "cuda")
    job.write()
    result = {
        "metrics": {"AP": 50.0 + 3 * (config["network"] == "tiny_simple_baseline") + 0.1 * seed},
        "intervals": {"AP": [49.0, 55.0]},
        "seconds": 7.0,
        "versions": {"torch": "9.9"},
        "hardware": {"device": "cuda", "model": "borrowed", "threads": 1},
    }
    save_arrays(place / "draws.npz", {"AP": np.linspace(49, 55, 300)})
    (place / "result.json").write_text(json.dumps(result))
    (place / "weights.safetensors").write_bytes(bytes(1000))
    return place


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """Archives with three finished runs and one that was cut short; another machine's folders are gone."""
    monkeypatch.setattr(environment, "code_id", lambda: CODE)
    monkeypatch.setattr(environment, "commit", lambda clean=False: "0" * 40)
    monkeypatch.setattr(environment, "commit_of", lambda code: {CODE: "1" * 40}[code])
    monkeypatch.setattr(frozen, "check", lambda *args: None)
    there = tmp_path / "there"
    for config in PAIR.configs("smoke").values():
        for seed in (1, 2):
            last = finish(there, config, seed)
    (last / "result.json").unlink()
    (last / "checkpoint.safetensors").write_bytes(b"half way")
    carry.pack(tmp_path / "brought", there, [ASKED])
    return tmp_path / "brought", last.relative_to(there)


def test_runs_are_recorded_at_home_under_the_commit_of_their_code(brought, tmp_path):
    folder, _ = brought
    to, home = tmp_path / "ledger", tmp_path / "home"
    merged = carry.merge(folder, {"pair": PAIR}, to=to, runs=home)
    rows = ledger.read(to)
    assert merged.rows == len(rows) == 3 and [outcome.open for outcome in merged.outcomes] == [1]
    assert {(row.commit, row.hardware["model"], row.versions["torch"]) for row in rows} == {
        ("1" * 40, "borrowed", "9.9")
    }
    assert carry.merge(folder, {"pair": PAIR}, to=to, runs=home).rows == 0
    # The last run comes with the next call; now the arms can be compared.
    finish(merged.folder, PAIR.configs("smoke")["b"], 2)
    carry.pack(folder, merged.folder, [ASKED])
    again = carry.merge(folder, {"pair": PAIR}, to=to, runs=home)
    comparison = ledger.read_file(to / "pair.jsonl")
    assert again.rows == 2 and len(comparison) == 1 and comparison[0].commit == "0" * 40
    assert set(comparison[0].rests_on) == {row.digest for row in ledger.read_file(to / "training.jsonl")}
    assert comparison[0].metrics["AP: a minus b"] == pytest.approx(3.0)


def test_the_next_machine_goes_on_where_the_last_one_stopped(brought, tmp_path, monkeypatch):
    folder, unfinished = brought
    there = tmp_path / "next"
    finished = finish(there, PAIR.configs("smoke")["a"], 1)
    (finished / "result.json").write_text('{"of": "this machine"}')
    more = carry.Asked(("pair",), "smoke", None, True)
    assert carry.resume(folder, there, more) == [ASKED, more]
    assert carry.resume(folder, there, ASKED) == [ASKED]
    assert (there / unfinished / "checkpoint.safetensors").read_bytes() == b"half way"
    assert json.loads((finished / "result.json").read_text()) == {"of": "this machine"}
    assert len(list(there.glob("test/*/result.json"))) == 3
    assert carry.resume(tmp_path / "empty", there, ASKED) == [ASKED]
    monkeypatch.setattr(environment, "code_id", lambda: "other")
    with pytest.raises(LedgerError, match="runs of other code"):
        carry.resume(folder, there, ASKED)


def test_the_run_that_has_come_further_is_kept(brought, tmp_path):
    folder, unfinished = brought
    for here, there, kept in ((900, 100, 900), (100, 900, 900)):
        for place, step in ((tmp_path / "there", there), (tmp_path / f"warm {here}", here)):
            (place / unfinished).mkdir(parents=True, exist_ok=True)
            training.checkpoint.save_tensors(place / unfinished / "checkpoint.safetensors", {}, {"step": step})
        carry.pack(folder, tmp_path / "there", [ASKED])
        carry.resume(folder, tmp_path / f"warm {here}", ASKED)
        path = tmp_path / f"warm {here}" / unfinished / "checkpoint.safetensors"
        assert training.checkpoint.load_tensors(path)[1]["step"] == kept
    assert not list(tmp_path.rglob(".*.tmp")) and carry.left_behind(tmp_path / "there") == []


def test_what_cannot_be_recorded_does_not_keep_the_rest(brought, tmp_path, monkeypatch):
    folder, _ = brought

    def check(ablation, profile, seeds):
        if profile == "quick":
            raise LedgerError(f"{ablation.name} ({profile}) is not frozen as it stands")

    monkeypatch.setattr(frozen, "check", check)
    carry.pack(folder, tmp_path / "there", [carry.Asked(("pair",), "quick", None, True), ASKED])
    merged = carry.merge(folder, {"pair": PAIR}, to=tmp_path / "ledger", runs=tmp_path / "home")
    assert merged.rows == 3 and merged.refused == ["pair (quick): pair (quick) is not frozen as it stands"]


def test_checkpoints_that_stay_behind_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "PART_BYTES", 500)
    done, half = (finish(tmp_path, PAIR.configs("smoke")[arm], 1) for arm in "ab")
    (half / "result.json").unlink()
    for run_of in (done, half):
        (run_of / "checkpoint.safetensors").write_bytes(bytes(501))
    assert carry.left_behind(tmp_path) == [half.name]


def test_archives_are_small_and_leave_large_weights_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "code_id", lambda: CODE)
    monkeypatch.setattr(carry, "PART_BYTES", 9000)
    monkeypatch.setattr(carry, "WEIGHTS_BYTES", 4000)
    config = PAIR.configs("smoke")["a"]
    for seed in (1, 2, 3, 4):
        (finish(tmp_path, config, seed) / "weights.safetensors").write_bytes(bytes([4000, 3999, 4001, 4000][seed - 1]))
    paths = carry.pack(tmp_path / "out", tmp_path, [ASKED])
    names = [zipfile.ZipFile(path).namelist() for path in paths]
    inside = [sum(entry.file_size for entry in zipfile.ZipFile(path).infolist()) for path in paths]
    weights = [name for part in names for name in part if name.endswith("weights.safetensors")]
    assert [name.split("seed")[1][0] for name in weights] == ["1", "2", "4"]
    assert len(paths) > 1 and max(inside) < 9000 + 300 and names[0][0] == carry.ABOUT
    monkeypatch.setattr(carry, "PART_BYTES", 10**6)
    assert len(carry.pack(tmp_path / "out", tmp_path, [ASKED])) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["runs-1.zip"]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("../../escape.json", lambda text: text, "no part of a run"),
        (None, lambda text: text.replace('"samples": 240', '"samples": 241'), "configuration of run .* was edited"),
        (None, lambda text: text[:-40], "is damaged"),
    ],
)
def test_what_was_edited_or_does_not_belong_is_refused(brought, tmp_path, name, change, says):
    folder, _ = brought
    path = folder / "runs-1.zip"
    with zipfile.ZipFile(path) as archive:
        content = {entry: archive.read(entry) for entry in archive.namelist()}
    job = next(entry for entry in content if entry.endswith("job.json"))
    text = content.pop(job).decode()
    assert name or change(text) != text
    content[name or job] = change(text).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for entry, value in content.items():
            archive.writestr(entry, value)
    with pytest.raises(LedgerError, match=says):
        carry.merge(folder, {"pair": PAIR}, to=tmp_path / "ledger", runs=tmp_path / "home")
    assert not list((tmp_path / "ledger").glob("*")) and not list(tmp_path.rglob("escape.json"))


def test_the_codes_id_is_gits(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    package = tmp_path / "posekit"
    for name in ("a/b.py", "a.py", "a-b.py", "a0.py", "z/y/x.js", "Z.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(f"# {name}\n")
    (package / "z" / "run.py").write_text("")
    (package / "z" / "run.py").chmod(0o755)
    git("init", "-q")
    ids = []
    for change in ("one", "two"):
        (package / "a.py").write_text(f"# {change}\n")
        git("add", "posekit")
        git("commit", "-q", "-m", change)
        ids.append((git("rev-parse", "HEAD"), environment.code_id(package)))
        assert ids[-1][1] == git("rev-parse", "HEAD:posekit")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_bytes(b"x")
    (package / "empty").mkdir()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.code_id(package) == ids[1][1] != ids[0][1]
    for commit, code in ids:
        assert environment.commit_of(code) == commit
    (package / "new.py").write_text("")
    with pytest.raises(LedgerError, match="no commit here has the code"):
        environment.commit_of(environment.code_id(package))


def test_a_run_that_outlasts_the_budget_is_ended(tmp_path, monkeypatch):
    started = []

    def sleeper(pool, job, deadline, code):
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]))
        return started[-1]

    monkeypatch.setattr(sweep.Processes, "start", sleeper)
    monkeypatch.setattr(sweep, "GRACE", 0.3)
    jobs = [sweep.Job(PAIR.configs("smoke")["a"], seed, tmp_path / str(seed)) for seed in (1, 2, 3)]
    begin = time.time()
    left = sweep.sweep(jobs, workers=2, deadline=begin + 0.5, on_done=lambda job, result: pytest.fail("none is done"))
    assert left == 3 and len(started) == 2 and time.time() - begin < 100
    assert all(process.poll() is not None for process in started)


def test_nothing_is_written_where_runs_are_only_made(tmp_path, monkeypatch):
    """With --bring --record, frozen definitions and the test split, but no row and no git."""
    checked = []
    monkeypatch.setattr(frozen, "check", lambda *args: checked.append(args))
    monkeypatch.setattr(environment, "commit", lambda clean=False: pytest.fail("there is no checkout"))
    for config in PAIR.configs("smoke").values():
        for seed in (1, 2):
            finish(tmp_path / "runs", config, seed)
    outcome = run.run_ablations(
        [PAIR], profile="smoke", record=True, carried=True, folder=tmp_path / "ledger", runs=tmp_path / "runs"
    )
    assert checked and outcome.open == 0 and [row.test for row in outcome.rows] == ["pair"]
    assert not (tmp_path / "ledger").exists()
