"""Files that are whole or not there, and errors that name the file that was asked for, not the one beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A hidden name beside ``path`` to write under, which is renamed to it at the end; folders on the way are made.

    Raises:
        OSError: one sentence with ``path`` and the remedy, for whatever the disk refuses; nothing is left of it.
    """
    with _beside(path) as temporary:
        yield temporary
        os.replace(temporary, path)


def check_writable(path: str | os.PathLike) -> None:
    """Find out before the work of hours whether its file can be written at the end; what stands there stays.

    Raises:
        OSError: as of :func:`replacing`.
    """
    if Path(path).is_dir():
        raise OSError(f"{path}: cannot be written (it is a folder); name a file in it")
    with _beside(path) as temporary:
        temporary.touch()


@contextmanager
def _beside(path: str | os.PathLike) -> Iterator[Path]:
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        why = error.strerror or error
        raise OSError(f"{path}: cannot be written ({why}); name a file in a folder that takes it") from error
    finally:
        with suppress(OSError):  # where the folder could not be made there is nothing to remove
            temporary.unlink(missing_ok=True)
