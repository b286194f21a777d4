"""Controlled task: a picture with two right answers, and what each kind of head makes of it.

Two identical blobs; the label is the upper one with probability p, else the lower. Nothing in the picture tells which,
so the best possible output is a property of the loss alone: squared error wants the mean of the two (a point where
nothing is), absolute error their median (with p = 0.5 anything between the two, so seeds differ), a heatmap keeps both
and its maximum picks one, and two independent axes can pick the x of one and the y of the other ("ghost"). Left and
right of a person seen from behind is the same situation.

It differs from the study in that only p = 0.5 is run as a test; the study had p = 0.7 too.

:class:`HeadNet` and :data:`HEADS` are of use for any small pictures with keypoints; notebook 01 trains them on figures.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from posekit import inference, training
from posekit.codecs import Coordinates, GaussianHeatmap, IntegralHeatmap, SimCC

BLOB_SIGMA = 1.5  # px
LEAST_DISTANCE = 10.0  # px between the two blobs
NOISE = 0.1
HIT = 2.0  # px: how near counts as "on" a point
GHOST_OFFSET = 4.0  # px on both axes, so that a ghost lies clear of both blobs


@dataclass(frozen=True)
class TwoModes:
    """Pictures of the task.

    Attributes:
        images: (N, 1, H, W) float32.
        blobs: (N, 2, 2) float32 centres in pixels, x then y; the upper blob first.
        labels: (N, 1, 2) float32, the blob that counts as right.
    """

    images: torch.Tensor
    blobs: torch.Tensor
    labels: torch.Tensor

    def loader(self, **options: Any) -> training.ArrayLoader:
        """The pictures as a loader; ``options`` as of :class:`posekit.training.ArrayLoader`."""
        return training.ArrayLoader(self.images, self.labels, **options)


def make_pictures(
    count: int,
    *,
    upper: float,
    rng: np.random.Generator,
    size: tuple[int, int] = (32, 32),
    distance: float | None = None,
) -> TwoModes:
    """Draw the task.

    Args:
        count: pictures.
        upper: probability that the upper blob is the label.
        rng: source of all chance.
        size: (height, width), pixels.
        distance: between the blobs, px; None: anything from 10 up. 0 gives a single blob, the control in which every
            head should do well.
    """
    height, width = size
    margin = 2 * BLOB_SIGMA
    low, high = np.array([margin, margin]), np.array([width - 1 - margin, height - 1 - margin])
    blobs = rng.uniform(low, high, (count, 2, 2))
    todo = np.arange(count)
    while todo.size:
        first = rng.uniform(low, high, (todo.size, 2))
        if distance is None:
            second = rng.uniform(low, high, (todo.size, 2))
            good = np.linalg.norm(first - second, axis=-1) >= LEAST_DISTANCE
        else:
            angle = rng.uniform(0, 2 * np.pi, todo.size)
            second = first + distance * np.stack([np.cos(angle), np.sin(angle)], -1)
            good = ((second >= low) & (second <= high)).all(-1)
        blobs[todo] = np.stack([first, second], 1)
        todo = todo[~good]
    order = np.argsort(blobs[..., 1], axis=1)
    blobs = np.take_along_axis(blobs, order[..., None], axis=1)
    # (N, 2, W) and (N, 2, H): a Gaussian is a product of its two profiles.
    across = np.exp(-0.5 * ((np.arange(width) - blobs[..., :1]) / BLOB_SIGMA) ** 2)
    down = np.exp(-0.5 * ((np.arange(height) - blobs[..., 1:]) / BLOB_SIGMA) ** 2)
    images = (down[..., :, None] * across[..., None, :]).max(1) + rng.normal(0, NOISE, (count, height, width))
    chosen = (rng.random(count) >= upper).astype(np.int64)
    labels = blobs[np.arange(count), chosen][:, None]
    return TwoModes(*(torch.from_numpy(array.astype(np.float32)) for array in (images[:, None], blobs, labels)))


class HeadNet(nn.Module):
    """A small encoder (seven 3x3 convolutions to a quarter of the size) under one of four kinds of head.

    Args:
        codec: decides the head: ``Coordinates`` and ``SimCC`` read the flattened features, ``GaussianHeatmap`` and
            ``IntegralHeatmap`` (at stride 1) two transposed convolutions.
        num_keypoints: K.
        channels: of the picture.
    """

    def __init__(self, codec: Any, *, num_keypoints: int = 1, channels: int = 1):
        super().__init__()
        self.codec, self.input_size, self.num_keypoints = codec, codec.input_size, num_keypoints
        height, width = self.input_size
        widths, strides = (channels, 24, 24, 24, 48, 48, 48, 48), (1, 1, 2, 1, 2, 1, 1)
        self.encoder = nn.Sequential(*(_conv(a, b, s) for a, b, s in zip(widths, widths[1:], strides)))
        if isinstance(codec, Coordinates | SimCC):
            outputs = 2 if isinstance(codec, Coordinates) else sum(codec.bins)
            self.head = nn.Sequential(
                nn.Flatten(),
                nn.Linear(48 * (height // 4) * (width // 4), 128),
                nn.ReLU(),
                nn.Linear(128, num_keypoints * outputs),
            )
        else:
            self.head = nn.Sequential(_deconv(48, 24), _deconv(24, 24), nn.Conv2d(24, num_keypoints, 1))

    def forward(self, images: torch.Tensor) -> Any:
        output = self.head(self.encoder(images))
        if output.ndim == 4:
            return output
        output = output.unflatten(1, (self.num_keypoints, -1))  # (B, K * n) -> (B, K, n)
        return output if isinstance(self.codec, Coordinates) else output.split(self.codec.bins, dim=-1)


def _conv(inputs: int, outputs: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _deconv(inputs: int, outputs: int) -> nn.Module:
    conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def codec_for(head: str, size: tuple[int, int] = (32, 32)) -> Any:
    """The codec of a head by its name in :data:`HEADS`; heatmaps are at stride 1 with the blobs' own width."""
    maps: dict[str, Any] = {"stride": 1, "sigma": BLOB_SIGMA, "centre": "subpixel", "decoder": "dark"}
    builders: dict[str, Any] = {
        "regression_l2": lambda: Coordinates(size, loss="l2"),
        "regression_l1": lambda: Coordinates(size, loss="l1"),
        "soft_argmax": lambda: IntegralHeatmap(size, stride=1, loss_kind="l1"),
        "heatmap_mse": lambda: GaussianHeatmap(size, loss="mse", **maps),
        "heatmap_ce": lambda: GaussianHeatmap(size, loss="cross_entropy", **maps),
        "simcc": lambda: SimCC(size, split=2.0, sigma=2 * BLOB_SIGMA),
    }
    if head not in builders:
        raise ValueError(f"unknown head {head!r}; the task compares {', '.join(HEADS)}")
    return builders[head]()


