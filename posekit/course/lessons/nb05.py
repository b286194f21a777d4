"""Quantization and decoding: how coarse a heatmap is, how decoders read between its cells, what the flip test moves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from posekit import training
from posekit.analysis import flip_bias, quantization_bound, quantization_error
from posekit.annotations import People
from posekit.codecs import GaussianHeatmap, IntegralHeatmap, SimCC
from posekit.course.parameters import Setup
from posekit.course.presence import person_present
from posekit.experiments.ground_truth import score
from posekit.experiments.tasks.two_modes import make_pictures, recipe
from posekit.geometry import flip_heatmaps
from posekit.viz import COLOURS, INK, MUTED

BETA = 20.0  # sharpness at which the soft-argmax reads a map with peak 1
READERS = ("argmax", "quarter, rounded target", "quarter", "soft-argmax", "DARK", "UDP + DARK")


def reader_error(
    reader: str, stride: int, *, noise: float = 0.0, samples: int = 4096, seed: int = 0, beta: float = BETA
) -> float:
    """Mean distance in pixels between keypoints and what a reader makes of their ideal, or noisy, maps.

    Args:
        reader: one of :data:`READERS`. All see sub-pixel targets but "quarter, rounded target".
        stride: pixels per cell.
        noise: standard deviation added to every cell, as a share of the peak.
        samples, seed: of the keypoints, which lie anywhere in one cell in the middle of a 24x24 map.
        beta: of the soft-argmax.
    """
    plain: dict[str, Any] = {
        "argmax": {"decoder": "argmax"},
        "quarter": {"decoder": "quarter"},
        "quarter, rounded target": {"decoder": "quarter", "centre": "rounded"},
        "DARK": {"decoder": "dark"},
    }
    if reader in plain:
        return quantization_error(stride, noise=noise, samples=samples, seed=seed, **plain[reader]).mean
    size = (24 * stride, 24 * stride)
    protocol: Any = {"soft-argmax": "hrnet", "UDP + DARK": "udp"}[reader]
    codec = GaussianHeatmap(size, stride=stride, centre="subpixel", protocol=protocol, decoder="dark")
    generator = torch.Generator().manual_seed(seed)
    keypoints = (12 + torch.rand(1, samples, 2, generator=generator) - 0.5) * stride
    maps, _ = codec.encode(keypoints, torch.ones(1, samples))
    if noise:
        maps += noise * torch.randn(maps.shape, generator=generator)
    read = IntegralHeatmap(size, stride=stride, beta=beta) if reader == "soft-argmax" else codec
    return float((read.decode(maps)[0] - keypoints).norm(dim=-1).mean())


def simcc_error(split: float, *, samples: int = 4096, seed: int = 0) -> float:
    """Mean distance in pixels between keypoints and what SimCC reads from their ideal labels, 1/split pixels a bin."""
    codec = SimCC((64, 64), split=split)
    keypoints = 24 + 16 * torch.rand(1, samples, 2, generator=torch.Generator().manual_seed(seed))
    (x, y), _ = codec.encode(keypoints, torch.ones(1, samples))
    return float((codec.decode((x.log(), y.log()))[0] - keypoints).norm(dim=-1).mean())


def error_figure(strides: Sequence[int], noises: Sequence[float], *, samples: int, seed: int) -> Any:
    """Headline figure: error against stride with the closed-form bounds, and against noise at stride 4."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4))
    right.set_prop_cycle(plt.rcParams["axes.prop_cycle"])
    for reader in READERS:
        left.plot(strides, [reader_error(reader, s, samples=samples, seed=seed) for s in strides], label=reader)
        at_4 = [reader_error(reader, 4, noise=n, samples=samples, seed=seed) for n in noises]
        right.plot(noises, at_4, label=reader)
    for decoder, words in (("argmax", "0.3826 s"), ("quarter", "0.3826 s / 2")):
        bound = [quantization_bound(s, decoder) for s in strides]  # type: ignore[arg-type]
        left.plot(strides, bound, color=INK, linestyle="-", marker="", linewidth=7, alpha=0.17, zorder=0)
        above = decoder == "argmax"
        left.annotate(words, (strides[1], bound[1]), (-4, 7) if above else (6, -13), textcoords="offset points",
                      ha="right" if above else "left", color=MUTED, fontsize=9)  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="stride s, px per cell", ylabel="mean error, px",
             title="Ideal maps; grey: closed form")  # fmt: skip
    left.set_xticks(strides, [str(s) for s in strides])
    left.minorticks_off()
    right.set(xlabel="noise on every cell, share of the peak", ylabel="mean error, px", title="Noisy maps, stride 4")
    right.set_ylim(bottom=0)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


