"""TransPose: Yang et al., "TransPose: Keypoint Localization via Transformer", 2021. TransPose-R-A4.

ResNet-50 up to its second stage (1/8), a 1x1 reduction to 256, four post-norm encoder layers over all cells, one
transposed convolution to 1/4, a 1x1 convolution. The two-dimensional sine position is added to queries and keys in
every layer, never to values. It is stored as a frozen parameter, as in the published files, and counted with the
weights, as in the published counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import PoseModel
from posekit.models.resnet import BasicBlock, Bottleneck, ResNet
from posekit.models.simple_baseline import SimpleHead, tiny_heatmaps


class SelfAttention(nn.Module):
    """Multi-head attention whose queries and keys see the position and whose values do not."""

    def __init__(self, channels: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        channels = x.shape[-1]
        placed = x + position
        split = 2 * channels
        query, key = F.linear(placed, self.in_proj_weight[:split], self.in_proj_bias[:split]).chunk(2, dim=-1)
        value = F.linear(x, self.in_proj_weight[split:], self.in_proj_bias[split:])
        query, key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)  # (B, heads, N, C / heads)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))  # (B, N, C)


class EncoderLayer(nn.Module):
    """Attention and a two-layer perceptron, each added to its input and then normalised: (B, N, C) -> same."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.self_attn = SelfAttention(channels, heads, dropout)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x, position)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class Encoder(nn.Module):
    """Encoder layers one after the other, the position given to each anew."""

    def __init__(self, layers: int, channels: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(channels, heads, hidden, dropout) for _ in range(layers))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, position)
        return x


class TransPoseNet(ResNet):
    """Two ResNet stages and an encoder. ``forward`` returns the 1/4 map of stage one and the encoded 1/8 map.

    Args:
        counts, block, widths: of the ResNet.
        layers, channels, heads, hidden, dropout: of the encoder.
        input_size: the size whose positions are stored; other sizes get theirs computed.
    """

    def __init__(
        self,
        counts: Sequence[int],
        *,
        block: type[BasicBlock] | type[Bottleneck],
        widths: Sequence[int],
        layers: int,
        channels: int,
        heads: int,
        hidden: int,
        dropout: float,
        input_size: tuple[int, int],
    ):
        super().__init__(counts, block=block, widths=widths)
        self.reduce = nn.Conv2d(self.channels[-1], channels, 1, bias=False)
        self.global_encoder = Encoder(layers, channels, heads, hidden, dropout)
        self.cells = (input_size[0] // 8, input_size[1] // 8)
        position = sine_positions(self.cells, channels).unsqueeze(1)
        self.pos_embedding = nn.Parameter(position, requires_grad=False)
        self.channels = (self.channels[0], channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine, coarse = super().forward(images)
        x = self.reduce(coarse)
        size = (x.shape[2], x.shape[3])
        position = self._position(size, x)
        tokens = x.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, N, C)
        tokens = self.global_encoder(tokens, position)
        return [fine, tokens.transpose(1, 2).unflatten(2, size)]

    def _position(self, size: tuple[int, int], like: Tensor) -> Tensor:
        if size == self.cells:
            return self.pos_embedding.transpose(0, 1)  # (N, 1, C) -> (1, N, C)
        return sine_positions(size, like.shape[1]).to(like)


def sine_positions(size: tuple[int, int], channels: int, temperature: float = 10000.0) -> Tensor:
    """(h * w, channels): sines and cosines of the row in the first half of the channels, of the column in the second.

    Rows and columns are scaled to (0, 2 pi], as in DETR, so the same place has the same code at every size.
    """
    h, w = size
    half = channels // 2
    wave = temperature ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)

    def code(length: int) -> Tensor:
        place = torch.arange(1, length + 1) / (length + 1e-6) * 2 * math.pi
        angle = place[:, None] / wave  # (length, half)
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)

    rows = code(h)[:, None].expand(h, w, half)
    columns = code(w)[None].expand(h, w, half)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)  # (h, w, channels) -> (h * w, channels)


def transpose_trunk(input_size: tuple[int, int]) -> TransPoseNet:
    """The trunk of TransPose-R-A4."""
    return TransPoseNet(
        (3, 4),
        block=Bottleneck,
        widths=(64, 128),
        layers=4,
        channels=256,
        heads=8,
        hidden=1024,
        dropout=0.1,
        input_size=input_size,
    )


def tiny_transpose_trunk(input_size: tuple[int, int]) -> TransPoseNet:
    """Two stages of one basic block and two encoder layers."""
    return TransPoseNet(
        (1, 1),
        block=BasicBlock,
        widths=(24, 48),
        layers=2,
        channels=48,
        heads=4,
        hidden=96,
        dropout=0.0,
        input_size=input_size,
    )


def transpose_r_a4(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """TransPose-R-A4: 4.932 M + 1.053 M parameters for 17 keypoints, positions included."""
    codec = codecs.GaussianHeatmap(input_size)
    return _top_down(transpose_trunk(input_size), (256,), num_keypoints, codec)


def tiny_transpose(*, num_keypoints: int = 17, input_size: tuple[int, int] = (96, 64)) -> PoseModel:
    """A TransPose for the course."""
    return _top_down(tiny_transpose_trunk(input_size), (48,), num_keypoints, tiny_heatmaps(input_size))


def _top_down(
    trunk: TransPoseNet, widths: Sequence[int], num_keypoints: int, codec: codecs.GaussianHeatmap
) -> PoseModel:
    return PoseModel(
        trunk,
        SimpleHead(trunk.channels[-1], num_keypoints, widths=widths),
        codec=codec,
        input_size=codec.input_size,
        stride=codec.stride,
        size_multiple=8,
    )
