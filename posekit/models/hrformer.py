"""HRFormer: Yuan et al., "HRFormer: High-Resolution Transformer for Dense Prediction", 2021. HRFormer-S.

HRNet's plan with transformer blocks on the branches: attention inside 7x7 windows, then a perceptron with a depthwise
3x3 that lets windows talk. Choices that follow the published code and weights:

- maps are padded with zeros, centred, to whole windows, and the padding is attended to like any cell;
- the relative position bias is a parameter that the pose network never adds; it is kept because files hold it;
- all four outputs of the last module are computed (``multiscale_output=True``), although the heatmaps read one: only
  so are there 7.891 M parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import PoseModel, init_kaiming
from posekit.models.hrnet import ExchangeUnit, HighResolutionNet, StageModule
from posekit.models.simple_baseline import SimpleHead, tiny_heatmaps


class WindowAttention(nn.Module):
    """Multi-head attention inside windows: (B, h, w, C) -> same."""

    def __init__(self, channels: int, heads: int, window: int):
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_positions(window))
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        s = self.window
        tall, wide = -h % s, -w % s
        x = F.pad(x, (0, 0, wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))
        rows, columns = x.shape[1] // s, x.shape[2] // s
        x = x.view(b, rows, s, columns, s, c).transpose(2, 3)  # (B, rows, columns, s, s, C)
        tokens = x.reshape(b * rows * columns, s * s, c)
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (windows, heads, s*s, C / heads)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        tokens = self.out_proj(mixed.transpose(1, 2).flatten(2))
        x = tokens.view(b, rows, columns, s, s, c).transpose(2, 3).reshape(b, rows * s, columns * s, c)
        return x[:, tall // 2 : tall // 2 + h, wide // 2 : wide // 2 + w]


def relative_positions(window: int) -> Tensor:
    """(window², window²) int64: the row of the bias table for each pair of cells of a window."""
    places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    apart = places[:, :, None] - places[:, None, :] + window - 1
    return apart[0] * (2 * window - 1) + apart[1]


class Windows(nn.Module):
    """Holds the attention one level down, where the published names have it."""

    def __init__(self, channels: int, heads: int, window: int):
        super().__init__()
        self.attn = WindowAttention(channels, heads, window)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x)


class ConvPerceptron(nn.Module):
    """1x1, depthwise 3x3, 1x1, each with batch norm and GELU: (B, C, h, w) -> same."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.dw3x3 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.norm3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.fc1(x)))
        x = F.gelu(self.norm2(self.dw3x3(x)))
        return F.gelu(self.norm3(self.fc2(x)))


class DropPath(nn.Module):
    """Leaves a residual branch out for whole samples, with probability ``rate``, while training."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = torch.empty(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype).bernoulli_(keep)
        return x * mask / keep


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): (B, C, h, w) -> same."""

    def __init__(self, channels: int, heads: int, *, window: int, expansion: int, drop_path: float):
        super().__init__()
        self.attn = Windows(channels, heads, window)
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = ConvPerceptron(channels, channels * expansion)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, C, h, w) -> (B, h, w, C), where layer norm and attention work
        x = x + self.drop_path(self.attn(self.norm1(x)))
        mixed = self.mlp(self.norm2(x).permute(0, 3, 1, 2))  # back to (B, C, h, w)
        return x.permute(0, 3, 1, 2) + self.drop_path(mixed)


def separable_conv(in_channels: int, out_channels: int, relu: bool) -> nn.Sequential:
    """One halving step of an exchange unit: depthwise 3x3 of stride 2, then 1x1, each with batch norm."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, in_channels, 3, 2, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def hrformer(
    width: int,
    *,
    modules: Sequence[int],
    blocks: int,
    outputs: Sequence[int],
    window: int = 7,
    expansion: int = 4,
    drop_path: float = 0.1,
    stem: int = 64,
    bottlenecks: int = 2,
) -> HighResolutionNet:
    """HRFormer's trunk; branch b has width · 2^b channels and 2^b heads. ``drop_path`` rises from 0 with depth."""
    depth = sum(modules) * blocks
    rates = [drop_path * d / max(depth - 1, 1) for d in range(depth)]

    def make_module(stage: int, index: int, channels: Sequence[int], outputs: Sequence[int]) -> StageModule:
        start = (sum(modules[: stage - 2]) + index) * blocks
        branches = [
            nn.Sequential(
                *(
                    TransformerBlock(c, 2**b, window=window, expansion=expansion, drop_path=rates[start + d])
                    for d in range(blocks)
                )
            )
            for b, c in enumerate(channels)
        ]
        return StageModule(branches, ExchangeUnit(channels, outputs, down=separable_conv, upsampling="bilinear"))

    trunk = HighResolutionNet(width, make_module, modules=modules, outputs=outputs, stem=stem, bottlenecks=bottlenecks)
    init_kaiming(trunk)
    for layer in trunk.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return trunk


def hrformer_s_trunk() -> HighResolutionNet:
    """HRFormer-S: modules (1, 4, 2) of two blocks, width 32, all four outputs."""
    return hrformer(32, modules=(1, 4, 2), blocks=2, outputs=(0, 1, 2, 3))


def tiny_hrformer_trunk(outputs: Sequence[int] = (0,)) -> HighResolutionNet:
    """Three branches of width 12, one module per stage, one block per branch."""
    return hrformer(12, modules=(1, 1), blocks=1, outputs=outputs, expansion=2, drop_path=0.0, stem=16, bottlenecks=1)


def _top_down(trunk: HighResolutionNet, num_keypoints: int, codec: codecs.GaussianHeatmap) -> PoseModel:
    return PoseModel(
        trunk,
        SimpleHead(trunk.channels[0], num_keypoints, index=0),
        codec=codec,
        input_size=codec.input_size,
        stride=codec.stride,
        size_multiple=2 ** (len(trunk.stages) + 2),
    )


def hrformer_s(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """HRFormer-S: 7.891 M parameters."""
    return _top_down(hrformer_s_trunk(), num_keypoints, codecs.GaussianHeatmap(input_size))


def tiny_hrformer(*, num_keypoints: int = 17, input_size: tuple[int, int] = (96, 64)) -> PoseModel:
    """An HRFormer for the course."""
    return _top_down(tiny_hrformer_trunk(), num_keypoints, tiny_heatmaps(input_size))
