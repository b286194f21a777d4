"""Sweeps through Ray: the same results as through processes, and a lost worker's run is tried again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from posekit.experiments.ablations import ABLATIONS, sweep, worker

ray = pytest.importorskip("ray", reason="Ray is not installed")


@pytest.fixture(scope="module", autouse=True)
def cluster():
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
def test_a_run_gives_the_same_numbers_as_in_a_process(tmp_path):
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


@pytest.mark.timeout(120)
def test_a_lost_workers_run_is_tried_again(tmp_path, monkeypatch):
    def dies_once(job, folder, deadline=None):
        first = Path(folder) / "died"
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"metrics": {"AP": float(job["seed"])}}

    monkeypatch.setattr(worker, "work", dies_once)
    found = []
    jobs = [sweep.Job({}, seed, tmp_path / str(seed)) for seed in (1, 2)]
    sweep.sweep(jobs, workers=2, backend="ray", on_done=lambda job, result: found.append(result["metrics"]["AP"]))
    assert sorted(found) == [1.0, 2.0]
    assert all((job.folder / "died").exists() for job in jobs)


@pytest.mark.timeout(120)
def test_a_run_that_always_dies_is_named(tmp_path, monkeypatch):
    def dies(job, folder, deadline=None):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(worker, "work", dies)
    with pytest.raises(sweep.SweepError, match=r"hopeless failed"):
        sweep.sweep([sweep.Job({}, 1, tmp_path / "hopeless")], backend="ray", on_done=lambda job, result: None)
