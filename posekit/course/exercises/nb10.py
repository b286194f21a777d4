"""Exercises of notebook 10: the SR head itself, the flip test's shift at stride 1, and what a table lets you say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.course.exercises.framework import Exercise, Judge
from posekit.course.exercises.judges import choice, number


class _Shuffle(nn.Module):
    """The right head, and with other arguments what people write instead."""

    def __init__(
        self,
        channels: int,
        keypoints: int,
        factor: int,
        *,
        relu: bool = True,
        grouped: bool = True,
        kernel: int = 9,
        padding: int | None = None,
        bias: bool = True,
        shuffle: str = "pixel",
        values: int | None = None,
    ):
        super().__init__()
        self.factor, self.keypoints, self.shuffle = factor, keypoints, shuffle
        self.embed = nn.Conv2d(channels, keypoints * 4, 1)
        self.relu = nn.ReLU() if relu else nn.Identity()
        out, groups = keypoints * (factor**2 if values is None else values), keypoints if grouped else 1
        pad = kernel // 2 if padding is None else padding
        self.grouped = nn.Conv2d(keypoints * 4, out, kernel, padding=pad, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.relu(self.embed(x)))
        if self.shuffle == "pixel":
            return F.pixel_shuffle(x, self.factor)
        b, _, h, w = x.shape
        if self.shuffle == "reshape":
            return x.reshape(b, self.keypoints, h * self.factor, w * self.factor)
        return x  # not enlarged


def make_head(channels: int, keypoints: int, factor: int) -> nn.Module:
    """(B, channels, h, w) -> (B, keypoints, factor h, factor w): the SR head with embedding 4 and kernel 9."""
    return _Shuffle(channels, keypoints, factor)


def _variant(**changes: Any) -> Any:
    return lambda channels, keypoints, factor: _Shuffle(channels, keypoints, factor, **changes)


_CASES = ((32, 17, 4), (8, 3, 2))  # HRNet-W32's features and COCO's joints; a small one, to look inside


def _judge_head(answer: Any) -> str | None:
    if not callable(answer) or isinstance(answer, nn.Module):
        return "give the function `make_head`, which builds and returns the module"
    for case in _CASES:
        head = answer(*case)
        if head is ...:
            raise NotImplementedError
        if not isinstance(head, nn.Module):
            return f"`make_head` returned {type(head).__name__}; it should return an nn.Module"
        off = _judge_module(head.eval(), *case)
        if off:
            return f"make_head{case}: {off}"
    return None


def _judge_module(head: nn.Module, channels: int, keypoints: int, factor: int) -> str | None:
    right = make_head(channels, keypoints, factor)
    x = torch.rand(2, channels, 12, 10, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.inference_mode():
        given = head(x)
    shape = (2, keypoints, 12 * factor, 10 * factor)
    if tuple(given.shape) != shape:
        return f"{tuple(x.shape)} became {tuple(given.shape)}; it should be {shape}"
    ours, theirs = (sum(p.numel() for p in module.parameters()) for module in (right, head))
    if theirs != ours:
        return _parameters(theirs, ours, channels, keypoints, factor)
    if not _adopt(right, head):
        return "the number of parameters is right, but the layers are not a 1x1 and a grouped 9x9 convolution"
    with torch.inference_mode():
        if torch.allclose(head(x), right(x), atol=1e-5):
            return None
        for sentence, changes in _SLIPS.items():
            slip = _Shuffle(channels, keypoints, factor, **changes)
            if _adopt(slip, head) and torch.allclose(head(x), slip(x), atol=1e-5):
                return sentence
    return "shape and parameters are right, the values are not: 1x1, ReLU, grouped 9x9, pixel shuffle, in this order"


_SLIPS: Mapping[str, Mapping[str, Any]] = {
    "the ReLU is missing: two convolutions in a row are one": {"relu": False},
    "a reshape takes a keypoint's r² values for rows of the map; F.pixel_shuffle lays them out inside each cell": {
        "shuffle": "reshape"
    },
}


def _parameters(theirs: int, ours: int, channels: int, keypoints: int, factor: int) -> str:
    slips: Mapping[str, Mapping[str, Any]] = {
        "your second convolution is not grouped: every keypoint reads all embeddings": {"grouped": False},
        "the second convolution has no bias": {"bias": False},
    }
    for sentence, changes in slips.items():
        if theirs == sum(p.numel() for p in _Shuffle(channels, keypoints, factor, **changes).parameters()):
            return f"{theirs:,} parameters instead of {ours:,}: {sentence}"
    return f"{theirs:,} parameters instead of {ours:,}"


@torch.no_grad()
def _adopt(module: nn.Module, source: nn.Module) -> bool:
    """Copy parameters by their order; False where the shapes differ."""
    pairs = list(zip(module.parameters(), source.parameters()))
    if any(a.shape != b.shape for a, b in pairs):
        return False
    for a, b in pairs:
        a.copy_(b)
    return True


_AREA, _K, _CROP, _BOX = 12_000.0, 0.05, 256.0, 320.0
_OFF = 0.5 * _BOX / _CROP
_OKS = math.exp(-(_OFF**2) / (2 * _AREA * _K**2))
_SHIFT = {"without": 0.0, "with": 0.5, "picture": _OFF, "oks": _OKS, "helps": False}
_WORDS: Mapping[str, Judge] = {
    "without": number(
        0.0, tol=1e-9, unit="px", slips={"that is the case of stride 4; here s = 1": 1.5, "that is with a shift": 0.5}
    ),
    "with": number(
        0.5,
        unit="px",
        slips={
            "give the size of the miss, without its sign": -0.5,
            "one cell is one pixel here, but only one of the two averaged maps moves": 1.0,
            "that is without the shift": 0.0,
        },
    ),
    "picture": number(
        _OFF,
        unit="px",
        slips={
            "the crop is a smaller copy of the box: its pixels are larger in the picture, not smaller": 0.5 * 256 / 320,
            "that is in pixels of the crop": 0.5,
        },
    ),
    "oks": number(
        _OKS,
        rel=2e-4,
        slips={
            "the exponent is -d² / (2 s² k²) with s² the area; the 2 is missing": _OKS**2,
            "d enters in pixels of the picture, as the area does": math.exp(-(0.5**2) / (2 * _AREA * _K**2)),
            "d is squared": math.exp(-_OFF / (2 * _AREA * _K**2)),
            "that is the exponent, not the OKS": 1 - _OKS,
        },
    ),
    "helps": choice(False, because={True: "compare 'with' and 'without': which of them misses by less?"}),
}


def _judge_shift(answer: Any) -> str | None:
    if not isinstance(answer, Mapping):
        return f"give a dict with the keys {', '.join(_SHIFT)}, not {type(answer).__name__}"
    for key, judge in _WORDS.items():
        if key not in answer:
            return f"'{key}' is missing; give {', '.join(_SHIFT)}"
        if key == "helps" and not isinstance(answer[key], bool):
            return "'helps': give True or False"
        off = judge(answer[key])
        if off:
            return f"'{key}': {off}"
    return None


_HEAD_SOLUTION = """```python
class Head(nn.Module):
    def __init__(self, channels, keypoints, factor):
        super().__init__()
        self.factor = factor
        self.embed = nn.Conv2d(channels, keypoints * 4, 1)
        self.grouped = nn.Conv2d(keypoints * 4, keypoints * factor**2, 9, padding=4, groups=keypoints)

    def forward(self, x):
        return F.pixel_shuffle(self.grouped(F.relu(self.embed(x))), self.factor)


def make_head(channels, keypoints, factor):
    return Head(channels, keypoints, factor)
```

