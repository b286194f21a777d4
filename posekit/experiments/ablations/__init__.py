"""The papers' ablations on the embedded dataset: arms, paired seeds, a verdict with its interval.

posekit ablate dpn_table2 --profile quick --seeds 5
"""

from posekit.experiments.ablations import dpn_claims, hrnet_claims, srpose_claims
from posekit.experiments.ablations.analysis import Paired, paired
from posekit.experiments.ablations.definition import CONFIRM, LOOK, PROFILES, Ablation, Arm, Contrast, Profile

ABLATIONS: dict[str, Ablation] = {
    ablation.name: ablation for ablation in (*hrnet_claims.ABLATIONS, *dpn_claims.ABLATIONS, *srpose_claims.ABLATIONS)
}

__all__ = ["ABLATIONS", "CONFIRM", "LOOK", "PROFILES", "Ablation", "Arm", "Contrast", "Paired", "Profile", "paired"]
