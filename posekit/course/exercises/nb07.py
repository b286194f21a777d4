"""Exercises of notebook 07: an exchange unit, HRNet's parameters to the unit, and Table 6."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.course.exercises.framework import Exercise
from posekit.course.exercises.judges import array, choice, function, number
from posekit.models.hrnet import ExchangeUnit

# 1. One exchange unit

Paths = Sequence[Sequence[Callable[[Tensor], Tensor]]]


def _exchange(branches: list[Tensor], paths: Paths) -> list[Tensor]:
    outputs = []
    for i, row in enumerate(paths):
        terms = [path(x) for path, x in zip(row, branches)]
        terms = [F.interpolate(t, size=branches[i].shape[-2:]) for t in terms]
        outputs.append(F.relu(torch.stack(terms).sum(dim=0)))
    return outputs


def _altered(
    branches: list[Tensor], paths: Paths, *, mode: str = "nearest", own: bool = True, mean: bool = False,
    each: bool = False, relu: bool = True,
) -> list[Tensor]:  # fmt: skip
    outputs = []
    for i, row in enumerate(paths):
        terms = [F.interpolate(p(x), size=branches[i].shape[-2:], mode=mode) for p, x in zip(row, branches)]
        kept = [F.relu(t) if each else t for j, t in enumerate(terms) if own or j != i]
        total = torch.stack(kept).mean(dim=0) if mean else torch.stack(kept).sum(dim=0)
        outputs.append(F.relu(total) if relu and not each else total)
    return outputs


_SLIPS: list[tuple[str, Callable[..., list[Tensor]]]] = [
    ("the last ReLU is missing: sum first, then one ReLU", partial(_altered, relu=False)),
    (
        "you put a ReLU on every term; a term may be negative, only the sum goes through the ReLU",
        partial(_altered, each=True),
    ),
    (
        "that is bilinear upsampling; HRNet copies the nearest cell, which is F.interpolate's default",
        partial(_altered, mode="bilinear"),
    ),
    ("the branch's own map is missing from its sum; paths[i][i] hands it on as it is", partial(_altered, own=False)),
    ("you average the branches; the unit sums them", partial(_altered, mean=True)),
]


def _unit(channels: Sequence[int], seed: int) -> ExchangeUnit:
    """A unit whose normalisation has seen something, so that terms of both signs come out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unit = ExchangeUnit(channels, range(len(channels)))
        for module in unit.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.bias, -1, 1)
    return unit.eval().requires_grad_(False)


def _judge_exchange(answer: Any) -> str | None:
    """Against the package's own module, on two, three and four branches."""
    if not callable(answer):
        return f"give a function, not {type(answer).__name__}"
    for count in (2, 3, 4):
        unit = _unit([4 * 2**b for b in range(count)], seed=count)
        generator = torch.Generator().manual_seed(count)
        branches = [torch.randn(2, 4 * 2**b, 16 >> b, 24 >> b, generator=generator) for b in range(count)]
        paths = [list(row.children()) for row in unit]
        expected = unit([x.clone() for x in branches])
        given = answer([x.clone() for x in branches], paths)
        if given is ...:
            raise NotImplementedError
        off = _compare(given, expected)
        if off is None:
            continue
        for sentence, slip in _SLIPS:
            if _compare(given, slip(branches, paths)) is None:
                return sentence
        return f"with {count} branches: {off}"
    return None


def _compare(given: Any, expected: Sequence[Tensor]) -> str | None:
    if not isinstance(given, (list, tuple)):
        return f"give a list of maps, one per output, not {type(given).__name__}"
    if len(given) != len(expected):
        return f"your list has {len(given)} maps; there is one output per branch, {len(expected)} in all"
    for i, (ours, theirs) in enumerate(zip(expected, given)):
        off = array(ours, rel=1e-4, tol=1e-5, what=f"output {i}")(theirs)
        if off:
            return off
    return None


# 2. Every parameter


