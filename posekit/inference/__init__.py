"""Inference: boxes -> crops -> network with flip test -> keypoints in the picture -> scores."""

from posekit.inference.evaluate import Evaluation, as_detections, crop_errors, evaluate, score
from posekit.inference.export import Export, export_onnx
from posekit.inference.fusion import fuse_conv_bn
from posekit.inference.image import predict_image
from posekit.inference.predict import Predictions, auto_shift, predict
from posekit.inference.processes import ALONE, ProcessError, Processes, join
from posekit.inference.runtime import Network, as_float, describe_model, has_bf16, map_prediction, pick_device, to_input
from posekit.inference.speed import for_evaluation

__all__ = [
    "ALONE",
    "Evaluation",
    "Export",
    "Network",
    "Predictions",
    "ProcessError",
    "Processes",
    "as_detections",
    "as_float",
    "auto_shift",
    "crop_errors",
    "describe_model",
    "evaluate",
    "export_onnx",
    "for_evaluation",
    "fuse_conv_bn",
    "has_bf16",
    "join",
    "map_prediction",
    "pick_device",
    "predict",
    "predict_image",
    "score",
    "to_input",
]
