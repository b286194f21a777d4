"""Resolution and input size in training: what the recorded ablations say about the picture and the ruler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from posekit import experiments
from posekit.annotations import People
from posekit.course.lessons.nb08 import Size, anywhere, ceiling, cells_on_person, cut
from posekit.experiments.ablations import PROFILES, Paired, paired
from posekit.experiments.ablations.reading import recorded_arms
from posekit.geometry import BOX_PADDING
from posekit.viz import COLOURS, INK, MUTED

Runs = Mapping[int, Mapping[str, float]]  # metrics in percent by seed
NOT_YET = "not recorded yet"
NETWORKS = {"HRNet": ("blue", "-", "o"), "SimpleBaseline": ("vermillion", "--", "s")}


def interval(runs: Runs, metric: str) -> Paired | None:
    """Mean of a metric over seeds with its interval; None without a run."""
    return paired([numbers[metric] for numbers in runs.values()]) if runs else None


def difference(better: Runs, worse: Runs, metric: str) -> Paired | None:
    """By how much a metric is higher, over the seeds that both have; None without such a seed."""
    seeds = sorted(set(better) & set(worse))
    return paired([better[seed][metric] - worse[seed][metric] for seed in seeds]) if seeds else None


def written(found: Paired | None) -> str:
    """A mean with its 95 % interval and seeds, in words."""
    if found is None:
        return NOT_YET
    if len(found.values) < 2:
        return f"{found.mean:.1f} (one seed)"
    return f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}], {len(found.values)} seeds"


def arms_table(ablation: str) -> str:
    """A line for each arm: AP as published and read with the argmax and DARK; and mean OKS."""
    lines = []
    for arm, runs in recorded_arms(ablation).items():
        if not runs:
            lines.append(f"{arm:<24} {NOT_YET}")
            continue
        ways = {name: interval(runs, metric) for name, metric in WAYS.items()}
        others = "  ".join(f"{name} {found.mean:4.1f}" for name, found in ways.items() if found)
        lines.append(f"{arm:<24} AP {written(interval(runs, 'AP')):<28}  {others}")
    return "\n".join(lines)


WAYS = {"argmax": "AP, argmax", "DARK": "AP, dark", "| mean OKS": "mean OKS"}


def sizes() -> dict[str, Size]:
    """The quick profile's input sizes by name, smallest first."""
    return {str(name): size for name, size in PROFILES["quick"].sizes.items()}


