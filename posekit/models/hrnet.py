"""HRNet: Sun, Xiao, Liu and Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation", 2019.

Branches at 1/4, 1/8, 1/16 and 1/32 run side by side; exchange units let every branch hear every other. Widths are
C, 2C, 4C, 8C with C = 32 or 48. Parameter names are the published ones, so the published files fit.

Options for the paper's comparisons: ``exchange`` (Table 6), ``predict_from`` (Figure 5), ``attention="psa"``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import ModelError, PoseModel, conv_bn, init_kaiming, init_normal, is_whole
from posekit.models.psa import PolarizedSelfAttention
from posekit.models.resnet import Attention, BasicBlock, Bottleneck, block_stage
from posekit.models.simple_baseline import SimpleHead, tiny_heatmaps

Exchange = Literal["final", "across", "within"]
AttentionName = Literal["psa", "psa_released"]
MODULES = (1, 4, 3)  # exchange modules of stages 2, 3 and 4


def strided_conv(in_channels: int, out_channels: int, relu: bool) -> nn.Sequential:
    """One halving step of an exchange unit: 3x3 convolution of stride 2 and batch norm."""
    return conv_bn(in_channels, out_channels, 3, stride=2, relu=relu)


class ExchangeUnit(nn.ModuleList):
    """Each output is the sum of all branches, brought to that output's size and width, then one ReLU.

    Entry [i][j] takes branch j to output i: 1x1 convolution, batch norm and upsampling where j is coarser; a chain of
    halving steps that widens in its last step where j is finer; nothing where they are the same.

    Args:
        channels: width of each branch, finest first.
        outputs: the outputs to compute; entries of the others stay empty.
        down: makes one halving step from (in_channels, out_channels, relu).
        upsampling: mode of ``F.interpolate``.
    """

    def __init__(
        self,
        channels: Sequence[int],
        outputs: Sequence[int],
        *,
        down: Callable[[int, int, bool], nn.Module] = strided_conv,
        upsampling: str = "nearest",
    ):
        super().__init__()
        self.outputs, self.upsampling = tuple(outputs), upsampling
        for i in range(max(outputs) + 1):
            sources = range(len(channels)) if i in outputs else ()
            self.append(nn.ModuleList(self._path(channels, j, i, down) for j in sources))

    @staticmethod
    def _path(channels: Sequence[int], source: int, target: int, down: Callable[[int, int, bool], nn.Module]):
        if source == target:
            return nn.Identity()
        if source > target:
            return conv_bn(channels[source], channels[target], 1, relu=False)
        first = [down(channels[source], channels[source], True) for _ in range(target - source - 1)]
        return nn.Sequential(*first, down(channels[source], channels[target], False))

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        return [self._fuse(branches, i) for i in self.outputs]

    def _fuse(self, branches: list[Tensor], target: int) -> Tensor:
        align = None if self.upsampling == "nearest" else False
        size = branches[target].shape[-2:]
        terms = []
        for j, path in enumerate(self[target].children()):
            term = path(branches[j])
            resized = F.interpolate(term, size=size, mode=self.upsampling, align_corners=align) if j > target else term
            terms.append(resized)
        total = terms[0] + terms[1]  # new memory: a branch that is passed on as it is must stay as it is
        for term in terms[2:]:
            total += term
        return F.relu(total, inplace=True)


class StageModule(nn.Module):
    """Blocks on every branch, then an exchange unit, or nothing where ``outputs`` is empty."""

    def __init__(self, branches: Sequence[nn.Module], exchange: nn.Module | None):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.fuse_layers = exchange

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        branches = [blocks(x) for blocks, x in zip(self.branches, inputs)]
        return branches if self.fuse_layers is None else self.fuse_layers(branches)


class HighResolutionNet(nn.Module):
    """Stem to 1/4, one stage of bottlenecks, then stages that each add a branch of half the size and twice the width.

    ``forward`` takes (B, 3, H, W) and returns one map per entry of ``outputs``: (B, width 2^b, H / 4 2^b, W / 4 2^b).

    Args:
        width: channels of the finest branch.
        make_module: (stage, index in the stage, channels, outputs) -> a stage's module; ``outputs`` lists the branches
            that are read on.
        modules: how many modules stages 2, 3, ... have; their number is the number of branches less one.
        outputs: the branches that the last module computes.
        stem: channels of the two stem convolutions.
        bottlenecks: blocks of the first stage, of width ``stem``.
        attention: what follows the 3x3 of those blocks, if anything.
    """

    def __init__(
        self,
        width: int,
        make_module: Callable[[int, int, Sequence[int], Sequence[int]], nn.Module],
        *,
        modules: Sequence[int] = MODULES,
        outputs: Sequence[int] = (0,),
        stem: int = 64,
        bottlenecks: int = 4,
        attention: Attention | None = None,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = block_stage(Bottleneck, stem, stem, bottlenecks, attention=attention)
        previous = [stem * Bottleneck.expansion]
        self.stages = tuple(range(2, 2 + len(modules)))
        for stage, count in zip(self.stages, modules):
            channels = [width * 2**b for b in range(stage)]
            self.add_module(f"transition{stage - 1}", transition(previous, channels))
            everything = tuple(range(stage))
            kept = [everything if m < count - 1 or stage < self.stages[-1] else outputs for m in range(count)]
            self.add_module(
                f"stage{stage}", nn.Sequential(*(make_module(stage, m, channels, kept[m]) for m in range(count)))
            )
            previous = channels
        self.channels = tuple(previous[b] for b in outputs)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        for stage in self.stages:
            step = self.get_submodule(f"transition{stage - 1}").children()
            branches = [layer(branches[min(b, len(branches) - 1)]) for b, layer in enumerate(step)]
            branches = self.get_submodule(f"stage{stage}")(branches)
        return branches


def transition(previous: Sequence[int], channels: Sequence[int]) -> nn.ModuleList:
    """Branches go on as they are or by a 3x3 to a new width; the new branch comes from the coarsest by stride 2."""
    layers: list[nn.Module] = []
    for b, width in enumerate(channels):
        if b == len(previous):
            layers.append(nn.Sequential(conv_bn(previous[-1], width, 3, stride=2)))
        else:
            layers.append(nn.Identity() if previous[b] == width else conv_bn(previous[b], width, 3))
    return nn.ModuleList(layers)


def hrnet(
    width: int,
    *,
    outputs: Sequence[int] = (0,),
    exchange: Exchange = "within",
    attention: AttentionName | None = None,
    modules: Sequence[int] = MODULES,
    blocks: int = 4,
    stem: int = 64,
    bottlenecks: int = 4,
) -> HighResolutionNet:
    """HRNet's trunk. ``exchange="final"`` keeps only the last exchange unit, "across" the last one of each stage."""
    if exchange not in ("final", "across", "within"):
        raise ModelError(f'exchange is "final", "across" or "within" (rows a, b and c of Table 6), not {exchange!r}')
    if attention not in (None, "psa", "psa_released"):
        raise ModelError(f'attention is None, "psa" or "psa_released", not {attention!r}')
    gate: Attention | None = None
    if attention is not None:
        gate = partial(PolarizedSelfAttention, released=attention == "psa_released")
    last_stage = len(modules) + 1

    def make_module(stage: int, index: int, channels: Sequence[int], outputs: Sequence[int]) -> StageModule:
        ends_stage = index == modules[stage - 2] - 1
        kept = {"final": ends_stage and stage == last_stage, "across": ends_stage, "within": True}[exchange]
        branches = [block_stage(BasicBlock, c, c, blocks, attention=gate) for c in channels]
        return StageModule(branches, ExchangeUnit(channels, outputs) if kept else None)

    return HighResolutionNet(
        width, make_module, modules=modules, outputs=outputs, stem=stem, bottlenecks=bottlenecks, attention=gate
    )


