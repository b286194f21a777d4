"""SR head and SRPose: finer maps from the same features, what they save, and what they cost."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit import create_model, metrics, training
from posekit.analysis import shapes_only
from posekit.codecs import GaussianHeatmap
from posekit.course.parameters import Setup
from posekit.course.presence import person_present
from posekit.data import CropLoader, Mannequin
from posekit.experiments.ablations import ABLATIONS, paired
from posekit.experiments.ablations.reading import recorded_arms, recorded_comparison
from posekit.experiments.ablations.scoring import variants
from posekit.experiments.costs import network_costs, read_table
from posekit.geometry import invert_affine, transform_points
from posekit.inference.runtime import to_input
from posekit.training import ArrayLoader, recipes
from posekit.viz import COLOURS, INK, MUTED, forest

Head = Literal["interpolation", "transposed convolutions", "SR head"]
HEADS: tuple[Head, ...] = ("interpolation", "transposed convolutions", "SR head")
FACTORS = (1, 2, 4, 8)
FEATURES = (64, 48)  # cells (height, width) of the features of a 256x192 crop, 4 px each
K = 17
DECODERS = ("argmax", "quarter", "dark")
READER = {"argmax": "highest cell", "quarter": "quarter offset", "dark": "DARK"}

# Reading an enlarged map


# Lengths are counted in half pixels here, so that also a map of two cells a pixel has a whole stride.
_CELLS, _CELL = 12, 8


def enlarge(maps: Tensor, factor: int) -> Tensor:
    """Bilinear interpolation: (B, K, h, w) -> (B, K, factor h, factor w), new cells inside old ones."""
    return F.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)


def draw_maps(head: Head, factor: int, points: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Maps that a perfect head of this kind would give, and the doubt of its features.

    Interpolation enlarges the coarse Gaussian; a head that learns gives the fine one. All have the same features, so
    they share their noise: it is drawn on the coarse cells and enlarged.

    Args:
        points: (1, N, 2) half pixels, on 12x12 coarse cells of 8 half pixels.
        noise: its standard deviation on a coarse cell, as a share of the peak.
    """
    rough = noise * torch.randn((1, points.shape[1], _CELLS, _CELLS), generator=generator)
    fine = 1 if head == "interpolation" else factor
    maps, _ = _codec(fine).encode(points, torch.ones(points.shape[:2]))
    return enlarge(maps + rough, factor) if fine == 1 else maps + enlarge(rough, factor)


def read_maps(head: Head, factor: int, maps: Tensor, decoder: str) -> Tensor:
    """(1, N, 2) positions in half pixels; the middle of an interpolated cell is not where a fine target has it."""
    read = _codec(factor, decoder).decode(maps)[0]
    # Cell j of an enlarged map is coarse cell (j + 1/2) / factor - 1/2.
    return read + (_CELL / factor - _CELL) / 2 if head == "interpolation" else read


def _codec(factor: int, decoder: str = "argmax") -> GaussianHeatmap:
    # The Gaussian stays as wide in pixels: 2 coarse cells, 8 px; DARK's smoothing grows with it.
    return GaussianHeatmap(
        (_CELLS * _CELL, _CELLS * _CELL), stride=_CELL // factor, sigma=2.0 * factor, centre="subpixel", window=None,
        decoder=decoder, blur_kernel=10 * factor + 1,
    )  # type: ignore[arg-type]  # fmt: skip


