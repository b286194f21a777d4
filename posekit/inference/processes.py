"""Several processes that work as one: who am I, wait for the others, hand results around.

``torchrun`` starts the processes and says in the environment how they find each other. Alone, nothing here does
anything, so that code which takes a :class:`Processes` is written once.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, islice, zip_longest
from typing import Any, TypeVar

import torch
from torch import distributed

from posekit.inference.runtime import pick_device

T = TypeVar("T")

# One process may draw or score for minutes while the others wait; one that ended is noticed at once by its connections.
TIMEOUT = timedelta(minutes=30)
ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LOST = ("gloo", "nccl", "connection", "process group")


class ProcessError(RuntimeError):
    """Another process ended or could not go on; one sentence."""


@dataclass(frozen=True)
class Processes:
    """The processes of one job and the place of this one among them.

    Attributes:
        rank: number of this process, from 0 over all machines.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes, prints and decides."""
        return self.rank == 0

    def once(self, work: Callable[[], T]) -> T:
        """Let the first process work and give its result to all.

        Raises:
            ProcessError: in the others, when the work failed; the first process raises its own error.
        """
        if self.size == 1:
            return work()
        answer: list[Any] = [None, None]
        if self.first:
            try:
                answer[0] = work()
            except Exception as error:
                with noticing_the_lost():
                    distributed.broadcast_object_list([None, f"{error}"])
                raise
        with noticing_the_lost():
            distributed.broadcast_object_list(answer)
        if answer[1] is not None:
            raise ProcessError(f"the first process stopped: {answer[1]}")
        return answer[0]

    def agree(self, answer: bool) -> bool:
        """What the first process says."""
        return self.once(lambda: answer)

    def gather(self, value: T) -> list[T]:
        """The value of every process, in the order of their ranks, in all of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with noticing_the_lost():
            distributed.all_gather_object(found, value)
        return found

    def mean_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a tensor by its mean over the processes."""
        if self.size > 1:
            with noticing_the_lost():
                distributed.all_reduce(tensor)
            tensor /= self.size
        return tensor

    def copy_first_(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors by those of the first process."""
        if self.size > 1:
            with noticing_the_lost():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def share(self, loader: Any) -> Iterable[Any]:
        """This process' batches of a loader in fixed order: every ``size``-th, from the ``rank``-th on."""
        if self.size == 1:
            return loader
        if hasattr(loader, "every"):
            return loader.every(self.rank, self.size)
        return islice(iter(loader), self.rank, None, self.size)

    def interleave(self, parts: list[T]) -> list[T]:
        """What became of the batches of :meth:`share`, of all processes, in the loader's order, each once."""
        if self.size == 1:
            return parts
        nothing = object()
        rounds = zip_longest(*self.gather(parts), fillvalue=nothing)
        return [part for part in chain.from_iterable(rounds) if part is not nothing]  # type: ignore[misc]


ALONE = Processes()


def join(device: str | torch.device = "auto") -> Processes:
    """The processes that ``torchrun`` started, which this one then belongs to until it ends; otherwise :data:`ALONE`.

    On GPUs each process takes its own (``LOCAL_RANK``), which then is torch's current one. A group that is open
    already, by an earlier call or the caller, is used as it is.

    Args:
        device: "auto", "cpu" or "cuda", of all processes.

    Raises:
        ValueError: fewer GPUs than processes on this machine, or a GPU named for all of them.
        ProcessError: the others cannot be reached.
    """
    if not distributed.is_available():
        return ALONE
    if not distributed.is_initialized():
        if not all(name in os.environ for name in ENVIRONMENT) or os.environ["WORLD_SIZE"] == "1":
            return ALONE
        backend = "gloo"
        if pick_device(device).type == "cuda":
            backend = "cpu:gloo,cuda:nccl"
            _take_gpu(device, int(os.environ["LOCAL_RANK"]))
        with noticing_the_lost():
            distributed.init_process_group(backend, timeout=TIMEOUT)
        atexit.register(_leave, "nccl" in backend)
    return Processes(distributed.get_rank(), distributed.get_world_size())


_failed = False


@contextmanager
def together() -> Iterator[None]:
    """Work that all processes do; one in which it fails must not wait for the others when it ends."""
    global _failed
    try:
        yield
    except BaseException:
        _failed = True
        raise


def _leave(nccl: bool) -> None:
    if not distributed.is_initialized():
        return
    if nccl and _failed:
        # NCCL closes its connections only with all processes, and the others wait for this one. torchrun ends them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    distributed.destroy_process_group()


def _take_gpu(device: str | torch.device, local_rank: int) -> None:
    if torch.device(device if device != "auto" else "cuda").index is not None:
        raise ValueError(f"device {device} is one GPU for all processes; say cuda, and each takes its own")
    if local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"process {local_rank} of this machine has no GPU of its own, there are {torch.cuda.device_count()}; "
            "start as many processes as GPUs, or use --device cpu"
        )
    torch.cuda.set_device(local_rank)


@contextmanager
def noticing_the_lost() -> Iterator[None]:
    """Turn what torch says when another process has gone into one sentence.

    Raises:
        ProcessError: a connection to another process broke, or could not be made.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if isinstance(error, distributed.DistError) or any(word in said.lower() for word in LOST):
            lines = said.strip().splitlines()
            reason = lines[0].rsplit("] ", 1)[-1].split(". ")[0].rstrip(".") if lines else type(error).__name__
            raise ProcessError(f"another process of this job has ended or cannot be reached ({reason})") from error
        raise