For HRNet-W32: 32 x 68 + 68 = 2,244 for the embedding and 81 x 4 x 272 + 272 = 88,400 for the grouped convolution,
90,644 together: the table's 0.09 M. Without groups the second layer alone would have 1.5 M."""

EXERCISES = (
    Exercise(
        id="nb10-head",
        task="write `make_head`, which builds the SR head: 1x1 to four values a keypoint, ReLU, grouped 9x9, shuffle",
        judge=_judge_head,
        solution=_HEAD_SOLUTION,
        answer=make_head,
        wrong=(
            (_variant(grouped=False), "not grouped"),
            (_variant(relu=False), "ReLU is missing"),
            (_variant(shuffle="reshape"), "pixel_shuffle"),
            (_variant(padding=0), "became"),
            (_variant(shuffle="none"), "became (2, 272, 12, 10)"),
            (_variant(bias=False), "no bias"),
            (_variant(kernel=7), "parameters instead of 90,644"),
            (lambda *_: torch.zeros(1), "nn.Module"),
            (nn.Identity(), "function"),
        ),
        praise="90,644 parameters on HRNet-W32: the table's 0.09 M",
    ),
    Exercise(
        id="nb10-shift",
        task='give {"without": px, "with": px, "picture": px, "oks": 0 to 1, "helps": True or False}',
        judge=_judge_shift,
        solution=f"""With s = 1 the bias is (s - 1)/2 - k s/2 = -k/2:

- without a shift 0 px, with one cell 0.5 px;
- the crop shows 320 px of the picture on 256 px, so one of its pixels is 1.25 px: 0.625 px;
- OKS = exp(-0.625² / (2 x 12,000 x 0.05²)) = exp(-0.0065) = {_OKS:.4f}.

It does not help: it costs. At 256x192 it costs so little that AP will hardly show it; at
our size it shows, see row U02. The person's size cancels: in a box half as
tall, the miss in the picture is half as long and the area a quarter. The crop's size does not: at half the size, one of
its pixels covers twice as much, and the exponent is four times as large.""",
        answer=_SHIFT,
        wrong=(
            ({**_SHIFT, "without": 1.5}, "stride 4"),
            ({**_SHIFT, "with": 1.0}, "only one of the two"),
            ({**_SHIFT, "with": -0.5}, "without its sign"),
            ({**_SHIFT, "picture": 0.4}, "larger in the picture"),
            ({**_SHIFT, "picture": 0.5}, "pixels of the crop"),
            ({**_SHIFT, "oks": _OKS**2}, "the 2 is missing"),
            ({**_SHIFT, "oks": math.exp(-0.25 / 60)}, "pixels of the picture"),
            ({**_SHIFT, "helps": True}, "misses by less"),
            ({**_SHIFT, "helps": "no"}, "True or False"),
            ({"without": 0}, "'with' is missing"),
            (0.5, "dict"),
        ),
        praise="a bias that is too small to be noticed can stay in a configuration for years",
    ),
    Exercise(
        id="nb10-claim",
        task="give the set of statements that the table and this notebook support, such as {'a', 'f'}",
        judge=choice(
            {"a", "c"},
            because={
                "b": "the table never leaves the flip test out, and rescoring and OKS-NMS are not what *Post.* stands "
                "for: its note says 'empirical shift'",
                "d": "the table reads simple heads with the quarter offset at best; DARK is not in it",
                "e": "the bound for a perfect network at 256x192 is a tenth of that loss (notebook 05); the rest comes "
                "from outputs that are not their target",
                "f": "the offset is a comparison of a few cells a joint; the finer map has 16 times as many cells to "
                "compute and to search",
            },
        ),
        solution="""**a** and **c**.

- a: arithmetic. Leaving out the offset moves an answer by at most a quarter of a cell on each axis; at stride 1 that is
  a quarter of a pixel.
- c: read the rows: 72.2 over 71.7, 75.4 over 74.5, 73.1 over 71.8, 74.8 over 74.0. One run each, so "in this table".
- b: *Post.* is the empirical shift alone. Every number there has the flip test.
- d: never compared in the table. Section 3 reads every head with DARK as well: look there before you say it.
- e: the bound in row S02 is a tenth of it.
- f: the offset is the cheapest step of the whole pipeline.""",
        answer={"a", "c"},
        wrong=(
            ({"a", "b", "c"}, "empirical shift"),
            ({"c", "d"}, "DARK is not in it"),
            ({"a", "c", "e"}, "a tenth of that loss"),
            ({"a", "c", "f"}, "16 times"),
            ({"a"}, "1 of 2 found"),
            ("g", "not among"),
        ),
        praise='"needs no post-processing" is true of a quarter of a pixel, and of no more',
    ),
)
