"""The runs of a sweep as tasks of Ray: a cluster of machines that need share no disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posekit import training
from posekit.experiments.ablations.arm import SPENT, read_result
from posekit.experiments.ablations.sweep import Job
from posekit.experiments.ablations.worker import LEFT, work_elsewhere
from posekit.files import whole


def has_gpu() -> bool:
    """Whether any machine of the cluster has a GPU.

    Raises:
        ImportError: without Ray.
    """
    return _ray().cluster_resources().get("GPU", 0) > 0


def _ray() -> Any:
    """Ray, connected to its cluster."""
    try:
        import ray
    except ImportError:
        raise ImportError("sweeps over many machines need Ray: pip install 'posekit[ray]'") from None
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    return ray


class RayTasks:
    """Runs in a cluster: the one that ``RAY_ADDRESS`` names, one that runs here, or a new one of this machine.

    Args:
        jobs: all that will be started; where any of them wants a GPU, each one gets a GPU.

    Raises:
        ImportError: without Ray.
    """

    def __init__(self, jobs: Sequence[Job]):
        self._ray = ray = _ray()
        needs: dict[str, Any] = {"num_gpus": 1} if any(j.device.startswith("cuda") for j in jobs) else {"num_cpus": 1}
        self._work = ray.remote(**needs, max_retries=0)(work_elsewhere)  # the sweep itself tries again

    def start(self, job: Job, deadline: float | None, code: str) -> Any:
        # The worker's folder has the same path: on a shared disk it is this one, with what an earlier try left.
        return self._work.remote(job.facts(code), str(job.folder.absolute()), deadline)

    def done(self, tasks: Sequence[Any]) -> list[Any]:
        """Those that have ended, after a wait of at most a second."""
        return self._ray.wait(list(tasks), num_returns=1, timeout=1.0)[0]

    def failure(self, task: Any, job: Job) -> str | None:
        """Bring the run home; what went wrong, or None."""
        try:
            files = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return str(error).strip().splitlines()[-1]
        if files is not None and read_result(job.folder) is None:
            bring_home(files, job.folder)
        return None

    def end(self, tasks: Sequence[Any]) -> None:
        for task in tasks:
            self._ray.cancel(task, force=True)


def bring_home(files: Mapping[str, bytes], folder: Path) -> None:
    """Write what a run left elsewhere, each file whole or not at all, and the result last."""
    for name in LEFT:
        if name in files:
            with whole(folder / name) as temporary:
                temporary.write_bytes(files[name])
    for name in (training.CHECKPOINT, SPENT):  # of an earlier start here
        (folder / name).unlink(missing_ok=True)