HEADS = ("regression_l2", "regression_l1", "soft_argmax", "heatmap_mse", "heatmap_ce", "simcc")


@dataclass(frozen=True)
class Outcome:
    """Where predictions land, as shares of the test pictures within 2 px, and their error.

    Attributes:
        on_blob: on either blob.
        midpoint: halfway between the blobs.
        ghost: at the x of one blob and the y of the other, among pictures whose blobs differ by 4 px on both axes.
        hits_label: on the blob that is the label.
        on_upper: on the upper blob.
        mean_error: to the label, px.
        rms_error: to the label, px.
    """

    on_blob: float
    midpoint: float
    ghost: float
    hits_label: float
    on_upper: float
    mean_error: float
    rms_error: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def judge(points: np.ndarray, pictures: TwoModes) -> Outcome:
    """Classify predicted ``points`` (N, 2), pixels, x then y."""
    blobs, labels = pictures.blobs.numpy(), pictures.labels.numpy()[:, 0]

    def near(target: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points - target, axis=-1) <= HIT

    upper, lower = blobs[:, 0], blobs[:, 1]
    crossed = near(np.stack([upper[:, 0], lower[:, 1]], -1)) | near(np.stack([lower[:, 0], upper[:, 1]], -1))
    clear = (np.abs(upper - lower) > GHOST_OFFSET).all(-1)
    error = np.linalg.norm(points - labels, axis=-1)
    return Outcome(
        on_blob=float((near(upper) | near(lower)).mean()),
        midpoint=float(near((upper + lower) / 2).mean()),
        ghost=float(crossed[clear].mean()) if clear.any() else 0.0,
        hits_label=float(near(labels).mean()),
        on_upper=float(near(upper).mean()),
        mean_error=float(error.mean()),
        rms_error=float(np.sqrt((error**2).mean())),
    )


def recipe(steps: int = 400) -> training.Recipe:
    """AdamW 2e-3 on one cycle, batches of 32 new pictures, the frozen configuration of the task."""
    return training.Recipe(
        name="two_modes", optimizer="adamw", lr=2e-3, weight_decay=1e-2, batch_size=32, samples=32 * steps, clip=1.0
    )


def run(
    head: str,
    *,
    seed: int,
    upper: float = 0.5,
    distance: float | None = None,
    steps: int = 400,
    test_pictures: int = 2000,
    out_dir: str | None = None,
) -> tuple[Outcome, HeadNet]:
    """Train one head and judge it on new pictures.

    Args:
        head: one of :data:`HEADS`.
        seed: of the pictures, the first weights and the order.
        upper: probability that the upper blob is the label.
        distance: between the blobs, px; None: anything from 10 up; 0: the control.
        steps: optimizer steps of 32 pictures, none seen twice.
        out_dir: keeps the run's folder; None: a temporary one.
    """
    train_rng, test_rng = np.random.default_rng([seed, 0]).spawn(2)
    settings = {"upper": upper, "distance": distance}
    train = make_pictures(32 * steps, rng=train_rng, **settings)  # type: ignore[arg-type]
    test = make_pictures(test_pictures, rng=test_rng, **settings)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = HeadNet(codec_for(head))
    with tempfile.TemporaryDirectory() as temporary:
        loader = train.loader(batch_size=32, seed=seed)
        training.fit(net, loader, None, recipe(steps), out_dir=out_dir or temporary, seed=seed, device="cpu")
    test_loader = test.loader(batch_size=250, shuffle=False)
    found = inference.predict(net, test_loader, flip_test=False, device="cpu")
    return judge(found.keypoints[:, 0], test), net
