"""Ground truth through a codec: encoded, decoded and scored as if a perfect network had predicted it.

Every person is cut out with the box of the annotation, as in training; the heatmaps are the targets themselves. What
average precision is lost is lost to the codec alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from posekit.annotations import Detections, People
from posekit.codecs import GaussianHeatmap
from posekit.geometry import crop_affine, crop_box, invert_affine, transform_points
from posekit.metrics import KeypointResult, evaluate_coco

# Cells held in memory at a time while encoding and decoding.
_CELLS_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class Decoded:
    """Labelled people after encoding and decoding: result and errors in crop pixels of the joints inside the crop."""

    people: People
    detections: Detections
    errors: np.ndarray  # (J, 2) decoded minus true
    image_index: np.ndarray  # (J,) row of each joint's image


def decode_ground_truth(people: People, codec: GaussianHeatmap) -> Decoded:
    """Cut out, encode, decode and put back every labelled person; scores are all 1, as the maps are all ideal."""
    people = people.select((people.visibility > 0).any(1) & ~people.is_crowd)
    affine = torch.from_numpy(crop_affine(crop_box(people.box, codec.input_size), codec.input_size))
    crop = transform_points(affine, torch.from_numpy(people.keypoints))
    visibility = torch.from_numpy(people.visibility)
    parts = _parts(crop, visibility, codec)
    decoded = torch.cat([codec.decode(codec.encode(*part)[0])[0] for part in parts]).double()
    height, width = codec.input_size
    # Joints within three sigma of the border lose part of their Gaussian; the error is measured on the others.
    margin = 3 * codec.sigma * codec.stride
    inside = (crop > margin).all(-1) & (crop < crop.new_tensor([width, height]) - margin).all(-1) & (visibility > 0)
    image_index = torch.from_numpy(people.image_index)[:, None].expand(inside.shape)[inside]
    return Decoded(
        people,
        Detections(
            image_ids=people.image_ids[people.image_index],
            keypoints=transform_points(invert_affine(affine), decoded).numpy(),
            keypoint_scores=np.ones(people.visibility.shape),
            scores=np.ones(len(people)),
        ),
        (decoded - crop)[inside].numpy(),
        image_index.numpy(),
    )


def _parts(crop: torch.Tensor, visibility: torch.Tensor, codec: GaussianHeatmap) -> Iterator[tuple]:
    h, w = codec.heatmap_size
    step = max(1, _CELLS_AT_ONCE // (h * w * crop.shape[1]))
    return zip(crop.float().split(step), visibility.split(step), strict=True)


def score(people: People, codec: GaussianHeatmap) -> KeypointResult:
    """Average precision of ground truth that has been through a codec."""
    decoded = decode_ground_truth(people, codec)
    return evaluate_coco(decoded.people, decoded.detections)
