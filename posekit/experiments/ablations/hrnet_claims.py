"""Ablations for the claims of the HRNet slides."""

from __future__ import annotations

from itertools import pairwise

from posekit.experiments.ablations import arms
from posekit.experiments.ablations.definition import Ablation, Arm, Contrast, effect, gain

SIZES = ("smallest", "small", "base", "large")
_SIMPLE = (arms.SIMPLE_SMALLEST, arms.SIMPLE_SMALL, arms.SIMPLE, arms.SIMPLE_LARGE)
_HRNET = (arms.HRNET_SMALLEST, arms.HRNET_SMALL, arms.HRNET, arms.HRNET_LARGE)


def _by_size(name: str, networks: tuple[Arm, ...]) -> dict[str, Arm]:
    return {f"{name}, {size}": arm for size, arm in zip(SIZES, networks)}


HEATMAPS = Ablation(
    "heatmaps_or_regression",
    ("H01",),
    "Does the same backbone do better with heatmaps than with coordinates?",
    {
        "heatmaps": arms.SIMPLE,
        "regression": arms.DEEPPOSE,
        "integral": arms.INTEGRAL,
        "SimCC": arms.SIMCC,
    },
    (gain("heatmaps", "regression", "more than twice"), gain("heatmaps", "integral"), gain("heatmaps", "SimCC")),
)
FUSION = Ablation(
    "hrnet_table6",
    ("H02",),
    "Does repeated fusion across resolutions help?",
    {"final": arms.HRNET_FINAL, "across": arms.HRNET_ACROSS, "within": arms.HRNET},
    (gain("across", "final", "+1.1"), gain("within", "across", "+1.5"), gain("within", "final", "+2.6")),
)
BRANCHES = Ablation(
    "hrnet_branches",
    ("H03",),
    "Are heatmaps from branches of higher resolution better?",
    {"1/4": arms.HRNET, "1/8": arms.HRNET_2X, "1/16": arms.HRNET_4X},
    (gain("1/4", "1/8", "Fig. 5"), gain("1/8", "1/16", "Fig. 5")),
    full_arms={"1/32": arms.HRNET_8X},
    full_contrasts=(gain("1/16", "1/32", "Fig. 5"),),
)
INPUT_SIZE = Ablation(
    "input_size",
    ("H04",),
    "Does larger input help, and HRNet's gain grow as the input shrinks?",
    {**_by_size("HRNet", _HRNET), **_by_size("SimpleBaseline", _SIMPLE)},
    (
        *(gain(f"HRNet, {b}", f"HRNet, {a}", "Fig. 6") for a, b in pairwise(SIZES)),
        *(gain(f"SimpleBaseline, {b}", f"SimpleBaseline, {a}", "Fig. 6") for a, b in pairwise(SIZES)),
        Contrast(
            "AP: HRNet's gain at the smallest size minus at the large one",
            (
                (1, "HRNet, smallest", "AP"),
                (-1, "SimpleBaseline, smallest", "AP"),
                (-1, "HRNet, large", "AP"),
                (1, "SimpleBaseline, large", "AP"),
            ),
            "Fig. 6",
        ),
    ),
)
WIDTH = Ablation(
    "hrnet_width",
    ("H06",),
    "Is a wider HRNet better?",
    {"wide": arms.HRNET_WIDE, "narrow": arms.HRNET},
    (gain("wide", "narrow", "+0.7"),),
)
AGAINST_SIMPLE = Ablation(
    "hrnet_or_simple_baseline",
    ("H07",),
    "Is HRNet more accurate than SimpleBaseline?",
    {"HRNet": arms.HRNET, "SimpleBaseline": arms.SIMPLE},
    (gain("HRNet", "SimpleBaseline", "+4.0"),),
)
LARGER = Ablation(
    "larger_input",
    ("H10",),
    "Is HRNet better at a larger input?",
    {"large": arms.HRNET_LARGE, "base": arms.HRNET},
    (gain("large", "base", "+1.4"),),
)
DARK = Ablation(
    "dark_decoding",
    ("H12",),
    "Does DARK decode a trained network's heatmaps better than the quarter offset?",
    {"HRNet": arms.HRNET, "SimpleBaseline": arms.SIMPLE, "Hourglass": arms.HOURGLASS},
    (
        effect("HRNet", "AP, dark", "AP, quarter", "+0.4"),
        *(effect(name, "AP, dark", "AP, quarter") for name in ("SimpleBaseline", "Hourglass")),
    ),
)
OHKM = Ablation(
    "hard_keypoints",
    ("H14",),
    "Does mining of hard keypoints help CPN?",
    {"with": arms.CPN_OHKM, "without": arms.CPN},
    (gain("with", "without", "+0.8"),),
)
MORE_DATA = Ablation(
    "more_data",
    ("H15",),
    "Does a larger training set help, with equally many crops seen?",
    {"all": arms.SIMPLE, "half": arms.SIMPLE_HALF, "quarter": arms.SIMPLE_QUARTER},
    (gain("all", "half", "+1.5"), gain("half", "quarter")),
)
UNTRAINED = Ablation(
    "hrnet_or_earlier",
    ("H16",),
    "Is HRNet, from nothing, better than Hourglass and CPN?",
    {"HRNet": arms.HRNET, "Hourglass": arms.HOURGLASS, "CPN": arms.CPN, "CPN+OHKM": arms.CPN_OHKM},
    (gain("HRNet", "Hourglass", "+6.5"), gain("HRNet", "CPN", "+4.8"), gain("HRNet", "CPN+OHKM", "+4.0")),
)
ATTENTION = Ablation(
    "polarized_attention",
    ("H17",),
    "Does polarized self-attention lift HRNet with UDP at both input sizes?",
    {
        "PSA": arms.HRNET_PSA,
        "plain": arms.HRNET_UDP,
        "PSA, small": arms.HRNET_PSA_SMALL,
        "plain, small": arms.HRNET_UDP_SMALL,
    },
    (gain("PSA", "plain", "+1.5"), gain("PSA, small", "plain, small")),
)
ABLATIONS = (
    HEATMAPS, FUSION, BRANCHES, INPUT_SIZE, WIDTH, AGAINST_SIMPLE, LARGER, DARK, OHKM, MORE_DATA, UNTRAINED, ATTENTION
)  # fmt: skip
