"""What a recorded run says about where it ran: commit, versions, hardware, and no names of machines or folders."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

import posekit
from posekit.experiments.ledger import LedgerError
from posekit.inference import has_bf16

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
        changed = _git("status", "--porcelain", "--", "posekit", "data/claims.csv", "data/frozen.json")
        if changed:
            first = changed.splitlines()[0].split(maxsplit=1)[-1]
            raise LedgerError(
                f"{first} differs from the last commit; commit before recording, so that the row can be rerun"
            )
    return head


def code_id(folder: Path = ROOT / "posekit") -> str:
    """Git's tree id of the package's files as they are, also where there is no git: the same code has the same id.

    Caches and hidden files are left out. A file that git does not know, or not like this, gives an id of no commit.
    """
    entries = []
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__" or path.suffix == ".pyc":
            continue
        if path.is_dir():
            mode, id, order = "40000", code_id(path), path.name + "/"  # git sorts a folder as if it ended with a slash
        else:
            mode, order = "100755" if os.access(path, os.X_OK) else "100644", path.name
            id = _git_hash("blob", path.read_bytes())
        if id != _EMPTY_TREE:
            entries.append((order.encode(), f"{mode} {path.name}\0".encode() + bytes.fromhex(id)))
    return _git_hash("tree", b"".join(entry for _, entry in sorted(entries)))


def commit_of(code: str) -> str:
    """The newest commit in the history of the checkout whose package has this :func:`code_id`.

    Raises:
        LedgerError: no checkout, or there is no such commit.
    """
    commits = _git("rev-list", "HEAD").splitlines()
    trees = _git("cat-file", "--batch-check=%(objectname)", given="".join(f"{c}:posekit\n" for c in commits))
    for commit_id, tree in zip(commits, trees.splitlines()):
        if tree == code:
            return commit_id
    raise LedgerError(
        f"no commit here has the code {code[:10]} that the runs were made with; check out the branch they came from, "
        "or repeat them from a commit"
    )


def _git_hash(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


_EMPTY_TREE = _git_hash("tree", b"")


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Python, posekit, torch, numpy and the named packages; "absent" where one is not installed."""
    found = {"python": platform.python_version(), "posekit": posekit.__version__}
    for name in ("torch", "numpy", *packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def hardware(device: str = "cpu") -> dict[str, str | int]:
    """Device kind, its model, a processor's instructions (they decide the last digits), and the number of threads."""
    if device.startswith("cuda"):
        return {"device": "cuda", "model": torch.cuda.get_device_name(device), "threads": torch.get_num_threads()}
    instructions = torch.backends.cpu.get_cpu_capability() + (", bf16" if has_bf16("cpu") else "")
    return {
        "device": "cpu", "model": _processor(), "instructions": instructions, "threads": torch.get_num_threads()
    }  # fmt: skip


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def _git(*arguments: str, given: str | None = None) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, input=given)
    except (OSError, subprocess.CalledProcessError):
        raise LedgerError("the package does not lie in a git checkout; record from a clone of the repository") from None
    return result.stdout.rstrip("\n")
