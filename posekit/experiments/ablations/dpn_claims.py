"""Ablations for the claims of the DPN slides.

Tiny networks on small crops fill the first cells of each table; at the papers' size all of its cells are arms.
"""

from __future__ import annotations

from posekit.experiments.ablations import arms
from posekit.experiments.ablations.definition import Ablation, Arm, Contrast, gain


def _pyramid_or_ones(*modules: int) -> dict[str, Arm]:
    """Table II: width 64."""
    return {f"{name}, {n}": arms.dpn(n, d) for n in modules for name, d in (("DPM", "decreasing"), ("ones", "ones"))}


def _both_orders(*modules: int) -> dict[str, Arm]:
    """Table V: width 32."""
    return {
        f"{name}, {n}": arms.dpn_32(n, d)
        for n in modules
        for name, d in (("DPM", "decreasing"), ("reversed", "reversed"))
    }


def _gains(other: str, published: dict[int, str]) -> tuple[Contrast, ...]:
    return tuple(gain(f"DPM, {n}", f"{other}, {n}", gained) for n, gained in published.items())


TABLE2 = Ablation(
    "dpn_table2",
    ("D02",),
    "Does the pyramid of dilations beat dilation 1 throughout, at equal cost?",
    _pyramid_or_ones(1, 2),
    _gains("ones", {1: "+4.8", 2: "+4.0"}),
    full_arms=_pyramid_or_ones(3, 4),
    full_contrasts=_gains("ones", {3: "+4.9", 4: "+5.3"}),
)
MODULES = Ablation(
    "dpn_modules",
    ("D03",),
    "Do more modules help?",
    {str(n): arms.dpn(n) for n in (1, 2, 3, 4)},
    (gain("2", "1", "+3.5"), gain("3", "2", "+1.2"), gain("4", "3", "+0.7"), gain("4", "1", "+5.4")),
)
TABLE3 = Ablation(
    "dpn_table3",
    ("D04",),
    "Does the pyramid beat every constant dilation, and is 2 the best constant?",
    {"DPM": arms.dpn_32(1), **{f"D={d}": arms.dpn_32(1, "ones" if d == 1 else d) for d in (1, 2, 4, 8)}},
    (
        *(gain("DPM", f"D={d}", p) for d, p in ((1, "+10.5"), (2, "+1.3"), (4, "+1.9"), (8, "+12.1"))),
        *(gain("D=2", f"D={d}", p) for d, p in ((1, "+9.2"), (4, "+0.6"), (8, "+10.8"))),
    ),
    full_arms={
        "D=6": arms.dpn_32(1, 6),
        "DPM, 4": arms.dpn_32(4),
        **{f"D={d}, 4": arms.dpn_32(4, "ones" if d == 1 else d) for d in (1, 2, 4, 6, 8)},
    },
    full_contrasts=(
        gain("DPM", "D=6", "+6.7"),
        gain("D=2", "D=6", "+5.4"),
        *(
            gain("DPM, 4", f"D={d}, 4", p)
            for d, p in ((1, "+3.8"), (2, "+1.4"), (4, "+5.4"), (6, "+12.0"), (8, "+13.3"))
        ),
        *(gain("D=2, 4", f"D={d}, 4", p) for d, p in ((1, "+2.4"), (4, "+4.0"), (6, "+10.6"), (8, "+11.9"))),
    ),
)
TABLE4 = Ablation(
    "dpn_table4",
    ("D05",),
    "Are modules at 1/4 better than at 1/8, with equally many crops seen?",
    {"1/4": arms.dpn_fine(1), "1/8": arms.DPN_COARSE},
    (gain("1/4", "1/8", "+0.3"),),
    full_arms={f"{at}, {n}": arm(n) for n in (2, 3, 4) for at, arm in (("1/4", arms.dpn_fine), ("1/8", arms.dpn))},
    full_contrasts=tuple(gain(f"1/4, {n}", f"1/8, {n}", p) for n, p in ((2, "+0.7"), (3, "+1.1"), (4, "+1.2"))),
)
TABLE5 = Ablation(
    "dpn_table5",
    ("D06",),
    "Do decreasing dilations beat increasing ones?",
    _both_orders(1, 2),
    _gains("reversed", {1: "+1.6", 2: "+0.3"}),
    full_arms=_both_orders(3, 4),
    full_contrasts=_gains("reversed", {3: "+0.4", 4: "+0.4"}),
)
ON_HRNET = Ablation(
    "dpn_on_hrnet",
    ("D08",),
    "Do dilation modules improve HRNet?",
    {"with": arms.DPN_HRNET, "HRNet": arms.HRNET},
    (gain("with", "HRNet", "+0.6"),),
)
LEVEL = Ablation(
    "dpn_or_simple_baseline",
    ("D09",),
    "Does DPN with four modules come within one AP of SimpleBaseline and CPN?",
    {"DPN4": arms.dpn(4), "SimpleBaseline": arms.SIMPLE, "CPN": arms.CPN_OHKM},
    (gain("DPN4", "SimpleBaseline", "-0.5", margin=1.0), gain("DPN4", "CPN", "+0.5", margin=1.0)),
)
ABLATIONS = (TABLE2, MODULES, TABLE3, TABLE4, TABLE5, ON_HRNET, LEVEL)
