"""The scale in OKS: the square root of the segment area, not the diagonal of the box.

``OKS_i = exp(-d_i^2 / (2 s^2 k_i^2))`` with ``s^2`` the area of the person's segment (COCO's ``area`` field) and
``k_i = 2 sigma_i``. Slides and posts often take ``s`` for the box diagonal, which multiplies ``s^2`` several times.
"""

from __future__ import annotations

from posekit.analysis.quantization import AREA_FRACTION
from posekit.geometry import Array


def oks_scale_ratio(width: Array, height: Array, area: Array | None = None) -> Array:
    """How many times larger ``s^2`` becomes when ``s`` is the box diagonal instead of ``sqrt(area)``.

    Args:
        width, height: (...) box sides, pixels.
        area: (...) segment areas, square pixels; ``None`` takes 0.53 of the box.

    Returns:
        (...) ``(width^2 + height^2) / area``, at least 2 for any segment inside its box.
    """
    if area is None:
        area = AREA_FRACTION * width * height
    return (width**2 + height**2) / area


def oks_at_scale(oks: Array, ratio: Array) -> Array:
    """What a keypoint's OKS would read if ``s^2`` were ``ratio`` times larger: ``oks ** (1 / ratio)``.

    Exact for one keypoint, and for a person whose keypoints all score alike.
    """
    return oks ** (1 / ratio)
