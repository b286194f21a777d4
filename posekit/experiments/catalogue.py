"""Every test that the package can run and record, by name."""

from __future__ import annotations

from posekit.experiments.bounds import DARK, POST_PROCESSING, QUANTIZATION, RESOLUTION, ROUNDED
from posekit.experiments.controlled_detail import CROWDED, READ_OUT, RECOVERED
from posekit.experiments.controlled_modes import TWO_MODES
from posekit.experiments.controlled_sides import SIDES_TESTS
from posekit.experiments.cost_claims import COST_TESTS
from posekit.experiments.exact import DPM_FIELD, FLIP_ORDER, FLIP_STRIDE1, OKS_SCALE
from posekit.experiments.far_cues import DISTANT_CUE, DISTANT_CUE_CONTROL, DISTANT_CUE_ORDER
from posekit.experiments.runner import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        OKS_SCALE,
        FLIP_ORDER,
        FLIP_STRIDE1,
        DPM_FIELD,
        QUANTIZATION,
        RESOLUTION,
        POST_PROCESSING,
        DARK,
        ROUNDED,
        DISTANT_CUE,
        DISTANT_CUE_ORDER,
        DISTANT_CUE_CONTROL,
        TWO_MODES,
        READ_OUT,
        RECOVERED,
        CROWDED,
        *SIDES_TESTS,
        *COST_TESTS,
    )
}
