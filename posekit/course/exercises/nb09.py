"""Exercises of notebook 09: the script that printed 7.10, the factor of four, and the depth of a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from posekit.course.exercises.framework import Exercise, Judge
from posekit.course.exercises.judges import choice, function, number, numbers
from posekit.course.lessons.nb09 import Layer


def _official(
    layers: Sequence[Layer], *, unit: float = 1024**3, transposed: str = "out", every: str = "out", factor: int = 1
) -> float:
    total = 0
    for layer in layers:
        cells = {"in": layer.cells_in, "out": layer.cells_out}
        total += factor * layer.weights * cells[transposed if layer.transposed else every]
    return total / unit


_PLAIN = Layer(weights=9 * 64 * 64, cells_in=64 * 48, cells_out=64 * 48, transposed=False)
_STRIDED = Layer(weights=9 * 64 * 128, cells_in=64 * 48, cells_out=32 * 24, transposed=False)
_TURNED = Layer(weights=16 * 256 * 256, cells_in=32 * 24, cells_out=64 * 48, transposed=True)
_CASES = [
    ("one 3x3 convolution", ([_PLAIN],)),
    ("two of them", ([_PLAIN, _PLAIN],)),
    ("one of stride 2", ([_STRIDED],)),
    ("one transposed", ([_TURNED],)),
    ("all together", ([_PLAIN, _STRIDED, _TURNED],)),
]
_SLIPS: list[tuple[str, Callable[..., float]]] = [
    ("divided by 1000³; the script divides by 1024³ and calls it GFLOPs", partial(_official, unit=1e9)),
    ("divided by 1024³ and doubled: no table counts a multiply-add twice", partial(_official, factor=2)),
    ("the transposed one is counted by its input cells, which is right in truth and not what the script does",
     partial(_official, transposed="in")),
    ("a convolution of stride 2 does its work at its output cells, not at its input's", partial(_official, every="in")),
    ("that is the number of operations; the table prints it divided by 1024³", partial(_official, unit=1)),
]  # fmt: skip


def _to_four_digits(expected: Any) -> Judge:
    return number(float(expected), rel=1e-4)


# The three transposed convolutions of SimpleBaseline-R50: 4x4 kernels, input cells, channels in and out.
_DECONVS = ((8 * 6, 2048, 256), (16 * 12, 256, 256), (32 * 24, 256, 256))
_TRUE = sum(16 * a * b * cells for cells, a, b in _DECONVS) / 1e9

EXERCISES = (
    Exercise(
        id="nb09-official",
        task="write `official`: a list of layers in, the figure that the HRNet script prints out",
        judge=function(_official, _CASES, judged_by=_to_four_digits, slips=_SLIPS),
        solution="""Every layer by its output cells, transposed or not, and the wrong billion:

```python
def official(layers):
    return sum(layer.weights * layer.cells_out for layer in layers) / 1024**3
```

On HRNet-W32 it gives 7.12, printed as 7.10; on SimpleBaseline-R50 8.99, printed as 8.90.""",
        answer=_official,
        wrong=(
            (partial(_official, unit=1e9), "divided by 1000³"),
            (partial(_official, factor=2), "doubled"),
            (partial(_official, transposed="in"), "input cells"),
            (partial(_official, every="in"), "stride 2"),
            (partial(_official, unit=1), "number of operations"),
            (lambda layers: layers[0].weights * layers[0].cells_out / 1024**3, "two of them"),
            (7.10, "function"),
        ),
        praise="one line, behind most GFLOPs figures of two sources",
    ),
    Exercise(
        id="nb09-four",
        task='give {"true": ..., "script": ...}, the giga-multiply-adds of the three transposed convolutions',
        judge=numbers({"true": _TRUE, "script": 4 * _TRUE}, rel=2e-3),
        solution="""Weights times input cells, layer by layer (4x4 kernels):

- 16 x 2048 x 256 weights at 8x6 cells: 0.403 G;
- 16 x 256 x 256 weights at 16x12 cells: 0.201 G;
- 16 x 256 x 256 weights at 32x24 cells: 0.805 G.

Together 1.409 G. Each layer has four times as many cells going out as coming in, so the script counts 5.637 G: 4.228 G
that nobody computes. Subtract them from its total and put the billion right, and 8.99 becomes 5.43.""",
        answer={"true": 1.409, "script": 5.637},
        wrong=(
            ({"true": 5.637, "script": 1.409}, "'true': 5.637 is too large by a factor of 4"),
            ({"true": 1.409, "script": 1.409}, "'script': 1.409 is too small by a factor of 4"),
            ({"true": 1.409, "script": 2.818}, "'script': 2.818 is too small by a factor of 2"),
            ({"true": 1.312, "script": 5.25}, "'true': 1.312 is a little too small"),  # divided by 1024^3
            ({"true": 0.7927, "script": 3.171}, "'true'"),  # 3x3 kernels
            ({"true": 1.409}, "'script' is missing"),
            (4.0, "dict"),
        ),
        praise="that is most of the difference between 8.90 in one source and 5.46 in the other",
    ),
    Exercise(
        id="nb09-depth",
        task="choose the reading of the module: a, b, c or d",
        judge=choice(
            "b",
            because={
                "a": "2 x 16,384 + 6 x 36,864 weights at 3,072 cells are 0.73 in units of 1024³; the table adds 1.2 "
                "per module",
                "c": "6 x 9 x 256 x 256 weights at 3,072 cells are about 10 in units of 1024³, as much as the whole "
                "network of four modules",
                "d": "four figures that grow by 1.2 each are three equations for one unknown; rounding to a tenth "
                "leaves the number of bottlenecks between 5.5 and 6.5",
            },
        ),
        solution="""**b.** A bottleneck has 256 x 64 + 9 x 64 x 64 + 64 x 256 = 69,632 weights. At 64 x 48 = 3,072 cells
that is 213.9 million multiply-adds, or 0.199 in units of 1024³. The table grows by (9.6 - 6.0) / 3 = 1.2 per module,
and 1.2 / 0.199 = 6.02.

The 32x24 rows say the same: 0.3 / 0.0498 = 6.02. Reading a gives 0.73, reading c about 10. In parameters, six
bottlenecks are 0.42 M per module, which also brings DPN4_64 to its printed 3.3 M.""",
        answer="b",
        wrong=(("a", "0.73"), ("c", "about 10"), ("d", "three equations"), ("e", "not among"), (6, "not among")),
        praise="a garbled table and a column of costs are enough to rebuild a network",
    ),
)
