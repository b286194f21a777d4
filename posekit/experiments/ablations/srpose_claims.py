"""Ablations for the claims of the SRPose read-me, and for what users of these systems ask about decoding."""

from __future__ import annotations

from posekit.experiments.ablations import arms
from posekit.experiments.ablations.definition import Ablation, Contrast, effect, gain

NAMES = {"resnet": "ResNet", "hrnet": "HRNet", "transpose": "TransPose", "hrformer": "HRFormer"}
_SIMPLE = {f"{name}, simple": arms.PLAIN[b] for b, name in NAMES.items()}
_SR = {f"{name}, SR": arms.SR[b] for b, name in NAMES.items()}
_SRPOSE = {f"{name}, SRPose": arms.SRPOSE[b] for b, name in NAMES.items()}


def _loss(arm: str) -> tuple[tuple[float, str, str], ...]:
    """What an arm loses without post-processing: the quarter offset's AP minus the highest cell's."""
    return ((1.0, arm, "AP, quarter"), (-1.0, arm, "AP, argmax"))


def _less_loss(simple: str, other: str, published: str) -> Contrast:
    minus = tuple((-weight, arm, metric) for weight, arm, metric in _loss(other))
    return Contrast(f"AP lost without post-processing: {simple} minus {other}", (*_loss(simple), *minus), published)


SR_HEAD = Ablation(
    "sr_head",
    ("S01",),
    "Does the SR head beat the simple head on every backbone?",
    {**_SIMPLE, **_SR},
    tuple(gain(f"{n}, SR", f"{n}, simple", p) for n, p in zip(NAMES.values(), ("+0.7", "+1.1", "+1.4", "+1.0"))),
)
POST_PROCESSING = Ablation(
    "post_processing",
    ("S02",),
    "Do simple heads lose more without post-processing than SR heads and SRPose?",
    {**_SIMPLE, **_SR, **_SRPOSE},
    (
        *(
            Contrast(f"AP lost without post-processing: {n}, simple", _loss(f"{n}, simple"), p)
            for n, p in zip(NAMES.values(), ("1.9", "2.2", "2.1", "1.9"))
        ),
        *(_less_loss(f"{n}, simple", f"{n}, SR", p) for n, p in zip(NAMES.values(), ("1.7", "2.0", "2.0", "1.7"))),
        *(_less_loss(f"{n}, simple", f"{n}, SRPose", p) for n, p in zip(NAMES.values(), ("1.7", "2.0", "2.0", "1.8"))),
    ),
)
SRPOSE = Ablation(
    "srpose_head",
    ("S03",),
    "Does SRPose beat the SR head on every backbone?",
    {**_SR, **_SRPOSE},
    tuple(gain(f"{n}, SRPose", f"{n}, SR", p) for n, p in zip(NAMES.values(), ("+0.9", "+0.3", "+0.3", "+0.6"))),
)
MPII = Ablation(
    "srpose_pck",
    ("S07",),
    "Is SRPose ahead of HRNet, SimCC and SimpleBaseline in the share of found keypoints?",
    {
        "SRPose, HRNet": arms.SRPOSE["hrnet"],
        "SRPose, ResNet": arms.SRPOSE["resnet"],
        "HRNet": arms.HRNET,
        "SimCC": arms.SIMCC_HRNET,
        "SimpleBaseline": arms.SIMPLE,
    },
    (
        gain("SRPose, HRNet", "HRNet", "+0.4", metric="PCK"),
        gain("SRPose, HRNet", "SimCC", "+0.5", metric="PCK"),
        gain("SRPose, ResNet", "SimpleBaseline", "+0.9", metric="PCK"),
    ),
)
SUPERVISION = Ablation(
    "srpose_supervision",
    ("S09",),
    "Does supervising every stage ease the training of full-resolution heatmaps?",
    {
        "every stage": arms.SRPOSE["resnet"],
        "last stage": arms.SRPOSE_LAST,
        "every stage, half the training": arms.SRPOSE_HALF,
        "last stage, half the training": arms.SRPOSE_LAST_HALF,
    },
    (
        gain("every stage", "last stage"),
        gain("every stage, half the training", "last stage, half the training"),
    ),
)
FLIP_STRIDE4 = Ablation(
    "flip_shift_trained",
    ("U01",),
    "At stride 4, is a shift by one cell better than none and none better than two?",
    {"HRNet": arms.HRNET, "SimpleBaseline": arms.SIMPLE},
    (
        effect("HRNet", "AP, shift 1", "AP, shift 0", "+2.0"),
        effect("HRNet", "AP, shift 0", "AP, shift 2", "+4.6"),
        effect("SimpleBaseline", "AP, shift 1", "AP, shift 0"),
        effect("SimpleBaseline", "AP, shift 0", "AP, shift 2"),
    ),
)
FLIP_STRIDE1 = Ablation(
    "flip_shift_stride1_trained",
    ("U02",),
    "At stride 1, does the published shift by one cell cost accuracy?",
    {"SR": arms.SR["resnet"], "SRPose": arms.SRPOSE["resnet"]},
    (effect("SR", "AP, shift 0", "AP, shift 1"), effect("SRPose", "AP, shift 0", "AP, shift 1")),
)
QUARTER = Ablation(
    "quarter_offset_trained",
    ("U03",),
    "Does the quarter offset help a trained network, also one trained on rounded targets?",
    {"rounded targets": arms.SIMPLE_ROUNDED, "sub-pixel targets": arms.SIMPLE_SUBPIXEL},
    (
        effect("rounded targets", "AP, quarter", "AP, argmax"),
        effect("sub-pixel targets", "AP, quarter", "AP, argmax"),
    ),
)
ABLATIONS = (
    SR_HEAD, POST_PROCESSING, SRPOSE, MPII, SUPERVISION, FLIP_STRIDE4, FLIP_STRIDE1, QUARTER
)  # fmt: skip
