"""Regression or heatmap: what each loss makes of two right answers, and of few or many training pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from posekit import inference, training
from posekit.codecs import Coordinates, GaussianHeatmap
from posekit.course.parameters import Setup
from posekit.course.presence import person_present
from posekit.data import CropLoader, Mannequin
from posekit.experiments.tasks.two_modes import HeadNet, Outcome, TwoModes, codec_for, judge, make_pictures, recipe
from posekit.training import ArrayLoader
from posekit.viz import COLOURS, MUTED, draw_people, interval_lines

HEADS = {
    "regression_l2": "coordinates, squared error",
    "regression_l1": "coordinates, absolute error",
    "soft_argmax": "soft-argmax, absolute error",
    "heatmap_mse": "heatmap, squared error",
    "heatmap_ce": "heatmap, cross-entropy",
    "simcc": "SimCC",
}
DOTS = (24, 24)  # height and width of the pictures with two dots


# Two dots: one picture, two right answers


@dataclass(frozen=True)
class Trained:
    """A head after training on two dots.

    Attributes:
        points: (N, 2) answers on the test pictures, pixels.
        scores: (N,) the codec's confidence in them.
        outcome: where they lie.
    """

    points: np.ndarray
    scores: np.ndarray
    outcome: Outcome


def train_on_dots(
    heads: Sequence[str], *, steps: int, test_pictures: int, seed: int, upper: float = 0.5, device: str = "cpu"
) -> tuple[dict[str, Trained], TwoModes]:
    """Train heads on the same pictures of two equal dots, one of which is labelled, and test them on new ones.

    Args:
        heads: of :data:`HEADS`.
        steps: of 24 pictures, none seen twice.
        test_pictures: N.
        seed: of pictures, weights and order.
        upper: probability that the upper dot is the label.
        device: that trains.
    """
    train_rng, test_rng = np.random.default_rng([seed, 1]).spawn(2)
    train = make_pictures(24 * steps, upper=upper, rng=train_rng, size=DOTS)
    test = make_pictures(test_pictures, upper=upper, rng=test_rng, size=DOTS)
    settings = replace(recipe(steps), batch_size=24, samples=24 * steps)
    trained = {}
    for head in heads:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = HeadNet(codec_for(head, DOTS))
        loaders = train.loader(batch_size=24, seed=seed), test.loader(shuffle=False)
        found = _fit_and_predict(net, *loaders, settings, seed=seed, device=device)
        points = found.keypoints[:, 0]
        trained[head] = Trained(points, found.scores[:, 0], judge(points, test))
    return trained, test


def _fit_and_predict(
    net: Any, train: ArrayLoader, test: ArrayLoader, settings: training.Recipe, *, seed: int, device: str
) -> inference.Predictions:
    with tempfile.TemporaryDirectory() as folder:
        training.fit(net, train, None, settings, out_dir=folder, seed=seed, device=device, progress=False)
    return inference.predict(net, test, flip_test=False, device=device)


def outcome_table(trained: Mapping[str, Trained]) -> str:
    """Markdown: where each head's answers lie, and three errors."""
    titles = ("head", "on a dot", "midpoint", "ghost", "hits the label", "mean error, px", "RMS, px")
    rows = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, found in trained.items():
        o = found.outcome
        shares = " | ".join(f"{100 * share:.0f} %" for share in (o.on_blob, o.midpoint, o.ghost, o.hits_label))
        rows.append(f"| {HEADS[name]} | {shares} | {o.mean_error:.1f} | {o.rms_error:.1f} |")
    return "\n".join(rows)


def in_frame(points: np.ndarray, pictures: TwoModes) -> np.ndarray:
    """(N, 2) pixels -> (N, 2) in the frame of each picture's dots: the lower one at (-1, 0), the upper at (1, 0)."""
    upper, lower = (blob.numpy() for blob in pictures.blobs.unbind(1))
    along = (upper - lower) / 2
    across = np.stack([-along[:, 1], along[:, 0]], -1)
    offset = points - (upper + lower) / 2
    squared = (along**2).sum(-1)
    return np.stack([(offset * along).sum(-1), (offset * across).sum(-1)], -1) / squared[:, None]


