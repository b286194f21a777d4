"""Inference: boxes -> crops -> network with flip test -> keypoints in the picture -> scores."""

from posekit.inference.evaluate import crop_errors, score
from posekit.inference.fusion import fuse_conv_bn
from posekit.inference.predict import Predictions, auto_shift, predict
from posekit.inference.runtime import as_float, describe_model, map_prediction, pick_device, to_input

__all__ = [
    "Predictions",
    "as_float",
    "auto_shift",
    "crop_errors",
    "describe_model",
    "fuse_conv_bn",
    "map_prediction",
    "pick_device",
    "predict",
    "score",
    "to_input",
]
