"""Pictures that nobody picked: random people of each kind by a fixed seed, and the worst without artefacts.

The kinds are what makes a person hard: seen from front, side or back; partly hidden; with others in the picture; and
pictures with artefacts (strong noise and blur).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posekit import inference, metrics
from posekit.data import Mannequin, read_image
from posekit.data.mannequin.difficulty import LEVELS

NOISE, BLUR = 14.0, 1.5  # of pictures with artefacts
HIDDEN = 5  # labelled keypoints out of sight that make a person "partly hidden"
WORST = "worst"


@dataclass(frozen=True)
class Case:
    """One person with the network's answer.

    Attributes:
        kind: of :func:`cases`.
        picture: (H, W, 3) uint8.
        keypoints: (K, 2) predicted, picture pixels.
        truth: (K, 2) labelled.
        visibility: (K,) of the labels.
        box: (4,) xywh.
        oks: of this prediction.
    """

    kind: str
    picture: np.ndarray
    keypoints: np.ndarray
    truth: np.ndarray
    visibility: np.ndarray
    box: np.ndarray
    oks: float


def cases(
    net: Any,
    *,
    level: str = "face",
    scenes: int = 120,
    each: int = 5,
    seed: int = 0,
    root: Path | None = None,
    progress: bool = True,
) -> dict[str, list[Case]]:
    """Random cases of every kind and the worst of the pictures without artefacts, by kind.

    Args:
        net: with ``codec`` and ``input_size``.
        level: of Mannequin's test split; "artefacts" are the same scenes under noise and blur.
        scenes: pictures looked at.
        each: cases a kind, drawn without replacement by ``seed``; fewer where there are fewer.
        seed: of the draw.
        root: of Mannequin's caches.
        progress: show a bar while scenes are rendered.
    """
    rough = replace(LEVELS[level], noise=NOISE, blur=BLUR)
    clean, harsh = (
        _answers(net, Mannequin("test", level=one, scenes=scenes, root=root, progress=progress))
        for one in (level, rough)
    )
    rng = np.random.default_rng(seed)
    drawn = {}
    for kind, (answers, rows) in _kinds(clean, harsh).items():
        chosen = rng.permutation(rows)[:each]
        drawn[kind] = [_case(kind, answers, row) for row in chosen]
    drawn[WORST] = [_case(WORST, clean, row) for row in np.argsort(clean["oks"], kind="stable")[:each]]
    return drawn


def _answers(net: Any, data: Mannequin) -> dict[str, Any]:
    found = inference.evaluate(net, data, device="cpu")
    people = found.people
    assert people is not None
    return {
        "data": data,
        "people": people,
        "keypoints": found.predictions.keypoints,
        "oks": metrics.person_oks(people, found.predictions.keypoints),
        "yaw": found.yaw,
    }


def _kinds(clean: Mapping[str, Any], harsh: Mapping[str, Any]) -> dict[str, tuple[Mapping[str, Any], np.ndarray]]:
    people, facing = clean["people"], np.cos(clean["yaw"])
    hidden = (people.visibility == 1).sum(1) >= HIDDEN
    crowd = np.bincount(people.image_index)[people.image_index] > 1
    edge = np.cos(np.pi / 4)
    return {
        "front": (clean, np.flatnonzero(facing > edge)),
        "side": (clean, np.flatnonzero(np.abs(facing) <= edge)),
        "back": (clean, np.flatnonzero(facing < -edge)),
        "partly hidden": (clean, np.flatnonzero(hidden)),
        "several people": (clean, np.flatnonzero(crowd)),
        "artefacts": (harsh, np.arange(len(harsh["people"]))),
    }


def _case(kind: str, answers: Mapping[str, Any], row: int) -> Case:
    people, data = answers["people"], answers["data"]
    return Case(
        kind=kind,
        picture=read_image(data.image_path(int(people.image_index[row]))),
        keypoints=answers["keypoints"][row],
        truth=people.keypoints[row],
        visibility=people.visibility[row],
        box=people.box[row],
        oks=float(answers["oks"][row]),
    )
