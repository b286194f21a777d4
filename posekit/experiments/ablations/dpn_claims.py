"""Ablations for the claims of the DPN slides."""

from __future__ import annotations

from posekit.experiments.ablations import arms
from posekit.experiments.ablations.definition import Ablation, gain

TABLE2 = Ablation(
    "dpn_table2",
    ("D02",),
    "Does the pyramid of dilations beat dilation 1 throughout, at equal cost?",
    {f"{name}, {n}": arms.dpn(n, d) for n in (1, 2) for name, d in (("DPM", "decreasing"), ("ones", "ones"))},
    tuple(gain(f"DPM, {n}", f"ones, {n}", published) for n, published in ((1, "+4.8"), (2, "+4.0"))),
    "tiny_dpn",
)
MODULES = Ablation(
    "dpn_modules",
    ("D03",),
    "Do more modules help?",
    {str(n): arms.dpn(n) for n in (1, 2, 3, 4)},
    (gain("2", "1", "+3.5"), gain("3", "2", "+1.2"), gain("4", "3", "+0.7"), gain("4", "1", "+5.4")),
    "tiny_dpn",
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
    "tiny_dpn",
)
TABLE4 = Ablation(
    "dpn_table4",
    ("D05",),
    "Are modules at 1/4 better than at 1/8, with equally many crops seen?",
    {"1/4": arms.DPN_FINE, "1/8": arms.DPN_COARSE},
    (gain("1/4", "1/8", "+0.3"),),
    "tiny_dpn",
)
TABLE5 = Ablation(
    "dpn_table5",
    ("D06",),
    "Do decreasing dilations beat increasing ones?",
    {
        f"{name}, {n}": arms.dpn_32(n, d)
        for n in (1, 2)
        for name, d in (("DPM", "decreasing"), ("reversed", "reversed"))
    },
    tuple(gain(f"DPM, {n}", f"reversed, {n}", published) for n, published in ((1, "+1.6"), (2, "+0.3"))),
    "tiny_dpn",
)
ON_HRNET = Ablation(
    "dpn_on_hrnet",
    ("D08",),
    "Do dilation modules improve HRNet?",
    {"with": arms.DPN_HRNET, "HRNet": arms.HRNET},
    (gain("with", "HRNet", "+0.6"),),
    "tiny_dpn_hrnet, tiny_hrnet",
)
LEVEL = Ablation(
    "dpn_or_simple_baseline",
    ("D09",),
    "Does DPN with four modules come within one AP of SimpleBaseline and CPN?",
    {"DPN4": arms.dpn(4), "SimpleBaseline": arms.SIMPLE, "CPN": arms.CPN_OHKM},
    (gain("DPN4", "SimpleBaseline", "-0.5", margin=1.0), gain("DPN4", "CPN", "+0.5", margin=1.0)),
    "tiny_dpn, tiny_simple_baseline, tiny_cpn",
)
ABLATIONS = (TABLE2, MODULES, TABLE3, TABLE4, TABLE5, ON_HRNET, LEVEL)
