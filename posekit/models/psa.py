"""Polarized self-attention: Liu et al., "Polarized Self-Attention: Towards High-quality Pixel-wise Regression", 2021.

The parallel layout, PSA(p), as the authors put it into HRNet: after the first 3x3 convolution of every residual
block, 1x1 convolutions without bias. That reading gives HRNet-W48 6.37 M more parameters, which is the step between
the published 63.8 M (UDP-Pose) and 70.1 M (UDP-Pose-PSA). Attention paths carry no batch norm, so this adds no
sums over a batch.

The paper and the authors' released code, which is for segmentation, differ in one place: which marks a place holds is
weighed by a softmax over the pooled channels in the paper (its equation for the spatial branch), while the code takes
the product first and then a softmax over places. The pose code was never released; the paper's form is the default.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PolarizedSelfAttention(nn.Module):
    """Weighs channels by where they matter and places by what they hold, and adds both: (B, C, h, w) -> same.

    Args:
        channels: C.
        released: the spatial branch as in the released code and not as in the paper.
    """

    def __init__(self, channels: int, *, released: bool = False):
        super().__init__()
        self.released = released
        half = channels // 2
        self.conv_q_right = nn.Conv2d(channels, 1, 1, bias=False)
        self.conv_v_right = nn.Conv2d(channels, half, 1, bias=False)
        self.conv_up = nn.Conv2d(half, channels, 1, bias=False)
        self.conv_q_left = nn.Conv2d(channels, half, 1, bias=False)
        self.conv_v_left = nn.Conv2d(channels, half, 1, bias=False)

    def channel_weights(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1) in (0, 1): a softmax over places pools half the channels, which then speak for all."""
        value = self.conv_v_right(x).flatten(2)  # (B, C/2, hw)
        query = self.conv_q_right(x).flatten(2).softmax(dim=2)  # (B, 1, hw)
        context = value @ query.transpose(1, 2)  # (B, C/2, 1)
        return torch.sigmoid(self.conv_up(context.unsqueeze(-1)))

    def spatial_weights(self, x: Tensor) -> Tensor:
        """(B, 1, h, w) in (0, 1): a softmax over pooled channels says which of them mark a place."""
        value = self.conv_v_left(x)  # (B, C/2, h, w)
        query = self.conv_q_left(x).mean(dim=(2, 3)).unsqueeze(1)  # (B, 1, C/2)
        if self.released:
            context = (query @ value.flatten(2)).softmax(dim=2)  # (B, 1, hw)
        else:
            context = query.softmax(dim=2) @ value.flatten(2)
        return torch.sigmoid(context.unflatten(2, value.shape[-2:]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channel_weights(x) + x * self.spatial_weights(x)
