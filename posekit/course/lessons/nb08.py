"""Resolution and input size: a ruler made coarser, a picture made coarser, and a trained network that meets both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import posekit
from posekit import inference, metrics
from posekit.annotations import People
from posekit.codecs import GaussianHeatmap
from posekit.course.parameters import Setup
from posekit.course.presence import person_present
from posekit.data import CropLoader, Mannequin
from posekit.data.images import read_image, warp
from posekit.experiments.ground_truth import decode_ground_truth
from posekit.geometry import BOX_PADDING, crop_affine, crop_box, invert_affine, transform_points
from posekit.viz import COLOURS, INK, MUTED

Size = tuple[int, int]
DECODERS = ("argmax", "quarter", "DARK")


def cells_on_person(size: Size, stride: float) -> float:
    """Height in heatmap cells of a person who fills a crop of (height, width) pixels but for the usual margin."""
    return size[0] / BOX_PADDING / stride


def dataset(setup: Setup) -> Mannequin:
    """Mannequin's test scenes at level "face" that the lesson measures on, fewer at smoke."""
    return Mannequin("test", level="face", scenes=setup.pick(smoke=8, quick=120), progress=person_present())


@dataclass(frozen=True)
class Cut:
    """Labelled people cut out at one input size.

    Attributes:
        people: N of them.
        size: (height, width) of the crops, pixels.
        affine: (N, 2, 3) picture -> crop.
        keypoints: (N, K, 2) true joints, crop pixels.
    """

    people: People
    size: Size
    affine: torch.Tensor
    keypoints: np.ndarray

    def oks(self, answers: np.ndarray) -> float:
        """Mean OKS of answers (N, K, 2) in crop pixels."""
        back = transform_points(invert_affine(self.affine), torch.from_numpy(answers)).numpy()
        return float(metrics.person_oks(self.people, back).mean())

    def distances(self, answers: np.ndarray) -> np.ndarray:
        """(J,) distances in crop pixels of the labelled joints."""
        return np.linalg.norm(answers - self.keypoints, axis=-1)[self.people.visibility > 0]


def cut(people: People, size: Size) -> Cut:
    """Every person with labelled joints, cut out as for training."""
    people = people.select((people.visibility > 0).any(1) & ~people.is_crowd)
    affine = torch.from_numpy(crop_affine(crop_box(people.box, size), size))
    return Cut(people, size, affine, transform_points(affine, torch.from_numpy(people.keypoints)).numpy())


def read(points: np.ndarray, stride: float, decoder: str = "argmax") -> np.ndarray:
    """What a decoder makes of perfect maps of points, away from the map's border, in the points' own pixels.

    Args:
        points: (..., 2) pixels.
        stride: pixels per cell; any positive number, since no map is drawn.
        decoder: one of :data:`DECODERS`.
    """
    if decoder == "DARK":
        return points.copy()
    cell = np.floor(points / stride + 0.5)
    if decoder == "quarter":
        cell += 0.25 * np.sign(points / stride - cell)
    return cell * stride


def ceiling(people: People, size: Size, stride: int, decoder: str = "argmax") -> tuple[float, float]:
    """Mean OKS and AP (0 to 100) of a perfect network: true joints through the package's encoder and decoder."""
    codec = GaussianHeatmap(size, stride=stride, centre="subpixel", decoder=decoder.lower())  # type: ignore[arg-type]
    decoded = decode_ground_truth(people, codec)
    result = metrics.evaluate_coco(decoded.people, decoded.detections)
    return float(metrics.person_oks(decoded.people, decoded.detections.keypoints).mean()), 100 * result.ap


# One trained network, four combinations -------------------------------------------------------------------------------


class Shrunk(nn.Module):
    """A network whose crops lose detail before it sees them: averaged over squares, then enlarged again.

    Args:
        network: with ``codec``.
        factor: side of the squares, pixels; 1 leaves the crop alone.
    """

    def __init__(self, network: Any, factor: int):
        super().__init__()
        self.network, self.factor, self.codec = network, factor, network.codec

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.factor > 1:
            small = F.avg_pool2d(images, self.factor)
            images = F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return self.network(images)


def trained(size: Size | None = None) -> Any:
    """The small SimpleBaseline that was trained on Mannequin at (96, 64), read with DARK.

    Args:
        size: of the crops that it is given; None is the size it knows.
    """
    net = posekit.create_model("tiny_simple_baseline", input_size=(96, 64), weights="mannequin")
    net.codec = replace(net.codec, input_size=size or net.codec.input_size, decoder="dark")
    return net.eval()


