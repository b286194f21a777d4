"""From what the caller of :func:`posekit.training.fit` has to what its loop iterates over, and how that is watched."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

import torch

from posekit.inference import Network, Processes
from posekit.training.arrays import Loader
from posekit.training.recipes import Recipe

T = TypeVar("T")
Place = Literal["auto", "host", "device"]


def as_loader(
    train: Any,
    model: Network,
    recipe: Recipe,
    seed: int,
    workers: int,
    processes: Processes,
    device: torch.device,
    crops: Place,
) -> tuple[Loader, bool]:
    """The loader, and whether it gives this process' parts of batches rather than whole ones."""
    if not hasattr(train, "people"):
        return train, False
    from posekit.data.crops import CropLoader
    from posekit.data.device_crops import DeviceCropLoader, fits

    people = train.trainable() if hasattr(train, "trainable") else train
    options: dict[str, Any] = {
        "batch_size": recipe.batch_size,
        "augmentation": recipe.augmentation,
        "shuffle": True,
        "seed": seed,
        "drop_last": True,
        "protocol": getattr(model.codec, "protocol", "hrnet"),
        "share": (processes.rank, processes.size),
    }
    if crops == "device" or (crops == "auto" and device.type == "cuda" and fits(people, device)):
        return DeviceCropLoader(people, model.input_size, device=device, **options), True
    return CropLoader(people, model.input_size, workers=workers, cache_images=True, **options), True


def describe_data(data: Any) -> dict[str, Any]:
    """Name and size, as JSON values."""
    name = getattr(data, "name", type(data).__name__)
    return (
        {"name": name, "people": len(data.people)} if hasattr(data, "people") else {"name": name, "batches": len(data)}
    )


def timed(items: Iterable[T]) -> Iterator[tuple[T, float]]:
    """Items with the seconds that each was waited for."""
    iterator = iter(items)
    while True:
        before = time.perf_counter()
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield item, time.perf_counter() - before


def progress_bar(name: str, step: int, total: int, *, shown: bool | None) -> Any:
    """A bar on stderr with the rate and the time left; None shows it when stderr is a terminal."""
    from tqdm import tqdm

    disable = None if shown is None else not shown
    return tqdm(total=total, initial=step, unit="step", desc=name, disable=disable, mininterval=0.5)
