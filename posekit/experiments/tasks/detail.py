"""Controlled tasks: how exactly a place is told by networks that see equally far, with and without subsampling.

*Detail kept*: three identical blobs and a cross; the blob near the cross is the answer. Which one it is takes a
receptive field of 31 pixels, which every network here has in its four 3x3 layers (N layers of stride 2 see as far as N
dilated ones); where it is takes detail. *Crowded detail*: many blobs, and every one near the cross is an answer, so
that a narrow low-resolution bottleneck has to carry many places at once.

*Crowded detail* was first recorded with the answers' pixels weighted tenfold and heads that begin at even odds. It was
redefined because some of those networks never left the empty map, not because of what they said: now the loss is
plain, as in the study, and a head begins at the answers' share of the pixels. What is left of differences from the
study is that start, and thresholds that are chosen among more and on other pictures than those of the score.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SIZE = 64  # px, both sides of the picture
BLOB_SIGMA = 0.8  # px
NEAR, CLEAR, APART = (6.0, 12.0), 18.0, 8.0  # px: the answer from the cross, the others from it, any two blobs
NOISE, CROWD_NOISE = 0.1, 0.05
CROWD_APART, CROWD_ROUNDS = 3.0, 8  # px between blobs of a crowd, as far as so many rounds of redrawing bring it
TARGET_SIGMA, COARSE_SIGMA, CROWD_SIGMA = 1.5, 5.0, 1.0  # px
MATCH = 1.0  # px: how near an answer of a crowd must be
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
BATCH = 16


@dataclass(frozen=True)
class Blobs:
    """Pictures of the tasks.

    Attributes:
        images: (N, 2, 64, 64) float32: blobs, then the cross.
        blobs: (N, K, 2) float64 centres in pixels, x then y.
        answer: (N, K) bool.
    """

    images: torch.Tensor
    blobs: np.ndarray
    answer: np.ndarray

    @property
    def target(self) -> np.ndarray:
        """(N, 2) the one answer of each picture."""
        return self.blobs[self.answer]


def make_isolated(count: int, *, rng: np.random.Generator) -> Blobs:
    """*Detail kept*: one of three blobs lies 6 to 12 px from the cross, the others more than 18."""
    low, high = 3.0, SIZE - 4.0
    cross, blobs = np.zeros((count, 2), np.int64), np.zeros((count, 3, 2))
    todo = np.arange(count)
    while todo.size:
        n = todo.size
        at = rng.integers(4, SIZE - 4, (n, 2))
        radius, angle = rng.uniform(*NEAR, n), rng.uniform(0, 2 * np.pi, n)
        drawn = rng.uniform(low, high, (n, 3, 2))
        drawn[:, 0] = at + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        inside = ((drawn >= low) & (drawn <= high)).all((1, 2))
        clear = (np.linalg.norm(drawn[:, 1:] - at[:, None], axis=-1) > CLEAR).all(1)
        pairs = np.stack([np.linalg.norm(drawn[:, a] - drawn[:, b], axis=-1) for a, b in ((0, 1), (0, 2), (1, 2))])
        good = inside & clear & (pairs > APART).all(0)
        cross[todo[good]], blobs[todo[good]] = at[good], drawn[good]
        todo = todo[~good]
    answer = np.zeros((count, 3), bool)
    answer[:, 0] = True
    return Blobs(_draw(cross, blobs, NOISE, rng), blobs, answer)


def make_crowd(count: int, blobs: int, *, rng: np.random.Generator) -> Blobs:
    """*Crowded detail*: so many blobs a picture; all within 12 px of the cross are answers."""
    cross = rng.integers(12, SIZE - 12, (count, 2))
    centres = rng.uniform(3, SIZE - 4, (count, blobs, 2))
    for _ in range(CROWD_ROUNDS):
        x, y = centres[..., 0].astype(np.float32), centres[..., 1].astype(np.float32)
        apart = (x[:, :, None] - x[:, None]) ** 2 + (y[:, :, None] - y[:, None]) ** 2
        # A blob moves when an earlier one is too near.
        crowded = (np.tril(apart < CROWD_APART**2, -1)).any(-1)
        centres[crowded] = rng.uniform(3, SIZE - 4, (int(crowded.sum()), 2))
    answer = np.linalg.norm(centres - cross[:, None], axis=-1) <= NEAR[1]
    return Blobs(_draw(cross, centres, CROWD_NOISE, rng), centres, answer)


def _draw(cross: np.ndarray, blobs: np.ndarray, noise: float, rng: np.random.Generator) -> torch.Tensor:
    count = len(cross)
    images = rng.standard_normal((count, 2, SIZE, SIZE), dtype=np.float32) * np.float32(noise)
    images[:, 0] += gaussians(blobs, np.ones(blobs.shape[:2], bool), BLOB_SIGMA)
    rows = np.arange(count)
    for step in range(-2, 3):
        images[rows, 1, cross[:, 1] + step, cross[:, 0]] += 1
        if step:
            images[rows, 1, cross[:, 1], cross[:, 0] + step] += 1
    return torch.from_numpy(images)


def gaussians(centres: np.ndarray, shown: np.ndarray, sigma: float, stride: int = 1) -> np.ndarray:
    """Gaussians of height 1 around the ``shown`` (N, K) centres, added up, at most 1: (N, h, w) float32."""
    cells = ((np.arange(SIZE // stride) + 0.5) * stride - 0.5).astype(np.float32)
    # (N, K, W) and (N, K, H): a Gaussian is a product of its two profiles.
    across, down = (np.exp(-0.5 * ((cells - centres[..., [i]].astype(np.float32)) / sigma) ** 2) for i in (0, 1))
    return np.minimum((down * shown[..., None]).swapaxes(1, 2) @ across, 1)


def _layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _deconv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class DilatedNet(nn.Module):
    """Four 3x3 layers of dilation 8, 4, 2, 1 at full resolution: (B, 2, 64, 64) -> (B, 1, 64, 64)."""

    stride = 1

    def __init__(self, channels: int = 12):
        super().__init__()
        widths = (2, *[channels] * 4)
        self.body = nn.Sequential(*(_layer(a, b, dilation=d) for a, b, d in zip(widths, widths[1:], (8, 4, 2, 1))))
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


class StridedNet(nn.Module):
    """Four 3x3 layers of stride 2, 2, 2, 1, then a way back: (B, 2, 64, 64) -> (B, 1, 64 / stride, 64 / stride).

    Args:
        channels: of the four layers.
        back: "none" (the map is read at stride 8), "bilinear" (of the logits), "deconvs" (three, the last of half the
            width) or "laterals" (deconvs to which 1x1 convolutions add the features of each size on the way down, and a
            3x3 one the picture).
    """

    def __init__(self, channels: int, back: str = "none"):
        super().__init__()
        self.back, self.stride = back, 8 if back == "none" else 1
        widths = (2, *[channels] * 4)
        self.down = nn.ModuleList(_layer(a, b, stride=s) for a, b, s in zip(widths, widths[1:], (2, 2, 2, 1)))
        ups = (channels, channels, channels, channels // 2) if back in ("deconvs", "laterals") else (channels,)
        self.up = nn.ModuleList(_deconv(a, b) for a, b in itertools.pairwise(ups))
        self.lateral = nn.ModuleList()
        if back == "laterals":
            self.lateral.extend(nn.Conv2d(channels, channels, 1) for _ in range(2))
            self.lateral.append(nn.Conv2d(2, ups[-1], 3, padding=1))
        self.head = nn.Conv2d(ups[-1], 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        sizes, features = [images], images
        for layer in self.down:
            features = layer(features)
            sizes.append(features)
        beside = (sizes[2], sizes[1], sizes[0])
        for n, layer in enumerate(self.up):
            features = layer(features)
            if self.lateral:
                features = features + self.lateral[n](beside[n])
        logits = self.head(features)
        if self.back == "bilinear":
            logits = F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=False)
        return logits


NETS: dict[str, Callable[[], nn.Module]] = {
    "dilated": lambda: DilatedNet(12),
    "strided": lambda: StridedNet(40),
    "bilinear": lambda: StridedNet(40, "bilinear"),
    "deconvs": lambda: StridedNet(20, "deconvs"),
    "deconvs, twice as wide": lambda: StridedNet(40, "deconvs"),
    "laterals": lambda: StridedNet(20, "laterals"),
}


def train(name: str, *, seed: int, steps: int = 500, crowd: int | None = None) -> nn.Module:
    """Train one of :data:`NETS` with AdamW (3e-3, one cycle) on batches of 16 new pictures.

    Args:
        name: of the network.
        seed: of pictures and first weights.
        steps: of the optimizer; no picture is seen twice.
        crowd: blobs of a picture of *crowded detail* (logistic loss at every pixel, all alike; the head begins at
            :func:`answer_share`); None: *detail kept* (cross-entropy between the map's softmax and a Gaussian around
            the answer).

    Raises:
        ValueError: no such network.
    """
    if name not in NETS:
        raise ValueError(f"unknown network {name!r}; the task compares {', '.join(NETS)}")
    rng = np.random.default_rng([seed, 0])
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        net = NETS[name]()
        if crowd is not None:
            _start_at(net, answer_share(crowd))
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        for _ in range(steps):
            loss = _isolated_loss(net, rng) if crowd is None else _crowd_loss(net, crowd, rng)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def _isolated_loss(net: nn.Module, rng: np.random.Generator) -> torch.Tensor:
    batch = make_isolated(BATCH, rng=rng)
    sigma = COARSE_SIGMA if net.stride == 8 else TARGET_SIGMA
    target = torch.from_numpy(gaussians(batch.blobs, batch.answer, sigma, int(net.stride))).flatten(1)  # type: ignore[arg-type]
    return F.cross_entropy(net(batch.images).flatten(1), target / target.sum(1, keepdim=True))


def _crowd_loss(net: nn.Module, crowd: int, rng: np.random.Generator) -> torch.Tensor:
    batch = make_crowd(BATCH, crowd, rng=rng)
    target = torch.from_numpy(gaussians(batch.blobs, batch.answer, CROWD_SIGMA))
    return F.binary_cross_entropy_with_logits(net(batch.images)[:, 0], target)


def answer_share(crowd: int) -> float:
    """Mean of the target maps of *crowded detail* with so many blobs a picture, overlaps and the rim left aside."""
    answers = crowd * math.pi * NEAR[1] ** 2 / (SIZE - 7) ** 2  # blobs lie anywhere but for 3 px at each side
    return answers * 2 * math.pi * CROWD_SIGMA**2 / SIZE**2


def _start_at(net: nn.Module, share: float) -> None:
    """Let the head say ``share`` everywhere at first, as detectors with a focal loss do.

    Answers fill so few pixels that a head which begins at even odds spends most of a short training on the empty map.
    """
    nn.init.constant_(net.head.bias, math.log(share / (1 - share)))  # type: ignore[union-attr, arg-type]


@dataclass(frozen=True)
class Placed:
    """How exactly a network tells where the answer is.

    Attributes:
        plain: (N,) px from the answer to the centre of the map's highest cell.
        refined: (N,) px from the answer to the centroid of the softmax around that cell.
        right: share of pictures whose refined place is nearer to the answer than to another blob.
    """

    plain: np.ndarray
    refined: np.ndarray
    right: float


def place(net: nn.Module, *, pictures: int = 1000, seed: int) -> Placed:
    """Ask a network about new pictures of *detail kept*.

    Args:
        net: one of :data:`NETS`, trained.
        pictures: how many.
        seed: of the pictures, apart from those of :func:`train`.
    """
    rng = np.random.default_rng([seed, 1])
    plain, refined, right = [], [], []
    with torch.inference_mode():
        for start in range(0, pictures, 250):
            batch = make_isolated(min(250, pictures - start), rng=rng)
            coarse, fine = read(net(batch.images)[:, 0].numpy(), stride=int(net.stride))  # type: ignore[arg-type]
            plain.append(np.linalg.norm(coarse - batch.target, axis=-1))
            refined.append(np.linalg.norm(fine - batch.target, axis=-1))
            nearest = np.linalg.norm(fine[:, None] - batch.blobs, axis=-1).argmin(1)
            right.append(batch.answer[np.arange(len(fine)), nearest])
    return Placed(np.concatenate(plain), np.concatenate(refined), float(np.concatenate(right).mean()))


def read(logits: np.ndarray, *, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the highest cell of each map, and of the softmax's centroid in a window around it.

    Args:
        logits: (N, h, w).
        stride: pixels a cell.

    Returns:
        Two (N, 2) float64 arrays, x then y.
    """
    count, _, width = logits.shape
    sigma = COARSE_SIGMA if stride == 8 else TARGET_SIGMA
    reach = int(np.ceil(2 * sigma / stride))
    best = logits.reshape(count, -1).argmax(1)
    top = np.stack([best % width, best // width], -1)
    steps = np.arange(-reach, reach + 1)
    padded = np.pad(logits.astype(np.float64), ((0, 0), (reach, reach), (reach, reach)), constant_values=-np.inf)
    rows, columns = (top[:, axis, None] + steps + reach for axis in (1, 0))
    window = padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]  # (N, 2 reach + 1, same)
    share = np.exp(window - window.max((1, 2), keepdims=True))
    share /= share.sum((1, 2), keepdims=True)
    offset = np.stack([(share.sum(1) * steps).sum(1), (share.sum(2) * steps).sum(1)], -1)
    coarse, fine = ((cell + 0.5) * stride - 0.5 for cell in (top, top + offset))
    return coarse, fine


@dataclass(frozen=True)
class Told:
    """What a network tells about pictures of *crowded detail*.

    Attributes:
        found: (N,) places told in each picture.
        matched: (N,) of them, those within 1 px of an answer, one for each answer.
        answers: (N,) answers there are.
        threshold: that a place had to exceed.
    """

    found: np.ndarray
    matched: np.ndarray
    answers: np.ndarray
    threshold: float

    @property
    def f1(self) -> float:
        """Of all pictures together."""
        return float(self.f1_of(np.arange(len(self.found))))

    def f1_of(self, chosen: np.ndarray) -> np.ndarray:
        """F1 of each row of picture indices (..., N)."""
        told = (self.found + self.answers)[chosen].sum(-1)
        return 2 * self.matched[chosen].sum(-1) / np.maximum(told, 1)


def tell(net: nn.Module, crowd: int, *, pictures: int = 300, seed: int) -> Told:
    """Ask a network about new pictures of *crowded detail*: peaks above a threshold, matched one to one within 1 px.

    The threshold is the one of :data:`THRESHOLDS` with the best F1 on a third as many other pictures.

    Args:
        net: one of :data:`NETS`, trained on crowds.
        crowd: blobs of a picture.
        pictures: how many.
        seed: of the pictures, apart from those of :func:`train`; every network gets the same.
    """
    rng = np.random.default_rng([seed, 1])
    choose, test = (make_crowd(count, crowd, rng=rng) for count in (pictures // 3, pictures))
    best = max(THRESHOLDS, key=lambda threshold: _told(net, choose, threshold).f1)
    return _told(net, test, best)


def _told(net: nn.Module, pictures: Blobs, threshold: float) -> Told:
    with torch.inference_mode():
        heat = torch.cat([net(images) for images in pictures.images.split(100)]).sigmoid()
        peaks = (heat == F.max_pool2d(heat, 3, 1, padding=1)) & (heat > threshold)
    found, matched = np.zeros((2, len(heat)), np.int64)
    for n, one in enumerate(peaks[:, 0].numpy()):
        guesses = np.argwhere(one)[:, ::-1]
        order = np.argsort(-heat[n, 0].numpy()[one])
        found[n] = len(guesses)
        matched[n] = match_count(guesses[order], pictures.blobs[n][pictures.answer[n]])
    return Told(found, matched, pictures.answer.sum(1), threshold)


def match_count(guesses: np.ndarray, answers: np.ndarray) -> int:
    """How many answers (A, 2) are met within 1 px by guesses (G, 2), best guess first, each answer once."""
    free = np.ones(len(answers), bool)
    for guess in guesses:
        apart = np.where(free, np.linalg.norm(answers - guess, axis=-1), np.inf)
        if apart.size and apart.min() <= MATCH:
            free[apart.argmin()] = False
    return int((~free).sum())
