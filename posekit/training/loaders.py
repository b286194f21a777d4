"""From what the caller of :func:`posekit.training.fit` has to what its loop iterates over, and how that is watched."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
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
    loader = CropLoader(people, model.input_size, workers=workers, cache_images=True, **options)
    return (Ahead(loader) if workers == 0 and available_cores() >= 2 * processes.size else loader), True


def available_cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(allowed(0)) if allowed else os.cpu_count() or 1


class Ahead:
    """The batches of another loader, made by a thread while the caller works on earlier ones.

    Decoding and warping let other threads run, so on a second core the crops cost training no time. Batches are the
    same and in the same order, because one thread makes them all; the loader must not draw from a generator that its
    caller also draws from. An exception of the loader reaches the caller in its place among the batches.

    Args:
        loader: anything with ``len``, ``resume`` and iteration.
        depth: batches that may wait to be taken, at least 1.
    """

    def __init__(self, loader: Loader, *, depth: int = 2):
        self.loader, self.depth = loader, depth

    def __len__(self) -> int:
        return len(self.loader)

    def resume(self, state: dict[str, int]) -> None:
        self.loader.resume(state)

    def __iter__(self) -> Iterator[Any]:
        made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        room, left = threading.Semaphore(self.depth - 1), threading.Event()

        def make() -> None:
            try:
                for batch in self.loader:
                    made.put((batch, None))
                    room.acquire()
                    if left.is_set():
                        return
                made.put((None, None))
            except BaseException as error:
                made.put((None, error))

        # A daemon, so that a process that is told to end does not wait for a batch that nobody takes.
        thread = threading.Thread(target=make, name="posekit crops", daemon=True)
        thread.start()
        try:
            while True:
                batch, error = made.get()
                if error is not None:
                    raise error
                if batch is None:
                    return
                room.release()
                yield batch
        finally:
            left.set()
            room.release()
            thread.join()


def describe_data(data: Any) -> dict[str, Any]:
    """Name and size, as JSON values."""
    name = getattr(data, "name", type(data).__name__)
    return (
        {"name": name, "people": len(data.people)} if hasattr(data, "people") else {"name": name, "batches": len(data)}
    )


def explain_too_few(train: Any, batch_size: int) -> str:
    """Why a training set has no batch, in a sentence."""
    if not hasattr(train, "people"):
        return f"the training set does not fill one batch of {batch_size}; use a smaller batch"
    trainable = train.trainable() if hasattr(train, "trainable") else train
    N, usable, source = len(train.people), len(trainable.people), train.people.source
    if not usable:
        whose = f"of {N} people in it nobody has a labelled keypoint and a box with size" if N else "nobody is in it"
        return f"{source}: {whose}; label people, or train on another file"
    return (
        f"{source}: {usable} of its {N} people can be trained on, which does not fill one batch of {batch_size}; "
        "use a smaller batch_size"
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
