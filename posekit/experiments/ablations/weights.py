"""Keep the network of one recorded run as a file of the package: ``create_model(name, weights="mannequin")``.

python -m posekit.experiments.ablations.weights hrnet_table6 within --seed 1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from posekit import load_weights
from posekit.experiments import environment, ledger
from posekit.experiments.ablations import ABLATIONS
from posekit.experiments.ablations.arm import build, read_result
from posekit.experiments.ablations.run import RUNS, recorded
from posekit.experiments.ledger import LedgerError
from posekit.models import save_weights
from posekit.models.catalog import WEIGHTS
from posekit.training import WEIGHTS as WEIGHTS_OF_RUN
from posekit.training import Recipe

LIMIT = 8_000_000  # bytes


def keep(
    ablation: str, arm: str, seed: int, *, profile: str = "quick", runs: Path = RUNS, folder: Path = WEIGHTS
) -> Path:
    """Write ``folder/NETWORK.safetensors`` with command, seed, metrics and the ledger's row inside.

    Raises:
        LedgerError: the run is not recorded, its weights are gone, or the file would exceed ``LIMIT``.
    """
    config = ABLATIONS[ablation].configs(profile)[arm]
    key = ledger.config_hash(config)
    row = recorded(environment.DATA / "ledger").get((key, seed))
    folder_of_run = None if row is None else left_by(row, runs)
    if row is None or folder_of_run is None:
        what = "is not in the ledger" if row is None else f"left no weights in {runs}"
        raise LedgerError(f"the run {ablation}, {arm}, seed {seed} {what}; run posekit ablate {ablation} --record")
    net = build(config, seed)
    net.codec = Recipe.from_dict(config["recipe"]).apply_to_codec(net.codec)
    load_weights(net, folder_of_run / WEIGHTS_OF_RUN)
    facts = {
        "command": f"posekit ablate {ablation} --profile {profile} --record; then python -m "
        f"posekit.experiments.ablations.weights {ablation} {json.dumps(arm)} --seed {seed} --profile {profile}",
        "seed": str(seed),
        "row": row.digest,
        "metrics": json.dumps({name: row.metrics[name] for name in ("AP", "mean OKS", "PCK")}),
    }
    path = Path(folder) / f"{config['network']}.safetensors"
    save_weights(net, path, metadata=facts)
    if path.stat().st_size > LIMIT:
        path.unlink()
        raise LedgerError(f"{path.name} would be larger than {LIMIT // 1_000_000} MB; keep a smaller network")
    return path


def left_by(row: ledger.Row, runs: Path) -> Path | None:
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
    parser.add_argument("ablation", choices=tuple(ABLATIONS))
    parser.add_argument("arm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--runs", type=Path, default=RUNS)
    options = parser.parse_args(arguments)
    print(keep(options.ablation, options.arm, options.seed, profile=options.profile, runs=options.runs))


if __name__ == "__main__":
    main()