def _top_down(trunk: HighResolutionNet, num_keypoints: int, codec: codecs.GaussianHeatmap) -> PoseModel:
    return PoseModel(
        trunk,
        SimpleHead(trunk.channels[0], num_keypoints, index=0),
        codec=codec,
        input_size=codec.input_size,
        stride=codec.stride,
        size_multiple=2 ** (len(trunk.stages) + 2),
    )


def check_branch(predict_from: int, branches: int) -> int:
    """``predict_from`` if it is a branch, else a sentence."""
    if not is_whole(predict_from, 0) or predict_from >= branches:
        raise ModelError(f"predict_from is a branch from 0 (finest) to {branches - 1} (coarsest), not {predict_from!r}")
    return predict_from


def hrnet_w32(
    *,
    num_keypoints: int = 17,
    input_size: tuple[int, int] = (256, 192),
    exchange: Exchange = "within",
    predict_from: int = 0,
    attention: AttentionName | None = None,
) -> PoseModel:
    """HRNet-W32: 28,536,113 parameters for 17 keypoints.

    Args:
        exchange: exchange units after the last module ("final"), each stage ("across") or every module ("within").
        predict_from: the branch whose map the heatmaps come from, 0 (stride 4) to 3 (stride 32).
        attention: "psa" puts polarized self-attention into every residual block, "psa_released" the form that its
            released code has.
    """
    outputs = (check_branch(predict_from, 4),)
    trunk = hrnet(32, outputs=outputs, exchange=exchange, attention=attention)
    init_normal(trunk)
    return _top_down(trunk, num_keypoints, codecs.GaussianHeatmap(input_size, stride=4 * 2**predict_from))


