"""What a recorded run says about where it ran: commit, versions, hardware, and no names of machines or folders."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

import posekit
from posekit.experiments.ledger import LedgerError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"


def commit(*, clean: bool = False) -> str:
    """Full id of the checked-out commit.

    Args:
        clean: refuse when the package's files differ from that commit.

    Raises:
        LedgerError: no checkout, or not clean when it must be.
    """
    head = _git("rev-parse", "HEAD")
    if clean:
        changed = _git("status", "--porcelain", "--", "posekit", "data/claims.csv")
        if changed:
            first = changed.splitlines()[0].split(maxsplit=1)[-1]
            raise LedgerError(
                f"{first} differs from the last commit; commit before recording, so that the row can be rerun"
            )
    return head


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Python, posekit, torch, numpy and the named packages."""
    found = {"python": platform.python_version(), "posekit": posekit.__version__}
    for name in ("torch", "numpy", *packages):
        found[name] = importlib.metadata.version(name)
    return found


def hardware(device: str = "cpu") -> dict[str, str | int]:
    """Device kind, its model and the number of threads."""
    if device.startswith("cuda"):
        return {"device": "cuda", "model": torch.cuda.get_device_name(device), "threads": torch.get_num_threads()}
    return {"device": "cpu", "model": _processor(), "threads": torch.get_num_threads()}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise LedgerError("the package does not lie in a git checkout; record from a clone of the repository") from None
    return result.stdout.rstrip("\n")
