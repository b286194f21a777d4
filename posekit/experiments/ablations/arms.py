"""The arms, each written once: an ablation picks among them, and what two ablations share is trained once."""

from __future__ import annotations

from dataclasses import replace

from posekit.experiments.ablations.definition import Arm

SIMPLE = Arm("tiny_simple_baseline", "simple_baseline_r50")
SIMPLE_SMALLEST, SIMPLE_SMALL, SIMPLE_LARGE = (replace(SIMPLE, size=s) for s in ("smallest", "small", "large"))
SIMPLE_HALF, SIMPLE_QUARTER = (replace(SIMPLE, scenes=share) for share in (0.5, 0.25))
SIMPLE_FACE = replace(SIMPLE, samples=2.0, level="face")  # as long as it takes to tell left from right there
SIMPLE_ROUNDED, SIMPLE_SUBPIXEL = (replace(SIMPLE, recipe={"centre": centre}) for centre in ("rounded", "subpixel"))

# Looked at with seed 0 only: regression does better at the heatmaps' rate of 4e-3 than at 1e-3.
DEEPPOSE = Arm("tiny_deeppose", "deeppose_r50", own_loss=True)
INTEGRAL = Arm("tiny_integral", "integral_r50", own_loss=True)
SIMCC = Arm("tiny_simcc", "simcc_r50", tiny_options={"backbone": "resnet"}, own_loss=True)
SIMCC_HRNET = Arm("tiny_simcc", "simcc_hrnet_w32", tiny_options={"backbone": "hrnet"}, own_loss=True)

HRNET = Arm("tiny_hrnet", "hrnet_w32")
HRNET_FINAL, HRNET_ACROSS = (replace(HRNET, options={"exchange": kind}) for kind in ("final", "across"))
HRNET_2X, HRNET_4X, HRNET_8X = (replace(HRNET, options={"predict_from": branch}) for branch in (1, 2, 3))
HRNET_SMALLEST, HRNET_SMALL, HRNET_LARGE = (replace(HRNET, size=s) for s in ("smallest", "small", "large"))
HRNET_WIDE = Arm("tiny_hrnet", "hrnet_w48", tiny_options={"width": 18})
HRNET_UDP = replace(HRNET, codec={"protocol": "udp", "decoder": "dark"})
HRNET_PSA = replace(HRNET_UDP, options={"attention": "psa"})
HRNET_UDP_SMALL, HRNET_PSA_SMALL = replace(HRNET_UDP, size="small"), replace(HRNET_PSA, size="small")

HOURGLASS = Arm("tiny_hourglass", "hourglass8")
CPN_OHKM = Arm("tiny_cpn", "cpn_r50")
CPN = Arm("tiny_cpn", "cpn_r50", options={"ohkm": None})


def dpn(modules: int, dilations: str | int = "decreasing") -> Arm:
    """A DPN of so many modules, tiny or of width 64 (32 for the tables that have it so)."""
    return Arm("tiny_dpn", f"dpn{modules}_64", options={"dilations": dilations}, tiny_options={"modules": modules})


def dpn_32(modules: int, dilations: str | int = "decreasing") -> Arm:
    """As :func:`dpn` with the papers' width 32; the tiny networks are the same."""
    return replace(dpn(modules, dilations), full=f"dpn{modules}_32")


def dpn_fine(modules: int) -> Arm:
    """As :func:`dpn` with the papers' modules at 1/4; the tiny networks have theirs there anyway."""
    return replace(dpn(modules), full=f"dpn{modules}_64_highres")


DPN_COARSE = Arm("tiny_dpn", "dpn1_64", options={"dilations": "decreasing"}, tiny_options={"highres": False})
DPN_HRNET = Arm("tiny_dpn_hrnet", "dpn2_hrnet")

TRANSPOSE = Arm("tiny_transpose", "transpose_r_a4")
HRFORMER = Arm("tiny_hrformer", "hrformer_s")
BACKBONES = {"resnet": "r50", "hrnet": "hrnet_w32", "transpose": "transpose_r_a4", "hrformer": "hrformer_s"}
PLAIN = {"resnet": SIMPLE, "hrnet": HRNET, "transpose": TRANSPOSE, "hrformer": HRFORMER}
SR = {b: Arm("tiny_sr", f"{full}_sr", tiny_options={"backbone": b}) for b, full in BACKBONES.items()}
SRPOSE = {b: Arm("tiny_srpose", f"{full}_srpose", tiny_options={"backbone": b}) for b, full in BACKBONES.items()}
SRPOSE_LAST = replace(SRPOSE["resnet"], options={"supervise": "last"})
SRPOSE_HALF, SRPOSE_LAST_HALF = replace(SRPOSE["resnet"], samples=0.5), replace(SRPOSE_LAST, samples=0.5)