def answers(network: Any, data: Mannequin, *, picture: int = 1) -> tuple[Cut, np.ndarray]:
    """True joints and a network's answers in crop pixels, without the flip test.

    Args:
        network: with ``codec``; crops have its input size.
        data: whose people are cut out.
        picture: factor by which the crops are made coarser.
    """
    size = network.codec.input_size
    loader = CropLoader(data.trainable(), size, batch_size=64)
    found = inference.predict(Shrunk(network, picture), loader, flip_test=False, device="cpu")
    people = data.trainable().people.select(found.person)
    affine = torch.from_numpy(crop_affine(crop_box(people.box, size), size))
    truth = transform_points(affine, torch.from_numpy(people.keypoints)).numpy()
    return Cut(people, size, affine, truth), found.crop_keypoints


def two_causes(data: Mannequin, factors: Sequence[int], *, stride: int = 4) -> dict[str, list[float]]:
    """Mean OKS of the trained network when its ruler, its picture or both are made coarser; and of a perfect network.

    Args:
        data: whose people are cut out.
        factors: 1 first; the ruler has ``stride`` times factor pixels per cell, read by the highest cell.
        stride: of the finest ruler, pixels.
    """
    network = trained()
    looks = {factor: answers(network, data, picture=factor) for factor in factors}
    whole, sharp = looks[1]
    return {
        "perfect, coarser ruler": [whole.oks(read(whole.keypoints, stride * f)) for f in factors],
        "trained, coarser ruler": [whole.oks(read(sharp, stride * f)) for f in factors],
        "trained, coarser picture": [one.oks(read(found, stride)) for one, found in looks.values()],
        "trained, both": [one.oks(read(found, stride * f)) for f, (one, found) in looks.items()],
    }


def two_causes_figure(table: Mapping[str, Sequence[float]], factors: Sequence[int]) -> Any:
    """Mean OKS against the factor, a line for each of :func:`two_causes`."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.6, 4.2))
    looks = {"perfect": (INK, ":"), "ruler": (COLOURS["blue"], "-"), "picture": (COLOURS["vermillion"], "--")}
    for (name, values), marker in zip(table.items(), "Dos^"):
        key = next((key for key in looks if key in name), "")
        colour, dash = looks.get(key, (COLOURS["purple"], "-."))
        ax.plot(factors, values, color=colour, linestyle=dash, marker=marker, label=name)
    ax.set(xscale="log", xlabel="made coarser by a factor of", ylabel="mean OKS", ylim=(0, 1.02))
    ax.set_xticks(factors, [str(f) for f in factors])
    ax.minorticks_off()
    ax.legend(loc="lower left")
    return figure


def found_joints(one: Cut, found: np.ndarray, *, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Joints that were found: true and answered positions (J, 2), within a share of the longer side of the box."""
    scale = np.linalg.norm(one.affine[:, 0, :2].numpy(), axis=-1)
    reach = share * scale * one.people.box[:, 2:].max(1)
    near = np.linalg.norm(found - one.keypoints, axis=-1) < reach[:, None]
    kept = near & (one.people.visibility > 0)
    return one.keypoints[kept], found[kept]


def rms(truth: np.ndarray, found: np.ndarray) -> float:
    """Root of the mean squared distance of points (J, 2)."""
    return float(np.sqrt(((found - truth) ** 2).sum(-1).mean()))


# Widget ---------------------------------------------------------------------------------------------------------------


def explorer(data: Mannequin) -> Any:
    """The widget's drawing function, measured on the people of a dataset; one of them is shown."""
    picture, person = _example(data)

    def draw(height: int, stride: int, decoder: str, own: float) -> Any:
        return draw_setting(data.people, picture, person, height, stride, decoder, own)

    return draw


def _example(data: Mannequin) -> tuple[np.ndarray, People]:
    """A picture and somebody in it: the tallest with all joints seen and, if there is one, a crop in the picture."""
    people = data.people
    crop = crop_box(people.box, (256, 192))
    height, width = people.image_sizes[people.image_index].T
    inside = (crop[:, :2] >= 0).all(1) & (crop[:, 0] + crop[:, 2] <= width) & (crop[:, 1] + crop[:, 3] <= height)
    seen = (people.visibility == 2).all(1)
    chosen = int(np.lexsort((people.box[:, 3], inside, seen))[-1])
    return read_image(data.image_path(int(people.image_index[chosen]))), people.select(np.array([chosen]))


