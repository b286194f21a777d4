"""Read recorded ablations back from the ledger, for figures and notebooks; nothing here trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from posekit.experiments import environment, ledger
from posekit.experiments.ablations.arm import TRAINING
from posekit.experiments.ledger import LedgerError, Row


def recorded_arms(
    name: str, profile: str = "quick", *, folder: Path | None = None
) -> dict[str, dict[int, Mapping[str, float]]]:
    """Metrics of an ablation's recorded runs by arm and seed.

    Every arm of the definition is a key, in its order; an arm that is not recorded has no seeds. Runs are matched by
    the hash of their configuration, so that a run recorded for another ablation counts too, and one of an earlier
    definition does not.

    Args:
        name: of the ablation.
        profile: "smoke", "quick" or "full".
        folder: ledger folder; the project's own by default.

    Raises:
        LedgerError: unknown ablation, or a damaged ledger.
    """
    found: dict[str, dict[int, Mapping[str, float]]] = {}
    rows = ledger.read_file((folder or environment.DATA / "ledger") / f"{TRAINING.name}.jsonl")
    for arm, config in _ablation(name).configs(profile).items():
        key = ledger.config_hash(config)
        found[arm] = {row.seed: row.metrics for row in sorted(rows, key=lambda row: row.seed) if row.config_hash == key}
    return found


def recorded_comparison(name: str, profile: str = "quick", *, folder: Path | None = None) -> Row | None:
    """The newest recorded comparison of an ablation in a profile, with cells, intervals and verdict; None without one.

    Raises:
        LedgerError: unknown ablation, or a damaged ledger.
    """
    _ablation(name)
    rows = ledger.read_file((folder or environment.DATA / "ledger") / f"{name}.jsonl")
    return next((row for row in reversed(rows) if row.scope.profile == profile), None)


def _ablation(name: str):
    from posekit.experiments.ablations import ABLATIONS

    if name not in ABLATIONS:
        raise LedgerError(f"there is no ablation '{name}'; there are {', '.join(ABLATIONS)}")
    return ABLATIONS[name]
