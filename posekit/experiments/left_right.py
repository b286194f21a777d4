"""Are left and right learned, and what is learned instead: confusion by view of one small network on six training sets.

Figures are symmetric but for their front. Where front and back are equally frequent, a network has to find the cue
that tells them apart; where most people face the camera, it can do well without: "the left hand is on the right of the
picture". Every arm trains the same network with the same recipe on one cue level and one mix of views, and is asked
about new people of the same level seen equally often from front and back. No claim of the slides speaks of this, so
the results are kept as a table of their own, ``data/runs/left_right_views.json``, and not in the ledger.

    python -m posekit.experiments.left_right --arms face/balanced natural/front --seeds 0
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from posekit import create_model, inference, training
from posekit.data import Mannequin
from posekit.experiments import environment
from posekit.experiments.ledger import LedgerError
from posekit.files import whole

NETWORK = "tiny_simple_baseline"
ARMS = tuple(f"{level}/{view}" for level in ("bib", "face", "natural") for view in ("balanced", "front"))
PROFILES: dict[str, dict[str, int]] = {
    "smoke": {"train_scenes": 24, "val_scenes": 16, "samples": 240},
    "quick": {"train_scenes": 3000, "val_scenes": 500, "samples": 48_000},
}
TABLE = environment.DATA / "runs" / "left_right_views.json"
LEARNED = 0.08  # confused share of joints seen from the back
SHORTCUT = 3.0  # times as many confused on backs as on fronts


@dataclass(frozen=True)
class ViewRun:
    """One trained network, asked about people in balanced views.

    ``metrics`` are shares of one: mean_oks, AP, confusion by view ("confusion_back") and, among predictions near one
    of the two joints, by joint ("knee"). ``seconds`` are processor seconds of the training.
    """

    arm: str
    profile: str
    seed: int
    config: Mapping[str, int]
    people: int
    metrics: Mapping[str, float]
    seconds: float
    commit: str
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]

    @property
    def learned(self) -> bool:
        """Left and right are told apart from the front and from the back."""
        return max(self.metrics["confusion_back"], self.metrics["confusion_front"]) <= LEARNED

    @property
    def shortcut(self) -> bool:
        """The network takes everybody to face the camera: far more confusion on backs than on fronts."""
        return self.metrics["confusion_back"] > SHORTCUT * self.metrics["confusion_front"]


def run_arm(arm: str, *, profile: str = "quick", seed: int = 0, root: str | None = None) -> ViewRun:
    """Train and ask one arm.

    Args:
        arm: one of ``ARMS``, "level/view of the training set".
        profile: "smoke" or "quick".
        seed: of weights, order and augmentation; the scenes are those of Mannequin's seed 0.
        root: folder of Mannequin's caches, as of :class:`posekit.data.Mannequin`.

    Raises:
        ValueError: an unknown arm or profile.
    """
    if arm not in ARMS or profile not in PROFILES:
        raise ValueError(f"no arm '{arm}' of profile '{profile}'; arms are {', '.join(ARMS)}, profiles smoke and quick")
    level, view = arm.split("/")
    config = PROFILES[profile]
    train = Mannequin("train", level=level, view=view, scenes=config["train_scenes"], root=root)  # type: ignore[arg-type]
    val = Mannequin("val", level=level, view="balanced", scenes=config["val_scenes"], root=root)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = create_model(NETWORK)
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        start = time.process_time()
        recipe = training.quick_ce(config["samples"])
        training.fit(net, train.trainable(), None, recipe, out_dir=folder, seed=seed, device="cpu", progress=False)
        seconds = time.process_time() - start
    found = inference.evaluate(net, val, device="cpu")
    assert found.people is not None and found.confusion is not None
    numbers = {**found.summary(), **found.confusion.by_joint()}
    kept = ("AP", "mean_oks", "confusion", *(k for k in numbers if k.startswith("confusion_")))
    kept += tuple(found.confusion.by_joint())
    return ViewRun(
        arm=arm,
        profile=profile,
        seed=seed,
        config=dict(config),
        people=len(found.people),
        metrics={name: round(float(numbers[name]), 4) for name in kept if math.isfinite(numbers[name])},
        seconds=round(seconds, 1),
        commit=_commit(),
        versions=environment.versions(("opencv-python-headless",)),
        hardware=environment.hardware(),
    )


def read_table(path: str | Path = TABLE) -> list[ViewRun]:
    """All runs of the table, in the order of ``ARMS``; none where there is no table yet."""
    path = Path(path)
    runs = [ViewRun(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []
    return sorted(runs, key=lambda run: (run.profile, ARMS.index(run.arm), run.seed))


def keep(run: ViewRun, path: str | Path = TABLE) -> None:
    """Put a run into the table, in place of an earlier one of the same arm, profile and seed."""
    path = Path(path)
    rest = [old for old in read_table(path) if (old.arm, old.profile, old.seed) != (run.arm, run.profile, run.seed)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_text(json.dumps([asdict(one) for one in (*rest, run)], indent=1) + "\n", encoding="utf-8")


def format_runs(runs: Sequence[ViewRun]) -> str:
    """A plain-text table, percent."""
    columns = ("mean_oks", "AP", "confusion_front", "confusion_side", "confusion_back")
    lines = [f"{'arm':18}{'seed':>5}{'samples':>9}{'core-s':>8}{'mOKS':>7}{'AP':>7}{'front':>7}{'side':>7}{'back':>7}"]
    for run in runs:
        numbers = "".join(f"{100 * run.metrics[name]:7.1f}" for name in columns)
        lines.append(f"{run.arm:18}{run.seed:5}{run.config['samples']:9}{run.seconds:8.0f}{numbers}")
    return "\n".join(lines)


def _commit() -> str:
    try:
        return environment.commit()
    except LedgerError:
        return "none"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run arms one after the other, keep each in the table and print it."""
    parser = argparse.ArgumentParser(description="Confusion of left and right by view.")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--profile", choices=tuple(PROFILES), default="quick")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for arm in options.arms:
        for seed in options.seeds:
            run = run_arm(arm, profile=options.profile, seed=seed)
            if options.profile != "smoke":
                keep(run)
            print(format_runs([run]), flush=True)


if __name__ == "__main__":
    main()
