"""HRNet's wiring, read from its modules: which branch feeds which, and what every arrow costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from posekit import create_model
from posekit.analysis import complexity

JUNCTIONS = (
    "stem to stage 2",
    "stage 2, module 1",
    "stage 2 to 3",
    *(f"stage 3, module {m}" for m in (1, 2, 3, 4)),
    "stage 3 to 4",
    *(f"stage 4, module {m}" for m in (1, 2, 3)),
    "head",
)


@dataclass(frozen=True)
class Box:
    """A place in the network where a map lies.

    Attributes:
        column, row: where it stands; the row is the branch, 0 the finest.
        kind: "stem", "blocks", "sum" or "heatmaps".
        channels, size: of the map, size as (height, width) in cells.
        params, macs: of the blocks that made it; of a sum, none.
        stage: it belongs to; 0 for the heatmaps.
    """

    column: int
    row: int
    kind: str
    channels: int
    size: tuple[int, int]
    params: int = 0
    macs: float = 0.0
    stage: int = 0


@dataclass(frozen=True)
class Arrow:
    """A map on its way from one box to another.

    Attributes:
        source, target: positions in ``Wiring.boxes``.
        kind: "same", "change", "down" or "up".
        words: what happens to the map, as in "1x1, nearest x4".
        params, macs: of the layers on the way.
        junction: one of :data:`JUNCTIONS`; empty where a map is only handed on.
    """

    source: int
    target: int
    kind: str
    words: str
    params: int
    macs: float
    junction: str


@dataclass(frozen=True)
class Wiring:
    """All boxes and arrows of an HRNet, in the order in which they are computed."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]

    @property
    def params(self) -> int:
        return sum(box.params for box in self.boxes) + sum(arrow.params for arrow in self.arrows)

    @property
    def macs(self) -> float:
        return sum(box.macs for box in self.boxes) + sum(arrow.macs for arrow in self.arrows)

    def routes(self) -> int:
        """In how many ways a number can travel from the stem to the heatmaps, counting arrows."""
        ways = [1] + [0] * (len(self.boxes) - 1)
        for arrow in sorted(self.arrows, key=lambda a: self.boxes[a.source].column):
            ways[arrow.target] += ways[arrow.source]
        return ways[-1]


class _Reader:
    """Walks through an HRNet's modules and writes down boxes and arrows."""

    def __init__(self, model: Any):
        self.model = model
        layers = complexity(model).layers
        self.cost = {layer.name: (layer.params, layer.count) for layer in layers}
        self.shapes = {layer.name: layer.output_shape for layer in layers}
        self.boxes: list[Box] = []
        self.arrows: list[Arrow] = []
        self.column = 0

    def total(self, *paths: str) -> tuple[int, float]:
        """Parameters and multiply-adds of modules and all below them."""
        inside = tuple(path + "." for path in paths)
        found = [cost for name, cost in self.cost.items() if name in paths or name.startswith(inside)]
        return sum(params for params, _ in found), sum(macs for _, macs in found)

    def box(self, row: int, kind: str, shape: Sequence[int], stage: int, *paths: str) -> int:
        self.boxes.append(Box(self.column, row, kind, shape[1], (shape[2], shape[3]), *self.total(*paths), stage))
        return len(self.boxes) - 1

    def arrow(self, source: int, target: int, path: str = "", junction: str = "") -> None:
        params, macs = self.total(path) if path else (0, 0.0)
        down = self.boxes[target].row - self.boxes[source].row
        kind = "down" if down > 0 else "up" if down < 0 else "change" if params else "same"
        words = _in_words(self.model.get_submodule(path)) if path else ""
        if kind == "up":
            words += f", nearest x{2**-down}"
        self.arrows.append(Arrow(source, target, kind, words or "as it is", params, macs, junction))

    def read(self) -> Wiring:
        trunk = self.model.backbone
        stem = [f"backbone.{name}" for name in ("conv1", "bn1", "conv2", "bn2", "layer1")]
        current = {0: self.box(0, "stem", self.shapes["backbone.layer1"], 1, *stem)}
        for stage in trunk.stages:
            for m, module in enumerate(trunk.get_submodule(f"stage{stage}").children()):
                current = self.read_module(stage, m, module, current)
        ((_, last),) = current.items()
        self.column += 1
        head = self.box(self.boxes[last].row, "heatmaps", self.shapes["head"], 0)
        self.arrow(last, head, "head", "head")
        return Wiring(tuple(self.boxes), tuple(self.arrows))

    def read_module(self, stage: int, index: int, module: Any, current: dict[int, int]) -> dict[int, int]:
        path = f"backbone.stage{stage}.{index}"
        self.column += 1
        blocks = {}
        for b in range(len(module.branches)):
            name = f"{path}.branches.{b}"
            blocks[b] = self.box(b, "blocks", self.shapes[name], stage, name)
            if index == 0:
                junction = "stem to stage 2" if stage == 2 else f"stage {stage - 1} to {stage}"
                source = current[min(b, len(current) - 1)]
                self.arrow(source, blocks[b], f"backbone.transition{stage - 1}.{b}", junction)
            else:
                self.arrow(current[b], blocks[b])
        self.column += 1  # also where nothing is exchanged, so that drawings of variants can be compared
        unit = module.fuse_layers
        if unit is None:
            return blocks
        sums = {}
        for i in unit.outputs:
            sums[i] = self.box(i, "sum", self.shapes[f"{path}.branches.{i}"], stage)
            for j, source in blocks.items():
                self.arrow(source, sums[i], f"{path}.fuse_layers.{i}.{j}", f"stage {stage}, module {index + 1}")
        return sums


def _in_words(module: nn.Module) -> str:
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    return " + ".join(f"{c.kernel_size[0]}x{c.kernel_size[1]}{' /2' if c.stride[0] == 2 else ''}" for c in convolutions)


def wiring(model: Any) -> Wiring:
    """The boxes and arrows of an HRNet of this package, with sizes and costs from the modules themselves.

    Args:
        model: of ``hrnet_w32``, ``hrnet_w48`` or ``tiny_hrnet``, with any ``exchange`` and ``predict_from``.
    """
    return _Reader(model).read()


@cache
def w32(exchange: str = "within", predict_from: int = 0, attention: str | None = None) -> Wiring:
    """HRNet-W32's wiring, without ever holding its weights."""
    with torch.device("meta"):
        model = create_model("hrnet_w32", exchange=exchange, predict_from=predict_from, attention=attention)
    return wiring(model)
