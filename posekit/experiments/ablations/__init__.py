"""The papers' ablations on the embedded dataset: arms, paired seeds, a verdict with its interval.

posekit ablate dpn_table2 --profile quick --seeds 5
"""

from posekit.experiments.ablations import dpn_claims, hrnet_claims, srpose_claims
from posekit.experiments.ablations.analysis import Paired, paired
from posekit.experiments.ablations.definition import CONFIRM, LOOK, PROFILES, Ablation, Arm, Contrast, Profile

# What a limited budget runs first: the claims that most is built on.
_FIRST = (
    dpn_claims.TABLE2, dpn_claims.TABLE3, dpn_claims.TABLE5, dpn_claims.MODULES,
    srpose_claims.SR_HEAD, srpose_claims.POST_PROCESSING, srpose_claims.SRPOSE, srpose_claims.SUPERVISION,
    hrnet_claims.FUSION, hrnet_claims.BRANCHES, hrnet_claims.INPUT_SIZE, hrnet_claims.HEATMAPS,
    srpose_claims.FLIP_STRIDE4, srpose_claims.FLIP_STRIDE1,
    hrnet_claims.DARK, hrnet_claims.OHKM, hrnet_claims.ATTENTION,
)  # fmt: skip
ABLATIONS: dict[str, Ablation] = {
    ablation.name: ablation
    for ablation in (*_FIRST, *dpn_claims.ABLATIONS, *srpose_claims.ABLATIONS, *hrnet_claims.ABLATIONS)
}

__all__ = ["ABLATIONS", "CONFIRM", "LOOK", "PROFILES", "Ablation", "Arm", "Contrast", "Paired", "Profile", "paired"]
