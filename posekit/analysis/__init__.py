"""What a pose network can and cannot do, worked out without training one."""

from posekit.analysis.complexity import Complexity, LayerCost, complexities, complexity, shapes_only
from posekit.analysis.flip import flip_bias, simulated_flip_bias
from posekit.analysis.oks_scale import oks_at_scale, oks_scale_ratio
from posekit.analysis.quantization import (
    QuantizationError,
    oks_ceiling,
    quantization_bound,
    quantization_error,
)
from posekit.analysis.receptive_field import (
    Field,
    Layer,
    Reach,
    dpm_layers,
    dpm_receptive_field,
    effective_receptive_field,
    effective_size,
    layer_reach,
    live_tap_share,
    receptive_field,
)

__all__ = [
    "Complexity",
    "Field",
    "Layer",
    "LayerCost",
    "QuantizationError",
    "Reach",
    "complexities",
    "complexity",
    "dpm_layers",
    "dpm_receptive_field",
    "effective_receptive_field",
    "effective_size",
    "flip_bias",
    "layer_reach",
    "live_tap_share",
    "oks_at_scale",
    "oks_ceiling",
    "oks_scale_ratio",
    "quantization_bound",
    "quantization_error",
    "receptive_field",
    "shapes_only",
    "simulated_flip_bias",
]
