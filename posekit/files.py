"""Files that are whole or not there, and errors that name the file that was asked for, not the one beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: str | os.PathLike, *, sync: bool = False) -> Iterator[Path]:
    """A hidden name beside ``path`` to write under, which is renamed to it at the end; an error leaves nothing of it.

    Args:
        path: the file that is to be whole or to stay as it was; its folder is there.
        sync: for large or precious files that one process writes at a time: put it on the disk before it gets its
            name, so that a power cut leaves the old one, and write over what a killed process left.

    Raises:
        OSError: as the disk gave it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp" if sync else f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if sync:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # without a folder there is nothing to remove
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """As :func:`whole`, for a file that somebody asked for; folders on the way are made.

    Raises:
        OSError: one sentence with ``path`` and the remedy, for whatever the disk refuses; nothing is left of it.
    """
    with _refusals(path), whole(path) as temporary:
        yield temporary


def check_writable(path: str | os.PathLike) -> None:
    """Find out before the work of hours whether its file can be written at the end; what stands there stays.

    Raises:
        OSError: as of :func:`replacing`.
    """
    path = Path(path)
    if path.is_dir():
        raise OSError(f"{path}: cannot be written (it is a folder); name a file in it")
    with _refusals(path):
        probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        probe.touch()
        probe.unlink()


@contextmanager
def _refusals(path: str | os.PathLike) -> Iterator[None]:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        why = error.strerror or error
        raise OSError(f"{path}: cannot be written ({why}); name a file in a folder that takes it") from error