def with_own_error(one: Cut, percent: float, *, seed: int = 0) -> np.ndarray:
    """True joints moved as a network with errors of its own would: normal, in percent of the person's height."""
    deviation = percent / 100 * one.size[0] / BOX_PADDING
    return one.keypoints + deviation * np.random.default_rng(seed).standard_normal(one.keypoints.shape)


def draw_setting(
    people: People, picture: np.ndarray, person: People, height: int, stride: int, decoder: str, own: float
) -> Any:
    """One setting: a crop with its pixels, cells and answers, and mean OKS against cells on the person.

    Args:
        people: that OKS is measured on.
        picture, person: who is drawn.
        height: of the crop, pixels; three quarters of it wide.
        stride: pixels per cell.
        decoder: one of :data:`DECODERS`.
        own: the network's own error, percent of the person's height in x and in y (standard deviation).
    """
    import matplotlib.pyplot as plt

    size = (height, 3 * height // 4)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.6, 5.0), width_ratios=(1, 1.45))
    _draw_crop(left, picture, cut(person, size), stride, decoder, own)
    one = cut(people, size)
    moved = with_own_error(one, own)
    cells = np.geomspace(3, 400, 60)
    strides = cells_on_person(size, 1) / cells
    perfect = [one.oks(anywhere(one.keypoints, s, decoder)) for s in strides]
    right.plot(cells, perfect, color=COLOURS["blue"], marker="", label="ceiling: a perfect network")
    if own > 0:
        both = [one.oks(anywhere(moved, s, decoder)) for s in strides]
        right.plot(cells, both, color=COLOURS["vermillion"], linestyle="--", marker="", label="with its own error")
        right.axhline(one.oks(moved), color=MUTED, linestyle=":", label="its own error, perfect ruler")
    answer = anywhere(moved, stride, decoder)
    oks, mean = one.oks(answer), float(one.distances(answer).mean())
    right.plot([cells_on_person(size, stride)], [oks], "o", color=INK, markersize=9, label="this setting")
    right.set(xscale="log", xlim=(3, 400), ylim=(0, 1.02), xlabel="cells on the person, top to bottom",
              ylabel="mean OKS", title=f"mean error {mean:.2f} px, {100 * mean / cells_on_person(size, 1):.2f} % "
              f"of the person's height; mean OKS {oks:.3f}")  # fmt: skip
    ticks = [4, 8, 16, 32, 64, 128, 256]
    right.set_xticks(ticks, [str(t) for t in ticks])
    right.minorticks_off()
    right.legend(loc="lower right")
    return figure


def anywhere(points: np.ndarray, stride: float, decoder: str = "argmax", *, seed: int = 0) -> np.ndarray:
    """As :func:`read` with the cells of each person (N, K, 2), or each point (J, 2), begun at a random place.

    Crops are centred on their people, so that heads and feet would fall on the same part of a cell in all of them and
    the mean would rise and fall in waves with the stride.
    """
    start = stride * np.random.default_rng(seed).random((len(points), *(1,) * (points.ndim - 2), 2))
    return read(points + start, stride, decoder) - start


def _draw_crop(ax: Any, picture: np.ndarray, one: Cut, stride: int, decoder: str, own: float) -> None:
    size = one.size
    crop = np.empty((*size, 3), np.uint8)
    warp(picture, one.affine[0].numpy(), crop)
    ax.imshow(crop)
    if size[0] / stride <= 40:  # closer lines would hide the picture
        grid: dict[str, Any] = {"colors": "white", "linewidth": 0.6, "alpha": 0.55, "linestyles": "-"}
        ax.vlines(np.arange(0.5, size[1] / stride) * stride, -0.5, size[0] - 0.5, **grid)
        ax.hlines(np.arange(0.5, size[0] / stride) * stride, -0.5, size[1] - 0.5, **grid)
    answer = read(with_own_error(one, own), stride, decoder)[0]
    for (x, y), (u, v) in zip(one.keypoints[0], answer):
        ax.plot([x, u], [y, v], color="#ffe14d", linestyle="-", marker="", linewidth=1.6)
    ax.plot(*one.keypoints[0].T, "+", color="white", markersize=8, markeredgewidth=1.8)
    ax.plot(*answer.T, "o", color="#ffe14d", markersize=6, markerfacecolor="none", markeredgewidth=1.8)
    ax.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5), xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.set_title(f"{size[0]}x{size[1]} px, {size[0] // stride}x{size[1] // stride} cells")
    ax.set_xlabel("cross: joint; ring: answer")
