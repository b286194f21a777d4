"""Boxes, crops and mirrors: how a person in a picture becomes a network's input, and how points come back.

Coordinates are pixels, x right, y down, the origin at the centre of the top-left pixel. Boxes are
``(x, y, width, height)``; sizes are ``(height, width)``. Every function takes NumPy arrays or torch tensors of
any leading shape and returns the same kind.

Two coordinate protocols exist in published code, and they differ by up to half an input pixel:

- ``"hrnet"`` maps the box centre to ``(w/2, h/2)`` with scale ``w / box_width`` (sizes; biased: the centre of a
  row of w pixels is ``(w-1)/2``). Source: leoxiaobin/deep-high-resolution-net.pytorch, ``get_affine_transform``.
- ``"udp"`` maps it to ``((w-1)/2, (h-1)/2)`` with scale ``(w-1) / box_width`` (intervals; unbiased: mirroring the
  crop and cropping the mirrored picture agree). Source: Huang et al., The Devil is in the Details, CVPR 2020.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

Array = Any  # np.ndarray or torch.Tensor; the result is of the argument's kind
Protocol = Literal["hrnet", "udp"]

# HRNet and SimpleBaseline write box sizes in units of 200 pixels ("scale"), after MPII's person height.
PIXEL_STD = 200.0
# Boxes are enlarged by a quarter before cropping so that limbs at the border keep some context.
BOX_PADDING = 1.25


def _namespace(array: Array):
    return torch if isinstance(array, torch.Tensor) else np


def box_centre(box: Array) -> Array:
    """(..., 4) xywh boxes -> (..., 2) centres ``x + w/2, y + h/2``, pixels."""
    return box[..., :2] + box[..., 2:] * 0.5


def crop_box(box: Array, size: tuple[int, int], *, padding: float = BOX_PADDING) -> Array:
    """Grow boxes to the aspect ratio of a crop, then by ``padding``, about their centres.

    Args:
        box: (..., 4) xywh, pixels.
        size: (height, width) of the crop.
        padding: factor on both sides; 1.25 in every top-down paper of this project.

    Returns:
        (..., 4) xywh boxes whose width / height equals that of ``size``.
    """
    xp = _namespace(box)
    aspect = size[1] / size[0]
    centre, w, h = box_centre(box), box[..., 2], box[..., 3]
    w, h = xp.maximum(w, h * aspect) * padding, xp.maximum(h, w / aspect) * padding
    wh = xp.stack([w, h], -1)
    return xp.concatenate([centre - wh * 0.5, wh], -1)


def crop_affine(
    box: Array,
    size: tuple[int, int],
    *,
    rotation: Array | float = 0.0,
    flip: Array | bool = False,
    protocol: Protocol = "hrnet",
) -> Array:
    """The 2x3 matrices that take picture pixels to crop pixels, in closed form.

    ``flip`` folds the mirror into the matrix: the result is the mirrored crop, at the cost of an unmirrored one.
    The left-right names of keypoints are exchanged by :func:`flip_keypoints`, not here.

    Args:
        box: (..., 4) xywh floats of the region to cut, usually from :func:`crop_box`.
        size: (height, width) of the crop, pixels.
        rotation: (...) degrees, counter-clockwise positive as in the original ``get_affine_transform``; it is
            applied about the box centre, after the mirror.
        flip: (...) whether the crop is mirrored left to right.
        protocol: "hrnet" or "udp", see the module's head.

    Returns:
        (..., 2, 3) of the box's kind and dtype; ``[x', y'] = M @ [x, y, 1]``.

    Raises:
        ValueError: unknown protocol.
    """
    xp = _namespace(box)
    h, w = size
    if protocol == "hrnet":
        # One scale for both axes, taken from the width: boxes from crop_box have the crop's aspect ratio.
        scale_x = scale_y = w / box[..., 2]
        middle = (w * 0.5, h * 0.5)
    elif protocol == "udp":
        scale_x, scale_y = (w - 1) / box[..., 2], (h - 1) / box[..., 3]
        middle = ((w - 1) * 0.5, (h - 1) * 0.5)
    else:
        raise ValueError(f"unknown protocol {protocol!r}; use 'hrnet' or 'udp'")
    centre = box_centre(box)
    one = xp.ones_like(centre[..., 0])
    angle = rotation * one * (np.pi / 180)
    cos, sin = xp.cos(angle), xp.sin(angle)
    # A mirrored crop reflects about the crop's own centre line. In the size-based protocol published code
    # mirrors pixel indices of the picture instead, x -> W-1-x with centre -> W-1-c, which is the same line.
    mirror = one - 2 * (flip * one)
    a, b = scale_x * cos * mirror, scale_x * sin
    c, d = -scale_y * sin * mirror, scale_y * cos
    tx = middle[0] - a * centre[..., 0] - b * centre[..., 1]
    ty = middle[1] - c * centre[..., 0] - d * centre[..., 1]
    return xp.stack([xp.stack([a, b, tx], -1), xp.stack([c, d, ty], -1)], -2)


def invert_affine(matrix: Array) -> Array:
    """Inverse of (..., 2, 3) affine matrices, in closed form."""
    xp = _namespace(matrix)
    a, b, tx = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    c, d, ty = matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2]
    det = a * d - b * c
    ia, ib, ic, id_ = d / det, -b / det, -c / det, a / det
    return xp.stack(
        [
            xp.stack([ia, ib, -(ia * tx + ib * ty)], -1),
            xp.stack([ic, id_, -(ic * tx + id_ * ty)], -1),
        ],
        -2,
    )


def transform_points(matrix: Array, points: Array) -> Array:
    """Apply (..., 2, 3) matrices to (..., K, 2) points; leading shapes broadcast."""
    linear, offset = matrix[..., :2], matrix[..., 2]
    xp = _namespace(points)
    return points @ xp.swapaxes(linear, -1, -2) + offset[..., None, :]


def flip_keypoints(keypoints: Array, width: float, flip_index: Array) -> Array:
    """Mirror (..., K, 2) keypoints in a picture ``width`` pixels wide and exchange left and right names."""
    xp = _namespace(keypoints)
    mirrored = keypoints[..., flip_index, :]
    return xp.stack([width - 1 - mirrored[..., 0], mirrored[..., 1]], -1)


def flip_heatmaps(heatmaps: torch.Tensor, flip_index: Array, *, shift: int = 0) -> torch.Tensor:
    """Undo the mirror on heatmaps predicted for a mirrored input.

    Args:
        heatmaps: (B, K, h, w).
        flip_index: (K,) of the skeleton.
        shift: cells by which the un-mirrored maps move right; the first columns keep their values. One cell at
            stride 4 is published practice ("SHIFT_HEATMAP"); :func:`posekit.analysis.flip_bias` derives it.

    Returns:
        (B, K, h, w), new memory.
    """
    index = torch.as_tensor(flip_index, device=heatmaps.device)
    out = heatmaps.index_select(1, index).flip(-1)
    if shift:
        shifted = out.clone()
        shifted[..., shift:] = out[..., :-shift]
        return shifted
    return out
