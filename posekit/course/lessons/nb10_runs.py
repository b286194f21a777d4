"""SR head and SRPose in training: three heads trained on the spot, and the recorded runs beside the paper's table."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posekit import create_model, metrics, training
from posekit.analysis import shapes_only
from posekit.course.lessons.nb10 import DECODERS, READER, enlarge
from posekit.course.parameters import Setup
from posekit.course.presence import person_present
from posekit.data import CropLoader, Mannequin
from posekit.experiments.ablations import ABLATIONS, paired
from posekit.experiments.ablations.reading import recorded_arms, recorded_comparison
from posekit.experiments.ablations.scoring import variants
from posekit.experiments.costs import read_table
from posekit.geometry import invert_affine, transform_points
from posekit.inference.runtime import to_input
from posekit.training import ArrayLoader, recipes
from posekit.viz import COLOURS, MUTED, forest

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
    panels[0].set_title(f"ring: true\n{crops.people.skeleton.keypoints[joint].replace('_', ' ')}")
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
            found.append(Compared(COMPARISONS[name], f"{COMPARISONS[name][:3]}  {short}", value, *ends, published))
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
    ax.legend().remove()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
