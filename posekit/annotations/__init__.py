"""COCO annotation and result files as flat arrays.

>>> people = read_people("person_keypoints_val2017.json")     # People: one row per annotated person
>>> found = read_detections("results.json", skeleton=people.skeleton)

Reading uses simdjson when the package ``pysimdjson`` is installed (``pip install posekit[fast]``) and the standard
library otherwise; both give the same arrays.
"""

from posekit.annotations.checks import Problem, check_annotations
from posekit.annotations.reading import read_detections, read_people, write_detections
from posekit.annotations.types import AnnotationError, Detections, People

__all__ = [
    "AnnotationError",
    "Detections",
    "People",
    "Problem",
    "check_annotations",
    "read_detections",
    "read_people",
    "write_detections",
]
