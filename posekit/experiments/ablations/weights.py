"""Keep the network of one recorded run as a file of the package: ``create_model(name, weights="mannequin")``.

A run whose folder is gone is trained again and must come out as recorded; the networks of ``ALONE``, which no ablation
compares, are recorded here.

    python -m posekit.experiments.ablations.weights hrnet_table6 within --seed 1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posekit import load_weights
from posekit.experiments import environment, ledger, runner, verification
from posekit.experiments.ablations import ABLATIONS, arms
from posekit.experiments.ablations.arm import TRAINING, build, draws_of, read_result
from posekit.experiments.ablations.run import RUNS, recorded, runs_of, training_row
from posekit.experiments.ablations.sweep import Job
from posekit.experiments.ablations.worker import work
from posekit.experiments.ledger import LedgerError, Row
from posekit.models import save_weights
from posekit.models.catalog import WEIGHTS
from posekit.training import WEIGHTS as WEIGHTS_OF_RUN
from posekit.training import Recipe

LIMIT = 8_000_000  # bytes
ALONE = {"SimpleBaseline, face": arms.SIMPLE_FACE}


def keep(
    ablation: str,
    arm: str,
    seed: int,
    *,
    profile: str = "quick",
    runs: Path = RUNS,
    folder: Path = WEIGHTS,
    ledger_folder: Path | None = None,
) -> Path:
    """Write ``folder/NETWORK.safetensors`` with command, seed, metrics and the ledger's row inside.

    Args:
        ablation: a name of ``ABLATIONS``, or "alone" for the arms of ``ALONE``.
        runs: folder of the runs that :func:`posekit.experiments.ablations.run.run_ablations` left.
        ledger_folder: ``data/ledger`` by default.

    Raises:
        LedgerError: there is no such arm, its run is not recorded, it comes out otherwise than recorded when it is
            trained again, or the file would exceed ``LIMIT``.
    """
    ledger_folder = ledger_folder or environment.DATA / "ledger"
    config = _config(ablation, arm, profile)
    key = ledger.config_hash(config)
    row = recorded(ledger_folder).get((key, seed))
    if row is None and ablation != "alone":
        raise LedgerError(
            f"the run {ablation}, {arm}, seed {seed} is not in the ledger; run posekit ablate {ablation} --record"
        )
    folder_of_run = left_by(row, runs) if row else None
    if row is None or folder_of_run is None:
        row, folder_of_run = _train(config, arm, seed, row, profile, runs, ledger_folder)
    net = build(config, seed)
    net.codec = Recipe.from_dict(config["recipe"]).apply_to_codec(net.codec)
    load_weights(net, folder_of_run / WEIGHTS_OF_RUN)
    result = read_result(folder_of_run)
    assert result is not None
    facts = {
        "command": f"python -m posekit.experiments.ablations.weights {ablation} {json.dumps(arm)} --seed {seed} "
        f"--profile {profile}",
        "seed": str(seed),
        "row": row.digest,
        "metrics": json.dumps({name: result["metrics"][name] for name in ("AP", "mean OKS", "PCK")}),
    }
    path = Path(folder) / f"{config['network']}.safetensors"
    save_weights(net, path, metadata=facts)
    if path.stat().st_size > LIMIT:
        path.unlink()
        raise LedgerError(f"{path.name} would be larger than {LIMIT // 1_000_000} MB; keep a smaller network")
    return path


def _config(ablation: str, arm: str, profile: str) -> dict[str, Any]:
    there = ALONE if ablation == "alone" else ABLATIONS[ablation].arms_of(profile)
    if arm not in there:
        raise LedgerError(f"{ablation} has no arm '{arm}'; it has {'; '.join(there)}")
    return there[arm].config(profile)


def _train(
    config: dict[str, Any], arm: str, seed: int, row: Row | None, profile: str, runs: Path, ledger_folder: Path
) -> tuple[Row, Path]:
    """Make the run again, or for the first time, and record it in the latter case."""
    key, commit = ledger.config_hash(config), "" if row else environment.commit(clean=True)
    job = Job(config, seed, runs_of(environment.code_id(), runs) / "test" / f"{key}-seed{seed}", "test", "cpu")
    work({"config": config, "seed": seed, "split": "test", "device": "cpu"}, str(job.folder))
    result = read_result(job.folder)
    assert result is not None
    if row is None:
        row = training_row(job, key, f"alone: {arm}", result, profile, commit)
        ledger.append(ledger_folder, [row])
        runner.save_arrays(runner.arrays_path(row, ledger_folder), draws_of(job.folder))
    made = runner.Measurement(result["metrics"], {name: tuple(ends) for name, ends in result["intervals"].items()})
    checked = verification.compare(row, made, ledger.read_file(ledger_folder / f"{TRAINING.name}.jsonl"))
    if not checked.ok:
        raise LedgerError(
            f"{arm}, seed {seed}, differs from its row in {checked.metric} by {checked.difference:.3g}, and "
            f"{checked.allowed:.3g} are allowed; train it at the row's commit {row.commit[:10]}"
        )
    return row, job.folder


def left_by(row: Row, runs: Path) -> Path | None:
    """The folder of the run that a row records; each version of the code has its own folder of runs under ``runs``."""
    name = f"test/{row.config_hash}-seed{row.seed}"
    for folder in (runs / name, *sorted(runs.glob(f"*/{name}"))):
        result = read_result(folder)
        if result is not None and result["metrics"] == row.metrics and (folder / WEIGHTS_OF_RUN).is_file():
            return folder
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep one network and say where."""
    parser = argparse.ArgumentParser(description="Keep the network of a recorded run.")
    parser.add_argument("ablation", choices=(*ABLATIONS, "alone"))
    parser.add_argument("arm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--runs", type=Path, default=RUNS)
    options = parser.parse_args(arguments)
    print(keep(options.ablation, options.arm, options.seed, profile=options.profile, runs=options.runs))


if __name__ == "__main__":
    main()
