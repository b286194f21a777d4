"""Runs made on one machine and recorded on another: a few archives, carried there and back.

A borrowed machine may have no git, may be bare again at the next call, and may hand back only a few files. So ``pack``
puts finished runs, small weights and small checkpoints of unfinished ones into numbered zip files, with the id of the
code that made them; ``unpack`` lays them out again, there to go on or here to be recorded; and ``merge`` records them
under the commit that has this code.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from posekit.experiments import environment, ledger
from posekit.experiments.ablations.arm import DRAWS, RESULT, SPENT
from posekit.experiments.ablations.definition import Ablation
from posekit.experiments.ablations.run import RUNS, Outcome, run_ablations, runs_of
from posekit.experiments.ledger import LedgerError
from posekit.files import whole
from posekit.training import CHECKPOINT

WEIGHTS_BYTES = 8 << 20  # larger weights stay where they were made
PART_BYTES = 15_000_000  # of an archive; also of a checkpoint that is carried
ABOUT = "about.json"
FACTS = ("job.json", DRAWS, RESULT, SPENT, "run.json", "metrics.jsonl")
_ENTRY = re.compile(r"((?:test|val)/([0-9a-f]{12})-seed\d+)/([a-z]+\.(?:json|jsonl|npz|safetensors))")


@dataclass(frozen=True)
class Asked:
    """What one call of ``posekit ablate --bring`` was to run."""

    names: tuple[str, ...]
    profile: str
    seeds: tuple[int, ...] | None
    record: bool


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        rows: added to the ledger, runs and comparisons.
        outcomes: one for each thing that was asked for.
        commit: that has the code of the runs.
        refused: why something that was asked for could not be recorded, a sentence each.
        folder: where runs and weights lie now.
    """

    rows: int
    outcomes: list[Outcome]
    commit: str
    folder: Path
    refused: list[str]


def pack(folder: Path, runs: Path, asked: Sequence[Asked]) -> list[Path]:
    """Write ``runs-1.zip``, ``runs-2.zip``, ...: first everything about the runs, then weights, seed by seed.

    Args:
        folder: the archives that it holds are replaced.
        runs: folder of the runs, with subfolders "test" and "val".
        asked: what the runs are for.
    """
    found = sorted((path.parent for path in runs.glob("*/*/job.json")), key=lambda run: _seed_first(run.name))
    done = [run for run in found if (run / RESULT).is_file()]
    files = [run / name for run in found for name in FACTS if (run / name).is_file()]
    files += [run / "weights.safetensors" for run in done if _size(run / "weights.safetensors") <= WEIGHTS_BYTES]
    files += [run / CHECKPOINT for run in found if run not in done and _size(run / CHECKPOINT) <= PART_BYTES]
    about = {"code": environment.code_id(), "asked": [dataclasses.asdict(one) for one in asked]}
    folder.mkdir(parents=True, exist_ok=True)
    paths, partials = [], []
    for number, part in enumerate(_parts([path for path in files if path.is_file()]), 1):
        paths.append(folder / f"runs-{number}.zip")
        partials.append(paths[-1].with_suffix(".part"))
        with zipfile.ZipFile(partials[-1], "w", zipfile.ZIP_DEFLATED) as archive:
            if number == 1:
                archive.writestr(ABOUT, json.dumps(about, indent=1))
            for path in part:
                archive.write(path, path.relative_to(runs).as_posix())
    for partial, path in zip(partials, paths):
        os.replace(partial, path)
    for path in set(_archives(folder)) - set(paths):
        path.unlink()
    return paths


def unpack(folder: Path, runs: Path) -> tuple[str, list[Asked]]:
    """Lay the archives of a folder out under ``runs``; a run that has come further there stays as it is.

    Returns:
        The id of the code that made them, and what was asked for; ("", []) when there are no archives.

    Raises:
        LedgerError: an archive that is damaged, or holds something else.
    """
    code, finished = "", {path.parent for path in runs.glob("*/*/result.json")}
    here = {path.parent: _step_of(path) for path in runs.glob(f"*/*/{CHECKPOINT}")}
    asked: list[Asked] = []
    for path in _archives(folder):
        try:
            with zipfile.ZipFile(path) as archive:
                # Results last: they say that a run is whole.
                for name in sorted(archive.namelist(), key=lambda name: name.endswith(RESULT)):
                    content = archive.read(name)
                    if name == ABOUT:
                        code, asked = _about(json.loads(content))
                        continue
                    target = _target(path, name, content, runs)
                    if target.name == CHECKPOINT and _step(BytesIO(content)) < here.get(target.parent, 0):
                        continue
                    if target.parent not in finished:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with whole(target) as temporary:
                            temporary.write_bytes(content)
        except (zipfile.BadZipFile, json.JSONDecodeError, KeyError, TypeError) as error:
            raise LedgerError(f"{path.name} is damaged ({error}); bring the archives once more") from None
    return code, asked


