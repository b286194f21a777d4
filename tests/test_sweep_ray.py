"""Sweeps through Ray: the same results as through processes, and a lost worker's run is tried again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from posekit.experiments.ablations import ABLATIONS, arm, cluster, sweep

ray = pytest.importorskip("ray", reason="Ray is not installed")


@pytest.fixture(scope="module", autouse=True)
def machines():
    for attempt in range(3):
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            break
        except Exception:  # Ray gives its own parts 15 seconds to start, which a busy machine may not
            ray.shutdown()
            if attempt == 2:
                raise
    yield
    ray.shutdown()


@pytest.mark.timeout(180)
def test_a_run_on_another_disk_leaves_here_what_a_process_leaves(tmp_path, monkeypatch):
    there = tmp_path / "there"

    def on_another_disk(job, folder, deadline=None):
        from posekit.experiments.ablations.worker import work_elsewhere

        return work_elsewhere(job, str(there / Path(folder).name), deadline)

    monkeypatch.setattr(cluster, "work_elsewhere", on_another_disk)
    config = ABLATIONS["hrnet_or_simple_baseline"].configs("smoke")["SimpleBaseline"]
    found = {}
    for backend in ("processes", "ray"):
        job = sweep.Job(config, 1, tmp_path / backend)
        left = sweep.sweep(
            [job], backend=backend, on_done=lambda job, result: found.setdefault(job.folder.name, result)
        )
        assert left == 0
    assert found["ray"]["metrics"] == found["processes"]["metrics"]
    assert sweep.Job(config, 1, tmp_path / "ray").result == found["ray"]
    draws, expected = arm.draws_of(tmp_path / "ray"), arm.draws_of(tmp_path / "processes")
    assert expected and draws.keys() == expected.keys()
    assert all(np.array_equal(draws[name], expected[name]) for name in expected)
    assert (tmp_path / "ray" / "weights.safetensors").read_bytes() == (
        there / "ray" / "weights.safetensors"
    ).read_bytes()
    assert not list((tmp_path / "ray").glob(".*.tmp"))


@pytest.mark.timeout(120)
def test_a_lost_workers_run_is_tried_again(tmp_path, monkeypatch):
    def dies_once(job, folder, deadline=None):
        first = Path(folder) / "died"
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"result.json": json.dumps({"metrics": {"AP": float(job["seed"])}}).encode()}

    monkeypatch.setattr(cluster, "work_elsewhere", dies_once)
    found = []
    jobs = [sweep.Job({}, seed, tmp_path / str(seed)) for seed in (1, 2)]
    sweep.sweep(jobs, workers=2, backend="ray", on_done=lambda job, result: found.append(result["metrics"]["AP"]))
    assert sorted(found) == [1.0, 2.0]
    assert all((job.folder / "died").exists() for job in jobs)


@pytest.mark.timeout(120)
def test_a_run_that_always_dies_is_named(tmp_path, monkeypatch):
    def dies(job, folder, deadline=None):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(cluster, "work_elsewhere", dies)
    with pytest.raises(sweep.SweepError, match=r"hopeless failed 3 times") as failure:
        sweep.sweep([sweep.Job({}, 1, tmp_path / "hopeless")], backend="ray", on_done=lambda job, result: None)
    assert len(str(failure.value).splitlines()) == 1


@pytest.mark.timeout(120)
def test_a_run_that_outlasts_the_budget_is_ended(tmp_path, monkeypatch):
    def endless(job, folder, deadline=None):
        while True:
            (Path(folder) / "pulse").touch()
            time.sleep(0.1)

    monkeypatch.setattr(cluster, "work_elsewhere", endless)
    monkeypatch.setattr(sweep, "GRACE", 0.5)
    jobs = [sweep.Job({}, seed, tmp_path / str(seed)) for seed in (1, 2)]
    deadline, pulse = time.time() + 20, tmp_path / "1" / "pulse"
    left = sweep.sweep(jobs, backend="ray", deadline=deadline, on_done=lambda job, result: pytest.fail("none is done"))
    assert left == 2 and pulse.exists() and time.time() < deadline + 30
    while time.time() - pulse.stat().st_mtime < 2:
        assert time.time() < deadline + 60
        time.sleep(0.2)