def input_size_figure(people: People, arms: Mapping[str, Runs]) -> Any:
    """Headline figure: AP by input size under its ceilings, and HRNet's gain over SimpleBaseline.

    Args:
        people: that the ceilings are measured on.
        arms: of the ablation "input_size".
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.6, 4.5))
    x = {name: np.log2(size[0]) for name, size in sizes().items()}
    for decoder, dash in (("quarter", (0, (6, 2))), ("argmax", ":")):
        top = [ceiling(people, size, 4, decoder)[1] for size in sizes().values()]
        left.plot(x.values(), top, color=MUTED, linestyle=dash, marker="", label=f"ceiling, {decoder}")
    for aside, (name, (colour, dash, marker)) in zip((-0.02, 0.02), NETWORKS.items()):  # neither hides the other
        found = {size: interval(arms[f"{name}, {size}"], "AP") for size in x}
        _errorbars(left, {size: at + aside for size, at in x.items()}, found, COLOURS[colour], dash, marker, name)
    gains = {size: difference(arms[f"HRNet, {size}"], arms[f"SimpleBaseline, {size}"], "AP") for size in x}
    _errorbars(right, x, gains, COLOURS["green"], "-", "D", "HRNet minus SimpleBaseline")
    right.axhline(0, color=INK, linestyle="-", marker="", linewidth=1)
    left.set(ylim=(-3, 103), ylabel="AP", title="AP and what the cells allow")
    right.set(ylabel="AP gained", title="HRNet's gain, paired by seed")
    for ax in (left, right):
        ax.set_xticks(list(x.values()), [f"{h}x{w}" for h, w in sizes().values()])
        ax.set_xlabel("input size, px (stride 4)")
        ax.set_xlim(min(x.values()) - 0.12, max(x.values()) + 0.12)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    if not any(gains.values()):
        right.set_yticks([])
        right.text(0.5, 0.5, f"trained pairs: {NOT_YET}", transform=right.transAxes, ha="center", color=MUTED)
    missing = [name for name in NETWORKS if not all(arms[f"{name}, {size}"] for size in x)]
    if missing:
        text = f"{NOT_YET}, or in part: {', '.join(missing)}"
        left.text(0.98, 0.03, text, transform=left.transAxes, ha="right", color=MUTED, fontsize=9)
    return figure


def _errorbars(
    ax: Any, x: Mapping[str, float], found: Mapping[str, Paired | None], colour: str, dash: str, marker: str, name: str
) -> None:
    """Means with 95 % intervals where there are runs; without an interval where there is but one."""
    there = {key: one for key, one in found.items() if one is not None}
    if not there:
        return
    half = [one.high - one.mean if len(one.values) > 1 else 0.0 for one in there.values()]
    ax.errorbar([x[key] for key in there], [one.mean for one in there.values()], yerr=half, color=colour,
                linestyle=dash, marker=marker, markersize=6, capsize=4, label=name)  # fmt: skip


def split_gain(metric: str) -> dict[str, Paired | None]:
    """What HRNet gains from (48, 32) to (96, 64) at stride 4, and its two parts by way of (96, 64) at stride 8."""
    by_size, by_branch = recorded_arms("input_size"), recorded_arms("hrnet_branches")
    return {
        "in all": difference(by_size["HRNet, base"], by_size["HRNet, smallest"], metric),
        "the picture, at equal cells": difference(by_branch["1/8"], by_size["HRNet, smallest"], metric),
        "the finer branch, at equal pictures": difference(by_branch["1/4"], by_branch["1/8"], metric),
    }


def cells_figure(people: People) -> Any:
    """Mean OKS against cells on the person: HRNet on larger pictures, and answering from finer branches."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8.2, 4.6))
    cells = np.geomspace(4, 32, 40)
    one = cut(people, (96, 64))
    for decoder, dash in (("quarter", (0, (6, 2))), ("argmax", ":")):
        top = [one.oks(anywhere(one.keypoints, 96 / BOX_PADDING / n, decoder)) for n in cells]
        ax.plot(cells, top, color=MUTED, linestyle=dash, marker="", label=f"ceiling, {decoder}")
    by_size = recorded_arms("input_size")
    groups: dict[str, Mapping[float, Runs]] = {
        "HRNet, larger pictures": {cells_on_person(s, 4): by_size[f"HRNet, {name}"] for name, s in sizes().items()},
        "HRNet at 96x64, finer branches": _by_stride("hrnet_branches"),
    }
    looks = (("blue", "-", "o"), ("vermillion", "--", "s"))
    missing = []
    for aside, (name, runs), (colour, dash, marker) in zip((1 / 1.008, 1.008), groups.items(), looks):
        found = {str(n): interval(arm, "mean OKS") for n, arm in sorted(runs.items())}
        part = {key: None if one is None else _share(one) for key, one in found.items()}
        _errorbars(ax, {key: aside * float(key) for key in part}, part, COLOURS[colour], dash, marker, name)
        missing += [name] if None in part.values() else []
    ticks = sorted({round(n, 1) for runs in groups.values() for n in runs})
    ax.set(xscale="log", xlim=(4, 32), ylim=(0, 1.02), xlabel="cells on the person, top to bottom", ylabel="mean OKS")
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.legend(loc="lower right")
    if missing:
        ax.text(0.02, 0.03, f"{NOT_YET}, or in part:\n" + "\n".join(missing), transform=ax.transAxes, color=MUTED)
    return figure


def _by_stride(ablation: str) -> dict[float, Runs]:
    """Arms "1/4", "1/8", ... at (96, 64) by the cells they lay on a person."""
    return {cells_on_person((96, 64), int(arm[2:])): runs for arm, runs in recorded_arms(ablation).items()}


def _share(found: Paired) -> Paired:
    return paired([value / 100 for value in found.values])


def published_rows(claim: str) -> list[dict[str, str]]:
    """The published rows that a claim rests on."""
    return experiments.published_rows(next(one for one in experiments.claims() if one.id == claim))
