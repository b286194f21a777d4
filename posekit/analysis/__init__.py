"""What a pose network can and cannot do, worked out without training one."""

from posekit.analysis.flip import flip_bias, simulated_flip_bias
from posekit.analysis.oks_scale import oks_at_scale, oks_scale_ratio
from posekit.analysis.quantization import (
    QuantizationError,
    oks_ceiling,
    quantization_bound,
    quantization_error,
)

__all__ = [
    "QuantizationError",
    "flip_bias",
    "oks_at_scale",
    "oks_ceiling",
    "oks_scale_ratio",
    "quantization_bound",
    "quantization_error",
    "simulated_flip_bias",
]