class MapNet(nn.Module):
    """Five small convolutions from a grey picture to one heatmap at a quarter of its size.

    Args:
        codec: with stride 4; it trains and decodes the network.
    """

    def __init__(self, codec: GaussianHeatmap):
        super().__init__()
        self.codec, self.input_size, self.num_keypoints = codec, codec.input_size, 1
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((1, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1)):
            conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(32, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


@dataclass(frozen=True)
class Trained:
    """A trained network's maps for new pictures, and its errors under each decoder.

    Attributes:
        maps: (N, h, w) predictions.
        truth: (N, 2) keypoints, pixels, x then y.
        errors: decoder -> (N,) distances in pixels.
    """

    maps: np.ndarray
    truth: np.ndarray
    errors: Mapping[str, np.ndarray]

    def gain(self, better: str, worse: str) -> tuple[float, float, float]:
        """By how much one decoder's mean error is smaller than another's, pixels, with its paired 95 % interval."""
        difference = self.errors[worse] - self.errors[better]
        half = 1.96 * float(difference.std(ddof=1)) / len(difference) ** 0.5
        mean = float(difference.mean())
        return mean, mean - half, mean + half


def train_and_decode(centre: str, *, steps: int, test_pictures: int, seed: int) -> Trained:
    """Train :class:`MapNet` to find a blurred dot in noise, and read its maps with three decoders.

    Args:
        centre: of the targets, "rounded" or "subpixel".
        steps: of 32 new 64x64 pictures.
        test_pictures: N.
        seed: of pictures, weights and order.
    """
    codec = GaussianHeatmap((64, 64), stride=4, sigma=1.0, centre=centre, decoder="argmax")  # type: ignore[arg-type]
    train_rng, test_rng = np.random.default_rng([seed, 5]).spawn(2)
    options: dict[str, Any] = {"upper": 0.5, "size": codec.input_size, "distance": 0.0}
    train = make_pictures(32 * steps, rng=train_rng, **options)
    test = make_pictures(test_pictures, rng=test_rng, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MapNet(codec)
    with tempfile.TemporaryDirectory() as folder:
        loader = train.loader(batch_size=32, seed=seed)
        training.fit(net, loader, None, recipe(steps), out_dir=folder, seed=seed, device="cpu")
    net.eval()
    with torch.inference_mode():
        maps = torch.cat([net(part) for part in test.images.split(250)])
    errors = {}
    for decoder in ("argmax", "quarter", "dark"):
        read = replace(codec, decoder=decoder, blur_kernel=5).decode(maps)[0]
        errors[decoder] = (read - test.labels).norm(dim=-1)[:, 0].numpy()
    return Trained(maps[:, 0].numpy(), test.labels[:, 0].numpy(), errors)


def flip_peaks(stride: int, shift: int, *, position: float, width: int = 64) -> dict[str, np.ndarray]:
    """One row of the flip test: ideal maps of a keypoint, of its mirror image turned back, and their average.

    Args:
        stride: pixels per cell.
        shift: cells by which the map that was turned back is moved right.
        position: of the keypoint, pixels.
        width: of the picture, pixels.
    """
    codec = GaussianHeatmap((8 * stride, width), stride=stride, sigma=1.0, centre="subpixel", window=None)
    y = 4.0 * stride
    points = torch.tensor([[[position, y]], [[width - 1 - position, y]]])
    maps, _ = codec.encode(points, torch.ones(2, 1))
    back = flip_heatmaps(maps[1:], torch.tensor([0]), shift=shift)
    rows = {"picture": maps[0, 0, 4], "mirrored, turned back": back[0, 0, 4]}
    rows["average"] = (rows["picture"] + rows["mirrored, turned back"]) / 2
    return {name: row.numpy() for name, row in rows.items()}


def flip_figure(stride: int = 4, shifts: Iterable[int] = (0, 1, 2), *, position: float = 30.0) -> Any:
    """The averaged row for each shift, with the true position and the bias."""
    import matplotlib.pyplot as plt

    shifts = list(shifts)
    figure, axes = plt.subplots(1, len(shifts), figsize=(10.5, 3.3), sharey=True)
    for ax, shift in zip(axes, shifts):
        rows = flip_peaks(stride, shift, position=position)
        for name, row in rows.items():
            ax.plot(np.arange(len(row)) * stride, row, label=name, linewidth=2.6 if name == "average" else 1.6)
        ax.axvline(position, color=INK, linestyle="-", marker="", linewidth=1)
        bias = flip_bias(stride, shift)
        ax.set(title=f"shift {shift}: truth {bias:+.1f} px from the average", xlabel="cell i drawn at s i, px",
               xlim=(position - 5 * stride, position + 5 * stride), ylim=(0, 1.08))  # fmt: skip
    axes[0].set_ylabel("height")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def ceilings(people: People, strides: Sequence[int], *, size: tuple[int, int]) -> dict[str, list[float]]:
    """AP (0 to 100) of ground truth sent through each decoder: reader name -> one number per stride."""
    table: dict[str, list[float]] = {}
    for decoder in ("argmax", "quarter", "dark"):
        codecs = [GaussianHeatmap(size, stride=s, centre="subpixel", decoder=decoder) for s in strides]  # type: ignore[arg-type]
        table["DARK" if decoder == "dark" else decoder] = [100 * score(people, codec).ap for codec in codecs]
    return table


def ceiling_figure(tables: Mapping[tuple[int, int], Mapping[str, Sequence[float]]], strides: Sequence[int]) -> Any:
    """AP ceilings against stride, one panel per crop size."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(tables), figsize=(4.6 * len(tables), 3.9), sharey=True, squeeze=False)
    # As in the headline figure.
    looks: dict[str, Any] = {
        "argmax": {"color": COLOURS["blue"], "linestyle": "-", "marker": "o"},
        "quarter": {"color": COLOURS["green"], "linestyle": (0, (1, 1.2)), "marker": "^"},
        "DARK": {"color": COLOURS["sky"], "linestyle": (0, (6, 2)), "marker": "v"},
    }
    for ax, (size, table) in zip(axes[0], tables.items()):
        for reader, ap in table.items():
            ax.plot(strides, ap, label=reader, **looks[reader])
        ax.set(xscale="log", xlabel="stride, px per cell", title=f"crops of {size[0]}x{size[1]} px", ylim=(0, 104))
        ax.set_xticks(strides, [str(s) for s in strides])
        ax.minorticks_off()
    axes[0, 0].set_ylabel("AP of a perfect network")
    axes[0, 0].legend(loc="lower left")
    return figure


def published_gaps() -> dict[str, float]:
    """AP that post-processing adds on COCO by SRPose's own table: mean over the top-down rows of each head."""
    from posekit.experiments import claims, published_rows

    claim = next(claim for claim in claims() if claim.id == "S02")
    gaps: dict[str, list[float]] = {}
    for row in published_rows(claim):
        if row["ap_nopost"]:
            gaps.setdefault(row["scheme"], []).append(float(row["ap_post"]) - float(row["ap_nopost"]))
    return {scheme: float(np.mean(values)) for scheme, values in gaps.items()}


def dataset_people(setup: Setup) -> People:
    """The people of the ceiling: Mannequin's test scenes at level "face", fewer at smoke."""
    from posekit.data import Mannequin

    return Mannequin("test", level="face", scenes=setup.pick(smoke=8, quick=120), progress=person_present()).people