def count_parameters(
    width: int, joints: int, *, norm: bool = True, bias: bool = True, every_output: bool = False, shortcut: bool = True
) -> int:
    """HRNet's parameters from arithmetic alone; the switches leave out what is easily forgotten."""

    def conv(kernel: int, inputs: int, outputs: int) -> int:
        return kernel**2 * inputs * outputs + 2 * outputs * norm

    total = conv(3, 3, 64) + conv(3, 64, 64)
    total += sum(conv(1, inputs, 64) + conv(3, 64, 64) + conv(1, 64, 256) for inputs in (64, 256, 256, 256))
    total += conv(1, 64, 256) * shortcut
    total += conv(3, 256, width) + conv(3, 256, 2 * width)  # transition 1
    total += conv(3, 2 * width, 4 * width) + conv(3, 4 * width, 8 * width)  # the new branches of 2 and 3
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        c = [width * 2**b for b in range(stage)]
        for module in range(modules):
            total += sum(8 * conv(3, channels, channels) for channels in c)
            last = stage == 4 and module == modules - 1
            for i in range(1 if last and not every_output else stage):
                for j in range(stage):
                    if j > i:
                        total += conv(1, c[j], c[i])
                    elif j < i:
                        total += (i - j - 1) * conv(3, c[j], c[j]) + conv(3, c[j], c[i])
    return total + width * joints + joints * bias


# 3. Table 6

_MODULES = [(stage, module) for stage, count in ((2, 1), (3, 4), (4, 3)) for module in range(1, count + 1)]
_KEPT = {"a": [(4, 3)], "b": [(2, 1), (3, 4), (4, 3)]}
_BECAUSE = {
    "a": "something else did change: look at the parameters and multiply-adds over the three drawings",
    "c": "compare HRNet-W48: it more than doubles the parameters of W32 for 0.7 AP, so capacity alone looks too weak; "
    "it is not ruled out, but it is not shown either",
    "d": "row (a) still has its transitions, which carry the map down, and one unit at the end, which takes it up",
}


def _judge_table(answer: Any) -> str | None:
    if not isinstance(answer, Mapping) or set(answer) != {"a", "b", "advice"}:
        return 'give a dict with the keys "a", "b" and "advice"'
    for row, kept in _KEPT.items():
        try:
            given = {(int(stage), int(module)) for stage, module in answer[row]}
        except (TypeError, ValueError):
            return f"row ({row}): give a list of (stage, module) pairs"
        unknown = given - set(_MODULES)
        if unknown:
            stage, module = min(unknown)
            return f"row ({row}): there is no module {module} in stage {stage}; stages 2, 3, 4 have 1, 4, 3, from 1"
        if given == set(kept):
            continue
        if row == "a" and given == set(_KEPT["b"]):
            return "row (a): that is row (b); (a) keeps the very last unit alone"
        if given - set(kept):
            stage, module = min(given - set(kept))
            ends_stage = (stage, module) in _KEPT["b"]
            why = "stands between two stages" if ends_stage else "is not the last of its stage"
            return f"row ({row}): the unit of stage {stage}, module {module} {why}, so it is removed"
        return f"row ({row}): what you keep is right, but {len(kept) - len(given)} more is kept; the heatmaps need it"
    return choice("b", because=_BECAUSE)(answer["advice"])


_RIGHT = {**_KEPT, "advice": "b"}