def hrnet_w48(
    *,
    num_keypoints: int = 17,
    input_size: tuple[int, int] = (256, 192),
    exchange: Exchange = "within",
    predict_from: int = 0,
    attention: AttentionName | None = None,
) -> PoseModel:
    """HRNet-W48: 63,595,745 parameters for 17 keypoints; options as for HRNet-W32."""
    outputs = (check_branch(predict_from, 4),)
    trunk = hrnet(48, outputs=outputs, exchange=exchange, attention=attention)
    init_normal(trunk)
    return _top_down(trunk, num_keypoints, codecs.GaussianHeatmap(input_size, stride=4 * 2**predict_from))


def tiny_hrnet_trunk(
    outputs: Sequence[int] = (0,),
    exchange: Exchange = "within",
    attention: AttentionName | None = None,
    width: int = 12,
) -> HighResolutionNet:
    """Three branches, modules (1, 2) of two blocks: small enough for a processor core."""
    if not is_whole(width):
        raise ModelError(f"the finest branch needs at least one channel and whole ones, got width={width!r}")
    trunk = hrnet(
        width,
        outputs=outputs,
        exchange=exchange,
        attention=attention,
        modules=(1, 2),
        blocks=2,
        stem=16,
        bottlenecks=1,
    )
    init_kaiming(trunk)
    return trunk


def tiny_hrnet(
    *,
    num_keypoints: int = 17,
    input_size: tuple[int, int] = (96, 64),
    exchange: Exchange = "within",
    predict_from: int = 0,
    attention: AttentionName | None = None,
    width: int = 12,
) -> PoseModel:
    """A three-branch HRNet for the course.

    Args:
        exchange, predict_from, attention: as for HRNet-W32, branches 0 to 2.
        width: channels of the finest branch; 18 is to 12 what W48 is to W32.
    """
    outputs = (check_branch(predict_from, 3),)
    trunk = tiny_hrnet_trunk(outputs, exchange, attention, width)
    return _top_down(trunk, num_keypoints, tiny_heatmaps(input_size, 4 * 2**predict_from))