@cache
def reading_error(
    head: Head, factor: int, decoder: str = "argmax", *, noise: float = 0.0, samples: int = 300, seed: int = 0
) -> float:
    """Mean distance, pixels of a 256x192 crop, between joints and what is read from maps enlarged ``factor`` times."""
    generator = torch.Generator().manual_seed(seed)
    points = (_CELLS // 2 + torch.rand(1, samples, 2, generator=generator) - 0.5) * _CELL
    maps = draw_maps(head, factor, points, noise, generator)
    return float((read_maps(head, factor, maps, decoder) - points).norm(dim=-1).mean()) / 2


def same_as_quarter(*, samples: int = 2000, noise: float = 0.1, seed: int = 0) -> float:
    """Share of noisy coarse maps on which "interpolate twice, highest cell" and the quarter offset give one answer."""
    generator = torch.Generator().manual_seed(seed)
    points = (_CELLS // 2 + torch.rand(1, samples, 2, generator=generator) - 0.5) * _CELL
    coarse = draw_maps("interpolation", 1, points, noise, generator)
    twice = read_maps("interpolation", 2, enlarge(coarse, 2), "argmax")
    return float(torch.isclose(twice, read_maps("interpolation", 1, coarse, "quarter")).all(-1).float().mean())


# What enlarging costs


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-adds of a head on 64x48 features."""

    params: int
    macs: int


def head_cost(head: Head, factor: int, *, channels: int = 32, keypoints: int = K) -> Cost:
    """Cost of heatmaps ``factor`` times as fine as the features.

    Args:
        head: "interpolation": 1x1 convolution, then four multiply-adds a pixel; "transposed convolutions": one of
            4x4, stride 2, with batch norm for every doubling, then 1x1; "SR head": 1x1 to four values a keypoint, a
            grouped 9x9 convolution, pixel shuffle.
        channels: of the features.
    """
    cells = FEATURES[0] * FEATURES[1]
    fine = cells * factor**2
    if head == "interpolation":
        return Cost(keypoints * (channels + 1), keypoints * (channels * cells + 4 * fine * (factor > 1)))
    if head == "transposed convolutions":
        doublings = int(np.log2(factor))
        weights = 16 * channels**2
        works = sum(weights * cells * 4**i for i in range(doublings))
        params = doublings * (weights + 2 * channels) + keypoints * (channels + 1)
        return Cost(params, works + keypoints * channels * fine)
    embedded = 4 * keypoints
    grouped = 81 * 4 * keypoints * factor**2
    return Cost(embedded * (channels + 1) + grouped + keypoints * factor**2, (embedded * channels + grouped) * cells)


def draw_super_resolution(factor: int, head: Head, decoder: str, noise: float, channels: int) -> Any:
    """Widget: a map enlarged ``factor`` times, the error of reading it, the price of making it.

    Args:
        factor: r; cells of the map are 4/r px.
        noise: of the features, a share of the peak.
        channels: of the features.
    """
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11.2, 3.9), width_ratios=(0.9, 1.1, 1.35))
    generator = torch.Generator().manual_seed(3)
    point = torch.tensor([[[_CELLS * _CELL / 2 + 2.6, _CELLS * _CELL / 2 - 1.8]]])
    maps = draw_maps(head, factor, point, noise, generator)
    # Drawn where the cells' middles are, in pixels from the joint.
    x, y = (float(v) for v in point[0, 0])
    cell = _CELL / factor
    first = (cell - _CELL) / 2 if head == "interpolation" else 0.0
    extent = [(end - at) / 2 for at in (x, y) for end in (first - cell / 2, first + cell * (_CELLS * factor - 0.5))]
    left.imshow(maps[0, 0].numpy(), extent=(extent[0], extent[1], extent[3], extent[2]), vmin=-0.2, vmax=1.1)
    rx, ry = ((read_maps(head, factor, maps, decoder)[0, 0] - point[0, 0]) / 2).tolist()
    left.plot([0], [0], marker="+", markersize=13, markeredgewidth=2, color=INK, linestyle="")
    left.plot([rx], [ry], marker="o", markersize=13, markerfacecolor="none", markeredgewidth=2,
              color=COLOURS["vermillion"], linestyle="")  # fmt: skip
    left.set(xlim=(-8, 8), ylim=(8, -8), xlabel="px from the joint", title=f"cells of {4 / factor:g} px")
    left.grid(visible=False)
    _error_lines(middle, factor, head, decoder, noise)
    _cost_bars(right, factor, head, channels)
    return figure


def _error_lines(ax: Any, factor: int, head: Head, decoder: str, noise: float) -> None:
    kinds: dict[str, tuple[Head, str, str]] = {
        "interpolated": ("interpolation", COLOURS["vermillion"], "s"),
        "learned, ideal": ("SR head", COLOURS["blue"], "o"),
    }
    for label, (kind, colour, marker) in kinds.items():
        errors = [reading_error(kind, f, decoder, noise=noise) for f in FACTORS]
        ax.plot(FACTORS, errors, label=label, color=colour, marker=marker, linestyle="-")
    here = reading_error("interpolation" if head == "interpolation" else "SR head", factor, decoder, noise=noise)
    ax.plot([factor], [here], marker="o", markersize=15, markerfacecolor="none", color=INK, linestyle="")
    top = max(2.0, 1.1 * max(line.get_ydata().max() for line in ax.lines))
    ax.set(xscale="log", xlabel="r", ylabel="mean error, px", title=f"{READER[decoder]}: {here:.2f} px", ylim=(0, top))
    ax.set_xticks(FACTORS, [str(f) for f in FACTORS])
    ax.minorticks_off()
    ax.legend(loc="best")


def _cost_bars(ax: Any, factor: int, head: Head, channels: int) -> None:
    costs = [head_cost(kind, factor, channels=channels) for kind in HEADS]
    giga = [cost.macs / 1e9 for cost in costs]
    ax.barh(range(len(HEADS)), giga, color=[COLOURS["blue"] if kind == head else "#b9c7d2" for kind in HEADS])
    for row, cost in enumerate(costs):
        text = f"{HEADS[row]}: {cost.macs / 1e9:.3g} G, {cost.params:,} parameters"
        ax.text(0, row - 0.44, text, va="bottom", color=INK, fontsize=9)
    ax.set_yticks([])
    ax.set(ylim=(len(HEADS) - 0.5, -0.75), xlim=(0, max(giga) * 1.02), xlabel="multiply-adds, 10$^9$")
    megabytes = 4 * K * FEATURES[0] * FEATURES[1] * factor**2 / 2**20
    ax.set_title(f"cost of the head; {megabytes:.1f} MiB of maps")
    for bar in ax.patches:
        bar.set_height(0.42)


# SRPose: outputs and targets at every scale


@dataclass(frozen=True)
class Output:
    """One output of SRPose in training: its size, the factor of its loss, and one joint's target there."""

    size: tuple[int, int]
    weight: float
    target: np.ndarray


def srpose_outputs(name: str = "r50_srpose", *, joint: tuple[float, float] = (90.0, 118.0)) -> list[Output]:
    """What SRPose returns in ``train()``, coarse to fine, and what each output is compared with."""
    with shapes_only():
        model = create_model(name).train()
        predictions = model(torch.empty(2, 3, *model.input_size))
    codec = replace(model.codec, centre="subpixel")
    final, _ = codec.encode(torch.tensor([[joint]]), torch.ones(1, 1))
    supervision = model.supervision
    assert supervision is not None
    return [
        Output(tuple(p.shape[-2:]), supervision.weights[i], supervision.target(i, p, final)[0, 0].numpy())
        for i, p in enumerate(predictions)
    ]


def outputs_figure(outputs: Sequence[Output]) -> Any:
    """The targets of every output, coarse to fine, each with its cells as they are."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(outputs), figsize=(11.0, 3.5))
    last = len(outputs) - 1
    for i, (ax, output) in enumerate(zip(axes, outputs)):
        ax.imshow(output.target, vmin=0, vmax=1)
        height, width = output.size
        role = "LR" if i == 0 else "answer" if i == last else f"SR head {i}"
        ax.set_title(f"{role}: {height}x{width}\npeak {output.target.max():.2f}, loss x {output.weight:g}")
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    return figure


def head_table(names: Sequence[str]) -> list[dict[str, Any]]:
    """Millions of parameters of backbone, head and what only training uses; multiply-adds; published operations."""
    rows = []
    for name in names:
        with shapes_only():
            model = create_model(name)
        prefixes = tuple(model.training_only)
        of = {n: p.numel() / 1e6 for n, p in model.named_parameters()}
        only = sum(size for n, size in of.items() if prefixes and n.startswith(prefixes))
        backbone = sum(size for n, size in of.items() if n.startswith("backbone."))
        cost = network_costs((name, (256, 192), K))
        rows.append(
            {
                "network": name,
                "backbone": backbone,
                "head": sum(of.values()) - backbone - only,
                "training only": only,
                "multiply-adds": cost["mac"],
                "as SRPose counts": cost["mmcv"],
            }
        )
    return rows


# Three heads, trained here


SIZE = (64, 48)  # height and width of a crop, pixels
ARMS = ("simple head", "simple head, enlarged", "SR head")


class Enlarged(nn.Module):
    """A head whose maps are interpolated to the input's size, in training and in evaluation: no new parameter."""

    def __init__(self, head: nn.Module, factor: int):
        super().__init__()
        self.head, self.factor = head, factor

    def forward(self, features: list[Tensor]) -> Tensor:
        return enlarge(self.head(features), self.factor)


def build(arm: str, *, seed: int) -> Any:
    """The untrained network of an arm; all have the same small ResNet and transposed convolutions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = create_model("tiny_sr" if arm == "SR head" else "tiny_simple_baseline", input_size=SIZE)
    if arm == "simple head, enlarged":
        net.head = Enlarged(net.head, net.stride)
        with shapes_only():
            net.codec = create_model("tiny_sr", input_size=SIZE).codec
        net.stride = 1
    return net


@dataclass(frozen=True)
class Crops:
    """Crops to train on, and one batch to test with.

    Attributes:
        train: in memory.
        test: a :class:`posekit.data.CropBatch` of everybody.
        people: of ``test``, in its order.
    """

    train: ArrayLoader
    test: Any
    people: Any


def figure_crops(setup: Setup) -> Crops:
    """Mannequin's people at the level "bib" seen from the front, as notebook 01 has them."""
    datasets = [
        Mannequin(
            split, level="bib", view="front", scenes=setup.pick(smoke=smoke, quick=quick), seed=setup.seed,
            progress=person_present(),
        ).trainable()
        for split, smoke, quick in (("train", 40, 330), ("val", 8, 80))
    ]  # fmt: skip
    train = ArrayLoader.of(CropLoader(datasets[0], SIZE, batch_size=64), batch_size=24, seed=setup.seed)
    test = next(iter(CropLoader(datasets[1], SIZE, batch_size=len(datasets[1].people))))
    return Crops(train, test, datasets[1].people.select(test.person.numpy()))


@dataclass(frozen=True)
class Trained:
    """A trained arm and how well it is read.

    Attributes:
        parameters: of the network.
        oks: way of reading -> (N,) OKS of each test person, percent; ways as of the ablations' scoring.
        maps: (N, K, h, w) predictions of the plain pictures.
    """

    parameters: int
    oks: Mapping[str, np.ndarray]
    maps: np.ndarray

    def mean(self, way: str) -> float:
        return float(self.oks[way].mean())

    def gain(self, better: str, worse: str) -> tuple[float, float, float]:
        """By how much one way's mean OKS is higher than another's, points, with its paired 95 % interval."""
        found = paired(self.oks[better] - self.oks[worse])
        return found.mean, found.low, found.high


def train_head(arm: str, crops: Crops, *, samples: int, seed: int, device: str = "cpu") -> Trained:
    """Train an arm with spatial cross-entropy on so many crops, and read its maps in every way."""
    net = build(arm, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        recipe = recipes.quick_ce(samples)
        training.fit(net, crops.train, None, recipe, out_dir=folder, seed=seed, device=device, progress=False)
    net.to("cpu").eval()
    images = to_input(crops.test.images, torch.device("cpu"))
    with torch.inference_mode():
        plain, mirrored = net(images).float(), net(images.flip(-1)).float()
    people = crops.people
    area, back = metrics.person_areas(people), invert_affine(crops.test.affine.double())
    oks = {}
    for way, decode in variants(net.codec).items():
        read = transform_points(back, decode(plain, mirrored, people.skeleton.flip_index)[0].double())
        oks[way] = 100 * metrics.oks(
            read.numpy(), people.keypoints, area=area, visibility=people.visibility, sigmas=people.skeleton.sigmas,
            box=people.box,
        )  # fmt: skip
    return Trained(sum(p.numel() for p in net.parameters()), oks, plain.numpy())


def trained_figure(trained: Mapping[str, Trained], crops: Crops, *, person: int = 0, joint: int = 5) -> Any:
    """A crop with each arm's map of one joint, and mean OKS by way of reading."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11.2, 3.7))
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.45, 1))
    panels = parts[0].subplots(1, 1 + len(trained))
    x, y = crops.test.keypoints[person, joint].tolist()
    panels[0].imshow(crops.test.images[person].permute(1, 2, 0).numpy())
    panels[0].set_title("test crop")
    for ax, (arm, one) in zip(panels[1:], trained.items()):
        found = one.maps[person, joint]
        shown = np.exp(found - found.max())
        stride = SIZE[0] // shown.shape[0]
        edges = (-stride / 2, SIZE[1] - stride / 2, SIZE[0] - stride / 2, -stride / 2)
        ax.imshow(shown, extent=edges, vmin=0, vmax=1)
        ax.set_title(arm.replace(", ", ",\n"))
        ax.set(xlim=(-0.5, SIZE[1] - 0.5), ylim=(SIZE[0] - 0.5, -0.5), facecolor="#440154")  # viridis at 0
    for ax in panels:
        ax.plot([x], [y], marker="o", markersize=13, markerfacecolor="none", markeredgewidth=1.8,
                color=COLOURS["vermillion"], linestyle="")  # fmt: skip
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    ax = parts[1].subplots()
    for arm, one in trained.items():
        ax.plot(range(len(DECODERS)), [one.mean(way) for way in DECODERS], label=arm, **_ARM_LOOKS[arm])
    ax.set_xticks(range(len(DECODERS)), [READER[way].replace(" ", "\n") for way in DECODERS])
    ax.set(ylabel="mean OKS, %", title="read in three ways", xlim=(-0.3, 2.3))
    ax.legend(loc="lower right")
    return figure


_ARM_LOOKS: dict[str, dict[str, Any]] = {
    "simple head": {"color": COLOURS["vermillion"], "marker": "s", "linestyle": "-"},
    "simple head, enlarged": {"color": COLOURS["purple"], "marker": "D", "linestyle": (0, (5, 2))},
    "SR head": {"color": COLOURS["blue"], "marker": "o", "linestyle": "-"},
}


# Recorded runs


BACKBONES = {"ResNet": "ResNet-50", "HRNet": "HRNet-W32", "TransPose": "TransPose-R-A4", "HRFormer": "HRFormer-S"}
SCHEMES = {"simple": "Simple head", "SR": "SR head", "SRPose": "SRPose"}
WITH, WITHOUT = "AP, quarter", "AP, argmax"
INPUTS = ("data/papers/srpose_coco_val.csv", "data/ledger/training.jsonl")
_LOOKS = {"simple": ("vermillion", "s"), "SR": ("blue", "o"), "SRPose": ("green", "^")}


def published_heads() -> dict[tuple[str, str], tuple[float, float]]:
    """(backbone, scheme) -> AP on COCO with and without post-processing, by SRPose's table."""
    rows = {(row["backbone"], row["scheme"]): row for row in read_table("srpose_coco_val") if row["ap_nopost"]}
    return {
        (short, kind): (float(rows[long, scheme]["ap_post"]), float(rows[long, scheme]["ap_nopost"]))
        for short, long in BACKBONES.items()
        for kind, scheme in SCHEMES.items()
    }


Runs = Mapping[str, Mapping[int, Mapping[str, float]]]


def recorded_heads() -> Runs:
    """Recorded runs of the four backbones with three heads, by arm ("ResNet, SR") and seed."""
    return recorded_arms("post_processing")


def heads_figure(runs: Runs) -> Any:
    """Headline: AP with and without post-processing as published and as recorded, and what leaving it out loses."""
    import matplotlib.pyplot as plt

    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(10.8, 8.6), sharex=True, height_ratios=(1, 1, 0.85))
    published, place = published_heads(), {}
    for i, backbone in enumerate(BACKBONES):
        for j, kind in enumerate(SCHEMES):
            place[backbone, kind] = i + 0.25 * (j - 1)
    for (backbone, kind), x in place.items():
        look: dict[str, Any] = {"color": COLOURS[_LOOKS[kind][0]], "marker": _LOOKS[kind][1]}
        post, plain = published[backbone, kind]
        _pair(top, x, (post, post, post), (plain, plain, plain), look)
        bottom.plot([x - 0.05], [post - plain], marker="D", markerfacecolor="none", color=look["color"], linestyle="")
        seeds = runs.get(f"{backbone}, {kind}", {})
        if not seeds:
            for ax in (middle, bottom):
                ax.text(x + (0.02 if ax is bottom else 0), 0.04, "not recorded yet", rotation=90, color=MUTED,
                        fontsize=8.5, ha="center", va="bottom", transform=ax.get_xaxis_transform())  # fmt: skip
            continue
        numbers = list(seeds.values())
        post_, plain_ = (_interval([run[metric] for run in numbers]) for metric in (WITH, WITHOUT))
        _pair(middle, x, post_, plain_, look)
        mean, low, high = _interval([run[WITH] - run[WITHOUT] for run in numbers])
        bottom.errorbar([x + 0.04], [mean], [[mean - low], [high - mean]], linestyle="", capsize=3, **look)
    counts = sorted({len(seeds) for seeds in runs.values() if seeds})
    seeds_text = "-".join(map(str, counts[:1] + counts[1:][-1:])) if counts else "no"
    top.set(ylabel="AP", title="Published: COCO, 256x192; filled with, open without post-processing")
    middle.set(ylabel="AP", title=f"Recorded here: mannequins, small networks, {seeds_text} seeds, 95 % intervals")
    bottom.set(ylabel="AP lost", title="Lost without post-processing; diamonds: published")
    bottom.axhline(0, color=MUTED, linestyle="-", marker="", linewidth=1)
    bottom.set_xticks(range(len(BACKBONES)), list(BACKBONES))
    if not counts:
        middle.set_yticks([])
    for ax in (top, middle, bottom):
        ax.grid(axis="x", visible=False)
        ax.set_xlim(-0.5, len(BACKBONES) - 0.5)
    handles = [
        top.plot([], [], color=COLOURS[colour], marker=marker, linestyle="", label=SCHEMES[kind])[0]
        for kind, (colour, marker) in _LOOKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95 % interval over seeds; a single seed has no width."""
    found = paired(values)
    return (found.mean, found.low, found.high) if len(values) > 1 else (found.mean, found.mean, found.mean)


def _pair(ax: Any, x: float, post: tuple[float, ...], plain: tuple[float, ...], look: Mapping[str, Any]) -> None:
    """(mean, low, high) with post-processing filled, without it open, joined by a line."""
    ax.plot([x - 0.04, x + 0.04], [post[0], plain[0]], color=look["color"], linestyle="-", marker="", linewidth=1)
    for at, (mean, low, high), face in ((x - 0.04, post, None), (x + 0.04, plain, "none")):
        bars = [[mean - low], [high - mean]]
        ax.errorbar([at], [mean], bars if high > low else None, linestyle="", markersize=8, markerfacecolor=face,
                    capsize=3, **look)  # fmt: skip


COMPARISONS = {
    "sr_head": "S01: SR over simple head, AP",
    "srpose_head": "S03: SRPose over SR head, AP",
    "srpose_pck": "S07: SRPose ahead, PCK",
    "srpose_supervision": "S09: every stage over last only, AP",
    "flip_shift_stride1_trained": "U02: no shift over shift 1, AP",
}


@dataclass(frozen=True)
class Compared:
    """One contrast: ours with its interval, NaN where it is not recorded, and the published value, NaN without one."""

    group: str
    name: str
    mean: float
    low: float
    high: float
    published: float


def comparisons(names: Sequence[str] = tuple(COMPARISONS)) -> list[Compared]:
    """Every contrast of the ablations, from their newest recorded comparisons."""
    found = []
    for name in names:
        row = recorded_comparison(name)
        cells = {cell.name: cell for cell in row.cells} if row else {}
        for contrast in ABLATIONS[name].contrasts:
            cell = cells.get(contrast.name)
            ends = (cell.interval if cell else None) or (np.nan, np.nan)
            short = (
                contrast.name.removeprefix("AP: ")
                .removeprefix("PCK: ")
                .replace(": AP, ", ": ")
                .replace("minus AP, ", "minus ")
            )
            short = short.replace(", half the training minus", " minus")
            value, published = cell.measured if cell else np.nan, float(contrast.published or np.nan)
            found.append(Compared(COMPARISONS[name], short, value, *ends, published))
    return found


def comparisons_figure(compared: Sequence[Compared]) -> Any:
    """Forest plot of the contrasts with published values as diamonds."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(10.0, 1.4 + 0.3 * len(compared)))
    forest(
        [one.name for one in compared],
        [one.mean for one in compared],
        [one.low for one in compared],
        [one.high for one in compared],
        reference=[one.published for one in compared],
        groups=[one.group for one in compared],
        unit="difference, points; mean over paired seeds with 95 % interval",
        ax=ax,
    )
    left, right = ax.get_xlim()
    ax.set_xlim(left - 0.15 * (right - left), right)  # room for what is not run yet, left of every mark
    ax.get_legend().remove()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