EXERCISES = (
    Exercise(
        id="nb07-exchange",
        task="write `exchange`: for every output, bring all branches to its size, sum, one ReLU",
        judge=_judge_exchange,
        solution="""`paths[i][j]` does everything but the upsampling. `F.interpolate` to the size that a map already has
changes nothing, so one line serves all three cases:

```python
def exchange(branches, paths):
    outputs = []
    for i, row in enumerate(paths):
        size = branches[i].shape[-2:]
        terms = [F.interpolate(path(x), size=size) for path, x in zip(row, branches)]
        outputs.append(F.relu(sum(terms)))
    return outputs
```""",
        answer=_exchange,
        wrong=(
            (partial(_altered, relu=False), "last ReLU"),
            (partial(_altered, each=True), "every term"),
            (partial(_altered, mode="bilinear"), "bilinear"),
            (partial(_altered, own=False), "own map"),
            (partial(_altered, mean=True), "average"),
            (lambda branches, paths: _exchange(branches, paths)[0], "list of maps"),
            (lambda branches, paths: _exchange(branches, paths)[:1], "one output per branch"),
            (lambda branches, paths: branches, "with 2 branches"),
            (lambda branches, paths: [row[0](x) for row, x in zip(paths, branches)], "raised RuntimeError"),
            (3, "function"),
        ),
        praise="it agrees with the package's module on two, three and four branches",
    ),
    Exercise(
        id="nb07-count",
        task="write `count(width, joints)`: HRNet's parameters to the unit, without torch",
        judge=function(
            count_parameters,
            [("width 32, 17 joints", (32, 17)), ("width 48, 17 joints", (48, 17)), ("width 32, 16 joints", (32, 16))],
            judged_by=lambda expected: number(expected, rel=0, tol=0.5),
            slips=[
                ("batch norm is missing: two parameters per output channel", partial(count_parameters, norm=False)),
                (
                    "one bias per joint is missing: the head is the only convolution that has one",
                    partial(count_parameters, bias=False),
                ),
                (
                    "the last unit of stage 4 computes only output 0; you count all four",
                    partial(count_parameters, every_output=True),
                ),
                (
                    "the first bottleneck of stage 1 has a 1x1 on its shortcut, from 64 to 256",
                    partial(count_parameters, shortcut=False),
                ),
            ],
        ),
        solution="""```python
def count(width, joints):
    def conv(kernel, inputs, outputs):
        return kernel**2 * inputs * outputs + 2 * outputs

    total = conv(3, 3, 64) + conv(3, 64, 64)
    total += sum(conv(1, c, 64) + conv(3, 64, 64) + conv(1, 64, 256) for c in (64, 256, 256, 256))
    total += conv(1, 64, 256)
    total += conv(3, 256, width) + conv(3, 256, 2 * width)
    total += conv(3, 2 * width, 4 * width) + conv(3, 4 * width, 8 * width)
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        c = [width * 2**b for b in range(stage)]
        for module in range(modules):
            total += sum(8 * conv(3, x, x) for x in c)
            outputs = 1 if stage == 4 and module == 2 else stage
            for i in range(outputs):
                for j in range(stage):
                    if j > i:
                        total += conv(1, c[j], c[i])
                    elif j < i:
                        total += (i - j - 1) * conv(3, c[j], c[j]) + conv(3, c[j], c[i])
    return total + width * joints + joints
```""",
        answer=count_parameters,
        wrong=(
            (partial(count_parameters, norm=False), "two parameters per output channel"),
            (partial(count_parameters, bias=False), "one bias per joint"),
            (partial(count_parameters, every_output=True), "only output 0"),
            (partial(count_parameters, shortcut=False), "shortcut"),
            (lambda width, joints: 28_536_113, "width 48"),
            (lambda width, joints: 28.5, "too small"),
            (28_536_113, "function"),
        ),
        praise="equal to the unit, for both published widths and another skeleton",
    ),
    Exercise(
        id="nb07-table6",
        task='say which (stage, module) pairs keep their unit in rows "a" and "b", and choose the advice',
        judge=_judge_table,
        solution="""```python
answer = {"a": [(4, 3)], "b": [(2, 1), (3, 4), (4, 3)], "advice": "b"}
```

Row (a) keeps the very last unit, without which only the finest branch would reach the heatmaps. Row (b) keeps the last
unit of each stage. From (a) to (c) the network also gains 2.2 M parameters and 0.4 G multiply-adds. The gain in AP is
much larger than such a difference buys elsewhere, so exchange is the likely reason. A control of equal cost would make
it the shown one: give the removed units' parameters back as convolutions that stay within their branch.""",
        answer=_RIGHT,
        wrong=(
            ({**_RIGHT, "a": _KEPT["b"]}, "that is row (b)"),
            ({**_RIGHT, "a": []}, "heatmaps need it"),
            ({**_RIGHT, "b": _MODULES}, "not the last of its stage"),
            ({**_RIGHT, "a": [(2, 1), (4, 3)]}, "between two stages"),
            ({**_RIGHT, "b": [(2, 1), (4, 3)]}, "1 more is kept"),
            ({**_RIGHT, "b": [(2, 0), (3, 3), (4, 2)]}, "there is no module 0"),
            ({**_RIGHT, "b": 3}, "pairs"),
            ({**_RIGHT, "advice": "a"}, "did change"),
            ({**_RIGHT, "advice": "c"}, "W48"),
            ({**_RIGHT, "advice": "d"}, "transitions"),
            ("b", "dict"),
        ),
        praise="an ablation shows what it shows only if nothing else moved",
    ),
)