def resume(folder: Path, runs: Path, asked: Asked) -> list[Asked]:
    """Go on with what a folder holds, if anything.

    Returns:
        Everything that was asked for so far, this included.

    Raises:
        LedgerError: the folder's runs were made by other code.
    """
    code, before = unpack(folder, runs) if folder.is_dir() else ("", [])
    if code and code != environment.code_id():
        raise LedgerError(f"{folder} holds runs of other code than this; merge them, then bring to another folder")
    return [*before, *([asked] if asked not in before else [])]


def merge(folder: Path, ablations: dict[str, Ablation], *, to: Path | None = None, runs: Path = RUNS) -> Merged:
    """Record the runs of a folder, and compare where all runs are there now. Nothing is trained.

    Args:
        folder: of :func:`pack`.
        ablations: by name.
        to: ledger folder; ``data/ledger`` by default. Runs that it holds already are left out.
        runs: the runs are laid out in a folder of their code under it.

    Raises:
        LedgerError: no archives, runs of code that is in no commit, edited runs, or code here that differs from the
            last commit.
    """
    if not _archives(folder):
        raise LedgerError(f"{folder} holds no archive runs-1.zip; name the folder that --bring wrote")
    code = _code_of(folder)
    runs = runs_of(code, runs)
    _, asked = unpack(folder, runs)
    commit = environment.commit_of(code)
    to = to or environment.DATA / "ledger"
    before = len(ledger.read(to))
    outcomes, refused = [], []
    for one in asked:
        unknown = [name for name in one.names if name not in ablations]
        if unknown:
            raise LedgerError(f"there is no ablation '{unknown[0]}' here; check out commit {commit[:10]} to merge")
        try:
            outcome = run_ablations(
                [ablations[name] for name in one.names],
                profile=one.profile,
                seeds=one.seeds,
                record=one.record,
                deadline=0.0,  # long past: what has no result stays open
                folder=to,
                runs=runs,
                commit=commit,
            )
        except LedgerError as error:  # what else was asked for can be recorded all the same
            refused.append(f"{', '.join(one.names)} ({one.profile}): {error}")
        else:
            outcomes.append(outcome)
    return Merged(len(ledger.read(to)) - before, outcomes, commit, runs, refused)


def _code_of(folder: Path) -> str:
    try:
        with zipfile.ZipFile(_archives(folder)[0]) as archive:
            return _about(json.loads(archive.read(ABOUT)))[0]
    except (zipfile.BadZipFile, json.JSONDecodeError, KeyError, TypeError) as error:
        raise LedgerError(f"{folder}: runs-1.zip is damaged ({error}); bring the archives once more") from None


def _about(about: dict[str, Any]) -> tuple[str, list[Asked]]:
    asked = [
        Asked(tuple(a["names"]), a["profile"], None if a["seeds"] is None else tuple(a["seeds"]), a["record"])
        for a in about["asked"]
    ]
    return about["code"], asked


def _target(archive: Path, name: str, content: bytes, runs: Path) -> Path:
    entry = _ENTRY.fullmatch(name)
    if entry is None:
        raise LedgerError(f"{archive.name} holds '{name}', which is no part of a run; bring the archives once more")
    run, key, file = entry.groups()
    if file == "job.json" and ledger.config_hash(json.loads(content)["config"]) != key:
        raise LedgerError(f"{archive.name}: the configuration of run {run} was edited; bring the archives once more")
    return runs / run / file


def _archives(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs-*.zip"), key=lambda path: (len(path.name), path.name))


def _parts(files: list[Path]) -> list[list[Path]]:
    parts: list[list[Path]] = [[]]
    room = PART_BYTES
    for path in files:
        if parts[-1] and path.stat().st_size > room:
            parts.append([])
            room = PART_BYTES
        parts[-1].append(path)
        room -= path.stat().st_size
    return parts


def left_behind(runs: Path) -> list[str]:
    """Unfinished runs whose checkpoint is too large to be carried."""
    large = [path.parent for path in runs.glob(f"*/*/{CHECKPOINT}") if _size(path) > PART_BYTES]
    return sorted(run.name for run in large if not (run / RESULT).is_file())


def _step_of(path: Path) -> int:
    with open(path, "rb") as file:
        return _step(file)


def _step(checkpoint: BinaryIO) -> int:
    """How far a run had come, from its checkpoint's header; 0 if that does not say."""
    try:
        size = int.from_bytes(checkpoint.read(8), "little")
        header = json.loads(checkpoint.read(size) if size < PART_BYTES else b"")
        return int(json.loads(header["__metadata__"]["posekit"])["step"])
    except (ValueError, KeyError, TypeError):
        return 0


def _size(path: Path) -> float:
    return path.stat().st_size if path.is_file() else float("inf")


def _seed_first(name: str) -> tuple[int, str]:
    key, _, seed = name.partition("-seed")
    return int(seed), key
