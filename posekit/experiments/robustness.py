"""How a shipped network bears what makes a picture hard: one knob of Mannequin at a time, all others as in training.

No claim of the sources speaks of it, so the table stands beside the ledger, in ``data/runs/robustness.json``.

    python -m posekit.experiments.robustness
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from posekit import create_model, inference, metrics
from posekit.data import Mannequin
from posekit.data.mannequin.difficulty import LEVELS
from posekit.experiments import environment
from posekit.training.provenance import write_json

NETWORK, LEVEL = "tiny_simple_baseline", "face"  # of the weights that the package ships
TABLE = environment.DATA / "runs" / "robustness.json"
KNOBS: dict[str, tuple[Any, ...]] = {
    "cue": ("bib", "face", "natural"),
    "view": ("front", "balanced"),
    "poses": ("calm", "all"),
    "pose_spread": (0.0, 0.5, 1.0),
    "people": (1, 2, 3, 5),
    "occlusion": (0.0, 0.35, 0.7, 1.0),
    "clothing": (0.0, 0.5, 1.0),
    "illumination": (0.0, 0.6, 1.0),
    "noise": (0.0, 2.5, 10.0, 25.0),
    "blur": (0.0, 0.6, 1.5, 3.0),
    "clutter": (0.0, 0.8, 1.0),
    "size_range": ((0.2, 0.4), (0.45, 0.95), (0.9, 1.2)),
}


@dataclass(frozen=True)
class Point:
    """One value of one knob.

    Attributes:
        knob, value: field of :class:`posekit.data.mannequin.difficulty.Difficulty`.
        people: that were scored.
        ap, low, high: COCO AP in percent with true boxes and its 95 % bootstrap interval over pictures.
        mean_oks: percent.
        confusion: of left and right, percent.
    """

    knob: str
    value: Any
    people: int
    ap: float
    low: float
    high: float
    mean_oks: float
    confusion: float

    @property
    def usual(self) -> bool:
        """Whether this is the value that the network was trained with."""
        usual = getattr(LEVELS[LEVEL], self.knob)
        return self.value == (list(usual) if isinstance(usual, tuple) else usual)


def measure(net: Any, knob: str, value: Any, *, scenes: int, root: Path | None = None) -> Point:
    """Score a network on fresh test scenes with one knob turned.

    Args:
        net: with ``codec`` and ``input_size``.
        knob, value: see ``KNOBS``.
        scenes: pictures of the test split.
        root: of Mannequin's caches.
    """
    knobs = replace(LEVELS[LEVEL], **{knob: value})
    found = inference.evaluate(net, Mannequin("test", level=knobs, scenes=scenes, root=root), device="cpu")
    assert found.people is not None and found.mean_oks is not None and found.confusion is not None
    interval = metrics.bootstrap_ap(found.result, samples=500, seed=0)
    plain = list(value) if isinstance(value, tuple) else value
    numbers = (found.ap, interval.low, interval.high, found.mean_oks, found.confusion.rate)
    return Point(knob, plain, len(found.people), *(round(100 * float(number), 2) for number in numbers))


def read(path: Path = TABLE) -> tuple[dict[str, list[Point]], dict[str, Any]]:
    """Points by knob, and how they were made; empty where there is no table yet."""
    if not path.is_file():
        return {}, {}
    table = json.loads(path.read_text(encoding="utf-8"))
    points = [Point(**point) for point in table.pop("points")]
    return {knob: [point for point in points if point.knob == knob] for knob in KNOBS}, table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every knob and write the table."""
    parser = argparse.ArgumentParser(description="Robustness of the shipped network, one knob at a time.")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    net = create_model(NETWORK, weights="mannequin")
    points = []
    for knob, values in KNOBS.items():
        for value in values:
            points.append(measure(net, knob, value, scenes=options.scenes))
            print(points[-1], flush=True)
    facts = {
        "network": NETWORK,
        "level": LEVEL,
        "scenes": options.scenes,
        "commit": environment.commit(),
        "versions": environment.versions(("opencv-python-headless",)),
        "command": f"python -m posekit.experiments.robustness --scenes {options.scenes}",
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {**facts, "points": [asdict(point) for point in points]})


if __name__ == "__main__":
    main()
