"""How good are predicted keypoints: OKS, average precision, PCK, suppression of duplicates, kinds of error."""

from posekit.metrics.bootstrap import Interval, bootstrap_ap
from posekit.metrics.coco_eval import RECALLS, STATS, KeypointResult, evaluate_coco, person_areas, person_oks
from posekit.metrics.diagnosis import KINDS, Diagnosis, LeftRightConfusion, diagnose, lr_confusion
from posekit.metrics.matching import AREA_RANGES, MAX_DETECTIONS, SIZE_CLASSES, THRESHOLDS, Matches, detection_areas
from posekit.metrics.nms import oks_nms, rescore, soft_oks_nms
from posekit.metrics.oks import oks
from posekit.metrics.pck import HEAD_SIZE_FACTOR, PckhResult, head_size, pck, pckh

__all__ = [
    "AREA_RANGES",
    "HEAD_SIZE_FACTOR",
    "KINDS",
    "MAX_DETECTIONS",
    "RECALLS",
    "SIZE_CLASSES",
    "STATS",
    "THRESHOLDS",
    "Diagnosis",
    "Interval",
    "KeypointResult",
    "LeftRightConfusion",
    "Matches",
    "PckhResult",
    "bootstrap_ap",
    "detection_areas",
    "diagnose",
    "evaluate_coco",
    "head_size",
    "lr_confusion",
    "oks",
    "oks_nms",
    "pck",
    "pckh",
    "person_areas",
    "person_oks",
    "rescore",
    "soft_oks_nms",
]
