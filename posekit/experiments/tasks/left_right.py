"""Controlled task: left and right of a figure, told by its face or its bib, against how far a network sees.

Mannequin's figures are symmetric but for the front: at level "face" only the head says whether a person faces the
camera, and so which ankle is the left one; at level "bib" the whole torso says it. A joint within the network's
receptive field of that cue can know its side; a joint further away can only guess. Tiny DPNs of one cost and one number
of weights, which differ in their dilations alone, are trained alike and asked about new people.

It differs from the study in the network, ``tiny_dpn`` of 111,457 weights instead of 63.6 k (with the same fields of 67,
107, 275 and 275 px), and in the people, who have at least 8 *labelled* joints instead of 8 visible ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from posekit import create_model, inference, training
from posekit.data import CropLoader, Mannequin
from posekit.metrics import lr_confusion
from posekit.metrics.diagnosis import LeftRightConfusion

SIZE = (96, 64)  # crop, px
LEAST_HEIGHT, LEAST_JOINTS = 60, 8  # of people who take part: box height in the picture, px; labelled keypoints
EDGES = np.arange(0, 80, 5)  # px of the crop
NOSE = 0
CUES = {"face": (NOSE,), "bib": (5, 6, 11, 12)}  # joints from which the distance to a level's cue is counted


@dataclass(frozen=True)
class Sides:
    """Who confused left and right, and how far each joint is from the nose.

    Attributes:
        confusion: of N people.
        distance: (N, 17) from each joint to the nearest joint of the cue (the nose, unless said otherwise), the larger
            of both axes, pixels of the 96x64 crop; infinite where none of them is labelled.
        yaw: (N,) radians, 0 facing the camera.
        mean_error: of all labelled joints, pixels of the crop.
    """

    confusion: LeftRightConfusion
    distance: np.ndarray
    yaw: np.ndarray
    mean_error: float

    @property
    def facing(self) -> np.ndarray:
        """(N,) bool: seen from the front or the back. From the side, which leg is which is a riddle of its own."""
        return np.abs(np.cos(self.yaw)) > np.cos(np.pi / 4)

    def counts(self, edges: np.ndarray = EDGES) -> tuple[np.ndarray, np.ndarray]:
        """Confused and judged joints of people seen from front or back, by distance: two (N, B) int64 arrays."""
        shape = len(self.distance), len(edges) - 1
        confused, judged = np.zeros((2, *shape), np.int64)
        inside = (self.distance >= edges[0]) & (self.distance < edges[-1])
        rows, joints = np.nonzero(self.confusion.eligible & self.facing[:, None] & inside)
        place = np.digitize(self.distance[rows, joints], edges) - 1
        np.add.at(judged, (rows, place), 1)
        np.add.at(confused, (rows, place), self.confusion.confused[rows, joints])
        return confused, judged


def people(split: str, *, scenes: int, level: str = "face", seed: int = 0) -> Mannequin:
    """The figures that take part; rendered on first use."""
    dataset = Mannequin(split, level=level, scenes=scenes, seed=seed)
    of = dataset.people
    enough = (of.box[:, 3] >= LEAST_HEIGHT) & ((of.visibility > 0).sum(1) >= LEAST_JOINTS)
    return dataset.with_people(of.select(enough)).trainable()


def train(dilations: Any, data: Mannequin, *, samples: int, seed: int, out_dir: str | None = None) -> Any:
    """A tiny DPN with the given dilations, trained on ``samples`` augmented crops.

    Args:
        dilations: as of ``create_model("tiny_dpn", dilations=...)``.
        data: of :func:`people`.
        samples: crops, people seen several times counted each time.
        seed: of weights, order and augmentation.
        out_dir: keeps the run's folder; None: a temporary one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = create_model("tiny_dpn", input_size=SIZE, dilations=dilations)
    with tempfile.TemporaryDirectory() as temporary, torch.enable_grad():
        recipe = training.quick_ce(samples)
        training.fit(net, data, None, recipe, out_dir=out_dir or temporary, seed=seed, device="cpu", progress=False)
    return net


def judge(net: Any, data: Mannequin, *, cue: Sequence[int] = (NOSE,)) -> Sides:
    """Ask a network, without the flip test, and look for confused sides.

    Args:
        net: a pose network.
        data: of :func:`people`.
        cue: joints from which :attr:`Sides.distance` is counted.
    """
    loader = CropLoader(data, net.input_size, batch_size=64)
    found = inference.predict(net, loader, flip_test=False, device="cpu", progress=False)
    batches = list(loader)
    truth = torch.cat([batch.keypoints for batch in batches]).double().numpy()
    of = data.people.select(found.person)
    labelled = of.visibility > 0
    # (N, 17, cue joints) -> (N, 17)
    apart = np.abs(truth[:, :, None] - truth[:, None, list(cue)]).max(-1)
    distance = np.where(labelled[:, None, list(cue)], apart, np.inf).min(-1)
    confusion = lr_confusion(
        found.keypoints, of.keypoints, visibility=of.visibility, box=of.box, skeleton=data.skeleton
    )
    error = np.linalg.norm(found.crop_keypoints - truth, axis=-1)[labelled].mean()
    return Sides(confusion, distance, data.yaw[found.person], float(error))


def difference(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], *, samples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Confused share of one network minus another's on the same people, with its 95 % interval.

    Args:
        first, second: confused and judged joints per person, (N, 1) each, of :meth:`Sides.counts` with one bin.
        samples: of the bootstrap over people.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(first[0]), np.full(len(first[0]), 1 / len(first[0])), samples)
    shares = [(draws @ confused / np.maximum(draws @ judged, 1))[:, 0] for confused, judged in (first, second)]
    low, high = np.quantile(shares[0] - shares[1], [0.025, 0.975])
    value = first[0].sum() / max(first[1].sum(), 1) - second[0].sum() / max(second[1].sum(), 1)
    return float(value), float(low), float(high)


def summary(sides: Mapping[str, Sides], *, half_field: float, near: float | None = None) -> dict[str, float]:
    """Flat numbers of some networks: confused share by view, by joint, and by distance from the cue.

    Args:
        sides: by the networks' names.
        half_field: px of the crop; joints from here on are "beyond the field".
        near: px of the crop; joints nearer are "within the field". None: ``half_field``.
    """
    metrics: dict[str, float] = {}
    for name, one in sides.items():
        views = {f"{view} view": rate for view, rate in one.confusion.by_view(one.yaw).items()}
        faced = LeftRightConfusion(
            one.confusion.skeleton,
            *(
                getattr(one.confusion, part) & one.facing[:, None]
                for part in ("eligible", "confused", "decided", "nearer_mirrored")
            ),
        )
        places = {"within the field": (0, half_field if near is None else near), "beyond the field": (half_field, 1000)}
        counts = {place: one.counts(np.array(edges)) for place, edges in places.items()}
        shares = {place: confused.sum() / max(judged.sum(), 1) for place, (confused, judged) in counts.items()}
        found = {**views, **faced.by_joint(), **shares}
        metrics |= {f"{key}, {name}": float(value) for key, value in found.items() if np.isfinite(value)}
        metrics[f"mean error, share of the crop, {name}"] = one.mean_error / SIZE[0]
    return metrics
