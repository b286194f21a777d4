"""Records of a run as TensorBoard reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def tensorboard(folder: str | Path) -> Callable[[dict[str, Any]], None]:
    """What :func:`posekit.training.fit` takes as ``on_log`` to write event files into ``folder/tensorboard``.

    A resumed run goes on in the same curves: what was written after its checkpoint is not shown twice.

    Raises:
        ImportError: TensorBoard is not installed; one sentence says how to.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard is not installed; pip install 'posekit[tensorboard]'") from error

    writers: list[Any] = []

    def write(record: dict[str, Any]) -> None:
        if not writers:
            writers.append(SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=record["step"]))
        numbers = {key: value for key, value in record.items() if key not in ("step", "val")}
        numbers |= {f"val/{key}": value for key, value in record.get("val", {}).items()}
        for key, value in numbers.items():
            writers[0].add_scalar(key, value, record["step"])
        writers[0].flush()

    return write
