"""ResNet: He et al., "Deep Residual Learning for Image Recognition", 2016, and the blocks the other networks borrow.

The stride of a bottleneck sits in its 3x3 convolution, as in the files everybody loads. Parameter names are the
usual ones (conv1, bn1, layer1.0.conv1, ... layer4.2.bn3), so ImageNet files fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from posekit.models.base import init_kaiming

Attention = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. ``attention``, if any, follows the first 3x3."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1, *, attention: Attention | None = None):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.attention = attention(width) if attention else None
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = projection(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        if self.attention is not None:
            out = self.attention(out)
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to four times the width, and a shortcut. ``attention``, if any, follows the 3x3."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int = 1, *, dilation: int = 1, attention: Attention | None = None
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.attention = attention(width) if attention else None
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        if self.attention is not None:
            out = self.attention(out)
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """The 1x1 convolution and batch norm of a shortcut that changes size or width; None where it does neither."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def block_stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    width: int,
    count: int,
    *,
    stride: int = 1,
    attention: Attention | None = None,
) -> nn.Sequential:
    """``count`` blocks one after the other, the first of which changes size and width."""
    first = block(in_channels, width, stride, attention=attention)
    others = (block(width * block.expansion, width, attention=attention) for _ in range(count - 1))
    return nn.Sequential(first, *others)


class ResNet(nn.Module):
    """Stem (7x7 stride 2, max-pool) and up to four stages, the second and later ones of stride 2.

    ``forward`` takes (B, 3, H, W) and returns one map per stage, finest (1/4) first.

    Args:
        counts: blocks per stage; fewer than four entries stop at a coarser stride than 1/32.
        block: BasicBlock or Bottleneck.
        widths: width of each stage before the block's expansion.
    """

    def __init__(
        self,
        counts: Sequence[int],
        *,
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck,
        widths: Sequence[int] = (64, 128, 256, 512),
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stages = tuple(f"layer{i + 1}" for i in range(len(counts)))
        channels = widths[0]
        for name, count, width in zip(self.stages, counts, widths):
            stage = block_stage(block, channels, width, count, stride=1 if name == "layer1" else 2)
            self.add_module(name, stage)
            channels = width * block.expansion
        self.channels = tuple(width * block.expansion for width in widths[: len(counts)])
        init_kaiming(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for name in self.stages:
            x = self.get_submodule(name)(x)
            features.append(x)
        return features


def resnet50() -> ResNet:
    return ResNet((3, 4, 6, 3))


def resnet101() -> ResNet:
    return ResNet((3, 4, 23, 3))


def resnet152() -> ResNet:
    return ResNet((3, 8, 36, 3))


def tiny_resnet() -> ResNet:
    """Three stages, 24, 48 and 96 channels: 1/16 is coarse enough for crops of 64 to 128 pixels.

    The second block of both coarse stages is there to see far: 211 pixels behind two transposed convolutions, where
    one block each sees 115, too little to tell from the face which ankle is the left one.
    """
    return ResNet((1, 2, 2), block=BasicBlock, widths=(24, 48, 96))