def dots_figure(trained: Mapping[str, Trained], pictures: TwoModes) -> Any:
    """A test picture; then a panel per head: its answers in the frame of the two dots, and the circle of the ghosts."""
    import matplotlib.pyplot as plt

    columns = -(-len(trained) // 2)
    figure = plt.figure(figsize=(11.4, 4.9))
    parts: Any = figure.subfigures(1, 2, width_ratios=(1, columns * 1.05))
    left, right = parts
    ax = left.subplots()
    ax.imshow(pictures.images[0, 0], cmap="gray")
    ax.plot(*pictures.blobs[0].T, **_RINGS)
    ax.set(title="a test picture", xticks=[], yticks=[])
    turn = np.linspace(0, 2 * np.pi, 200)
    panels = right.subplots(2, columns, squeeze=False, sharex=True, sharey=True)
    for ax, (name, found) in zip(panels.flat, trained.items()):
        ax.plot(np.cos(turn), np.sin(turn), color=MUTED, linestyle=(0, (2, 2)), marker="", linewidth=1)
        ax.plot([-1, 1], [0, 0], **_RINGS)
        answers = in_frame(found.points, pictures)
        ax.plot(*answers.T, color=COLOURS["blue"], linestyle="", marker=".", markersize=4, alpha=0.35)
        ax.set(title=HEADS[name], xlim=(-1.7, 1.7), ylim=(-1.25, 1.25), aspect="equal", yticks=[])
        ax.set_xticks([-1, 0, 1], ["lower", "midpoint", "upper"])
        ax.grid(visible=False)
    return figure


_RINGS: dict[str, Any] = {
    "color": COLOURS["vermillion"],
    "linestyle": "",
    "marker": "o",
    "markersize": 15,
    "markerfacecolor": "none",
    "markeredgewidth": 2,
}


# Figures of people: how much data does a head need?


class FigureNet(nn.Module):
    """Five small convolutions over a 48x32 crop, and the head that the codec asks for.

    Args:
        codec: ``Coordinates``: two fully connected layers; ``GaussianHeatmap`` at stride 2: two deconvolutions.
        num_keypoints: K.
    """

    def __init__(self, codec: Coordinates | GaussianHeatmap, *, num_keypoints: int = 17):
        super().__init__()
        self.codec, self.input_size, self.num_keypoints = codec, codec.input_size, num_keypoints
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        if isinstance(codec, Coordinates):
            cells = self.input_size[0] // 8 * (self.input_size[1] // 8)
            out = (nn.Linear(128, 2 * num_keypoints), nn.Unflatten(1, (num_keypoints, 2)))  # (B, 2K) -> (B, K, 2)
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(48 * cells, 128), nn.ReLU(), *out)
        else:
            layers = []
            for inputs, outputs in ((48, 32), (32, 16)):
                up = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
                layers += [up, nn.BatchNorm2d(outputs), nn.ReLU()]
            self.head = nn.Sequential(*layers, nn.Conv2d(16, num_keypoints, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(images))


CROP = (48, 32)  # height and width of a crop, pixels
NEAR = 0.05 * CROP[0]  # px: how near an answer must be to count
CONTENDERS: dict[str, Any] = {
    "coordinates, absolute error": Coordinates(CROP, loss="l1"),
    "heatmap, cross-entropy": GaussianHeatmap(
        CROP, stride=2, sigma=1.0, centre="subpixel", decoder="dark", loss="cross_entropy"
    ),
}
MEASURES = {
    "mean error, px": lambda e: e.mean(),
    "RMS error, px": lambda e: np.sqrt((e**2).mean()),
    "within 5 % of the crop's height, %": lambda e: 100 * (e < NEAR).mean(),
}


def figure_crops(setup: Setup) -> tuple[ArrayLoader, ArrayLoader]:
    """Training and test crops of Mannequin's people at the level "bib", seen from the front, in memory."""
    loaders = []
    for split, smoke, quick in (("train", 40, 330), ("val", 8, 80)):
        dataset = Mannequin(
            split,
            level="bib",
            view="front",
            scenes=setup.pick(smoke=smoke, quick=quick),
            seed=setup.seed,
            progress=person_present(),
        )
        loaders.append(ArrayLoader.of(CropLoader(dataset.trainable(), CROP, batch_size=64), shuffle=False))
    return loaders[0], loaders[1]


def crops_picture(crops: ArrayLoader, *, count: int = 7, scale: int = 5) -> np.ndarray:
    """(H, W, 3) uint8: a row of crops with their labelled keypoints."""
    tiles = []
    for image, keypoints, visibility in zip(crops.images[:count], crops.keypoints, crops.visibility):
        tile = draw_people(
            image.permute(1, 2, 0).numpy(), keypoints.numpy(), visibility=visibility.numpy(), scale=scale
        )
        tiles += [tile, np.full((len(tile), 6, 3), 255, np.uint8)]
    return np.concatenate(tiles[:-1], axis=1)


def learning_curves(
    train: ArrayLoader,
    test: ArrayLoader,
    *,
    sizes: Sequence[int],
    seeds: Sequence[int],
    steps: int,
    batch: int = 30,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Train both contenders on ever more crops.

    Args:
        train: pool of crops; each seed draws its own from it, the same for both contenders.
        test: crops to be judged on, in fixed order; labelled joints count.
        sizes: X numbers of training crops, each at least ``batch``.
        seeds: R seeds of crops drawn, weights and order.
        steps: optimizer steps of every run, however few its crops.
        batch: crops a step.
        device: that trains.

    Returns:
        contender -> (R, X, 3), the :data:`MEASURES`.
    """
    labelled, truth = test.visibility.numpy() > 0, test.keypoints.numpy()
    settings = replace(recipe(steps), name="figures", lr=4e-3, batch_size=batch, samples=batch * steps)
    curves = {name: np.empty((len(seeds), len(sizes), len(MEASURES))) for name in CONTENDERS}
    for row, seed in enumerate(seeds):
        order = torch.from_numpy(np.random.default_rng([seed, 2]).permutation(len(train.images)))
        for column, size in enumerate(sizes):
            own = order[:size]
            arrays = (train.images[own], train.keypoints[own], train.visibility[own])
            for name, codec in CONTENDERS.items():
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    net = FigureNet(codec)
                loader = ArrayLoader(*arrays, batch_size=batch, seed=seed)
                found = _fit_and_predict(net, loader, test, settings, seed=seed, device=device)
                errors = np.linalg.norm(found.keypoints - truth, axis=-1)[labelled]
                curves[name][row, column] = [measure(errors) for measure in MEASURES.values()]
    return curves


def curves_figure(curves: Mapping[str, np.ndarray], sizes: Sequence[int]) -> Any:
    """Headline figure: each measure against the number of training crops, mean over seeds with its 95 % interval."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(MEASURES), figsize=(11.0, 3.9))
    for i, (ax, measure) in enumerate(zip(axes, MEASURES)):
        interval_lines(sizes, {name: runs[..., i] for name, runs in curves.items()}, ax=ax)
        ax.get_legend().remove()
        ax.set(xscale="log", xlabel="training crops", title=measure)
        ax.set_ylim(bottom=0)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def paired_table(curves: Mapping[str, np.ndarray], sizes: Sequence[int]) -> str:
    """Markdown: heatmap minus coordinates, same seed and crops, mean with its 95 % t interval."""
    from scipy.stats import t

    coordinates, heatmap = curves.values()
    difference = heatmap - coordinates
    half = t.ppf(0.975, max(len(difference) - 1, 1)) * difference.std(axis=0, ddof=1) / len(difference) ** 0.5
    rows = []
    for column, size in enumerate(sizes):
        cells = [f"{m:+.2f} ± {h:.2f}" for m, h in zip(difference.mean(axis=0)[column], half[column])]
        rows.append(f"| {size} | {' | '.join(cells)} |")
    head = f"| training crops | {' | '.join(MEASURES)} |\n|---|---|---|---|"
    return "\n".join([head, *rows])
