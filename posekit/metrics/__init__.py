"""How good are predicted keypoints: OKS, average precision, PCK, suppression of duplicates, kinds of error."""

from posekit.metrics.coco_eval import RECALLS, STATS, KeypointResult, evaluate_coco
from posekit.metrics.matching import AREA_RANGES, MAX_DETECTIONS, SIZE_CLASSES, THRESHOLDS, Matches
from posekit.metrics.oks import oks

__all__ = [
    "AREA_RANGES",
    "MAX_DETECTIONS",
    "RECALLS",
    "SIZE_CLASSES",
    "STATS",
    "THRESHOLDS",
    "KeypointResult",
    "Matches",
    "evaluate_coco",
    "oks",
]
