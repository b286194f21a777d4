"""What was fixed before the recorded seeds ran: the hash of every ablation's definition, under version control."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from posekit.experiments import environment
from posekit.experiments.ablations.definition import Ablation
from posekit.experiments.ledger import LedgerError
from posekit.training.provenance import write_json

FROZEN = environment.DATA / "frozen.json"


def freeze(ablations: Sequence[Ablation], profile: str, *, path: Path = FROZEN) -> None:
    """Write the hashes; an ablation frozen before under another hash gets a second entry, the first stays."""
    entries = read(path)
    for ablation in ablations:
        digest = ablation.digest(profile)
        known = entries.setdefault(f"{ablation.name}/{profile}", [])
        if digest not in [entry["hash"] for entry in known]:
            today = datetime.datetime.now(datetime.UTC).date().isoformat()
            known.append({"hash": digest, "date": today, "seeds": ablation.definition(profile)["seeds"]})
    write_json(path, dict(sorted(entries.items())))


def check(ablation: Ablation, profile: str, seeds: Sequence[int], *, path: Path = FROZEN) -> None:
    """Refuse a recorded run of what was not frozen.

    Raises:
        LedgerError: no entry, another hash, or seeds that are not the frozen ones.
    """
    known = read(path).get(f"{ablation.name}/{profile}", [])
    if not known or known[-1]["hash"] != ablation.digest(profile):
        raise LedgerError(
            f"ablation {ablation.name} ({profile}) is not frozen as it stands; look without --record, then "
            f"freeze it with posekit ablate {ablation.name} --profile {profile} --freeze and commit before recording"
        )
    if sorted(seeds) != sorted(known[-1]["seeds"]):
        raise LedgerError(
            f"ablation {ablation.name} is recorded with its frozen seeds {known[-1]['seeds']}, all of them, and not "
            f"with {list(seeds)}; leave --seeds out"
        )


def read(path: Path = FROZEN) -> dict[str, list[dict]]:
    """All entries by "ablation/profile", oldest first."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
