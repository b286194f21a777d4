"""Is a person looking? Widgets show their controls to a person and test themselves when there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def person_present() -> bool:
    """Whether the running cell was sent by a front end with a person in front of it.

    JupyterLab, Notebook 7 and VS Code name the cell in the metadata of every execution request; papermill, nbclient
    and nbconvert do not. That is evidence of the request itself: nothing that a child process could inherit, so
    papermill started from a JupyterLab terminal or cell is still recognised as alone. ``POSEKIT_HEADLESS=1`` or ``0``
    overrules it.
    """
    override = os.environ.get("POSEKIT_HEADLESS", "")
    if override:
        return override == "0"
    if "google.colab" in sys.modules:
        return True
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return False
    request = kernel.get_parent("shell") or {}
    return bool(request.get("metadata", {}).get("cellId"))


def progress(items: Iterable[Any], label: str, *, total: int | None = None) -> Iterator[Any]:
    """The items, with one text line of progress when a person is there and silence otherwise."""
    from tqdm import tqdm

    yield from tqdm(items, desc=label, total=total, disable=not person_present(), file=sys.stdout, mininterval=0.3)
