"""Direct regression: the network's numbers are the coordinates.

Source: Toshev and Szegedy, DeepPose, CVPR 2014, eq. 1: coordinates relative to the centre of the box, in units of
its size.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from posekit.codecs.base import Codec, check_keypoints, check_maps, final
from posekit.codecs.losses import coordinate_loss


def to_units(keypoints: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Crop pixels -> units of the crop about its centre: the left edge is -0.5, the right 0.5."""
    h, w = input_size
    return torch.stack([keypoints[..., 0] / w - 0.5, keypoints[..., 1] / h - 0.5], -1)


def to_pixels(units: Tensor, input_size: tuple[int, int]) -> Tensor:
    """The inverse of :func:`to_units`."""
    h, w = input_size
    return torch.stack([(units[..., 0] + 0.5) * w, (units[..., 1] + 0.5) * h], -1)


def encode_units(
    keypoints: Tensor, visibility: Tensor, input_size: tuple[int, int], out: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Targets (B, K, 2) in units, zero where the joint does not count, and weights (B, K) in {0, 1}."""
    keypoints, labelled = check_keypoints(keypoints, visibility)
    targets = torch.where(labelled[..., None], to_units(keypoints, input_size), 0)
    weights = labelled.to(keypoints.dtype)
    return (targets if out is None else out.copy_(targets)), weights


@dataclass(frozen=True)
class Coordinates(Codec):
    """Keypoints in crop pixels <-> (B, K, 2) in units of the crop about its centre, so that an output of zero is
    the middle of the crop.

    Args:
        input_size: (height, width) of the crop, pixels.
        loss: "l1", "l2", "smooth_l1" or a :class:`~posekit.codecs.losses.CoordinateLoss`; averaged over labelled
            joints. The field is called: ``codec.loss(...)``.
    """

    _: KW_ONLY
    loss: Any = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "loss", coordinate_loss(self.loss))

    def encode(self, keypoints: Tensor, visibility: Tensor, *, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, K, 2) crop pixels, (B, K) -> targets (B, K, 2) and weights (B, K) in {0, 1}.

        Joints outside the crop count: regression can point there.
        """
        return encode_units(keypoints, visibility, self.input_size, out)

    def decode(self, prediction: Tensor | list[Tensor]) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in crop pixels. Regression has no confidence: scores (B, K) are 1, and 0 with pixel
        (0, 0) where the prediction is not finite."""
        units = check_maps(final(prediction), (2,), "coordinates")
        found = units.isfinite().all(-1)
        return torch.where(found[..., None], to_pixels(units, self.input_size), 0), found.to(units.dtype)

    def flip(self, prediction: Tensor, flip_index: Any, *, shift: int = 0) -> Tensor:
        """(B, K, 2) predicted for the mirrored crop, turned back: pixel x becomes W-1-x. There are no cells, so
        ``shift`` has no effect."""
        units = final(prediction)
        units = units.index_select(1, torch.as_tensor(flip_index, device=units.device))
        return torch.stack([-units[..., 0] - 1 / self.input_size[1], units[..., 1]], -1)
