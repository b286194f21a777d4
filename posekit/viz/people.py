"""People on pictures: skeletons drawn straight into an RGB array, quickly enough for a slider."""

from __future__ import annotations

from typing import Any

import numpy as np

from posekit.skeletons import COCO17, Skeleton

# Left and right differ in lightness as well as in hue, so that they also differ in grey print.
LEFT, RIGHT, MIDDLE = (86, 180, 233), (213, 94, 0), (240, 228, 66)
_SHIFT = 4  # OpenCV draws sub-pixel positions given in sixteenths


def _side(name: str) -> tuple[int, int, int]:
    if name.startswith("left"):
        return LEFT
    return RIGHT if name.startswith("right") else MIDDLE


def limb_colours(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """RGB of every limb: its side's colour, the middle colour where it joins left to right."""
    ends = [(_side(skeleton.keypoints[a]), _side(skeleton.keypoints[b])) for a, b in skeleton.limbs]
    return [a if a == b else (b if a == MIDDLE else a if b == MIDDLE else MIDDLE) for a, b in ends]


def draw_people(
    image: Any,
    keypoints: Any,
    *,
    visibility: Any = None,
    boxes: Any = None,
    skeleton: Skeleton = COCO17,
    thickness: int | None = None,
    scale: int = 1,
) -> np.ndarray:
    """A copy of the picture with people drawn on it.

    Args:
        image: (H, W, 3) uint8 RGB.
        keypoints: (N, K, 2) or (K, 2) pixels, x then y, origin at the centre of the top-left pixel.
        visibility: (N, K) or (K,) flags or scores; keypoints at 0 are left out, 1 (occluded) are drawn hollow.
            None draws everything.
        boxes: (N, 4) or (4,) xywh pixels, drawn as rectangles.
        skeleton: names and limbs.
        thickness: of limbs in output pixels; None takes 1/90 of the picture's longer side.
        scale: whole factor by which the picture is enlarged first, so that thin drawings stay crisp.

    Returns:
        (H * scale, W * scale, 3) uint8 RGB.
    """
    import cv2

    picture = np.ascontiguousarray(image)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"image has shape {picture.shape} and type {picture.dtype}; give (H, W, 3) uint8 RGB")
    points = np.atleast_3d(np.asarray(keypoints, dtype=np.float64))
    points = points.reshape(-1, skeleton.num_keypoints, 2)
    seen = np.full(points.shape[:2], 2.0) if visibility is None else np.asarray(visibility, dtype=np.float64)
    seen = seen.reshape(points.shape[:2])
    picture = np.repeat(np.repeat(picture, scale, axis=0), scale, axis=1) if scale > 1 else picture.copy()
    points = points * scale + (scale - 1) / 2  # centre of pixel i of the original in the enlarged picture
    thickness = thickness or max(1, round(max(picture.shape[:2]) / 90))
    hollow = visibility is not None and bool(np.all(seen == np.rint(seen)))

    for x, y, w, h in np.asarray(boxes if boxes is not None else [], dtype=np.float64).reshape(-1, 4) * scale:
        first, last = (round(x), round(y)), (round(x + w), round(y + h))
        cv2.rectangle(picture, first, last, (240, 240, 240), max(1, int(thickness) // 2 + 1), cv2.LINE_AA)
    colours = limb_colours(skeleton)
    for person, flags in zip(points, seen):
        fixed = np.rint(np.nan_to_num(person) * (1 << _SHIFT)).astype(int)
        drawn = (flags > 0) & np.isfinite(person).all(axis=1)
        for (a, b), colour in zip(skeleton.limbs, colours):
            if drawn[a] and drawn[b]:
                cv2.line(picture, fixed[a].tolist(), fixed[b].tolist(), colour, thickness, cv2.LINE_AA, _SHIFT)
        radius = int((thickness * 0.9 + 1) * (1 << _SHIFT))
        for k in np.flatnonzero(drawn):
            fill = (255, 255, 255) if hollow and flags[k] == 1 else _side(skeleton.keypoints[k])
            cv2.circle(picture, fixed[k].tolist(), radius, (34, 37, 43), -1, cv2.LINE_AA, _SHIFT)
            cv2.circle(picture, fixed[k].tolist(), int(radius * 0.68), fill, -1, cv2.LINE_AA, _SHIFT)
    return picture
