"""Associative embedding: all people of a picture at once.

One heatmap per keypoint shows every person's; a second map per keypoint holds a number, the tag, that a network
learns to make equal over the joints of one person (pull) and different between people (push). The numbers mean
nothing else: there is no target for a tag.

Source: Newell et al., Associative Embedding, NeurIPS 2017, in the form of HigherHRNet (Cheng et al., CVPR 2020) and
SRPose.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from posekit.codecs.base import (
    MIN_EXPONENT,
    Codec,
    CodecError,
    check_choice,
    check_keypoints,
    check_maps,
    final,
    heatmap_size,
    unmirror,
)
from posekit.codecs.grouping import COCO_ORDER, PersonGroup, group_people
from posekit.codecs.losses import pool_targets


class TagMaps(NamedTuple):
    """What a bottom-up network predicts."""

    heatmaps: Tensor  # (B, K, h, w)
    tags: Tensor  # (B, K, h, w)


class TagTargets(NamedTuple):
    """What it is compared with."""

    heatmaps: Tensor  # (B, K, h, w), the highest of all people's Gaussians
    cells: Tensor  # (B, P, K) int64, y * w + x: where each person's tags are read


def push_and_pull(
    tags: Tensor, cells: Tensor, weights: Tensor, *, push: Literal["exp", "max"] = "exp"
) -> tuple[Tensor, Tensor]:
    """How similar the people's mean tags are, and how much tags vary within people; (B,) each.

    Pull is the mean over people of the mean squared distance to the person's mean. Push is the mean of
    ``exp(-d^2) / 2`` (or ``max(0, 1 - |d|) / 2``) over ordered pairs of people; one person has none.

    Args:
        tags: (B, K, h, w).
        cells: (B, P, K) int64 flat cells.
        weights: (B, P, K) in {0, 1}; people without a joint count nowhere.
        push: the similarity.
    """
    at_joints = tags.flatten(2).gather(2, cells.transpose(1, 2)).transpose(1, 2)  # (B, P, K)
    joints = weights.sum(-1)  # (B, P)
    means = (at_joints * weights).sum(-1) / joints.clamp(min=1)
    variances = ((at_joints - means[..., None]).square() * weights).sum(-1) / joints.clamp(min=1)
    present = (joints > 0).to(tags.dtype)
    people = present.sum(-1)  # (B,)
    pull = (variances * present).sum(-1) / people.clamp(min=1)
    distance = means[:, :, None] - means[:, None, :]
    similarity = (-distance.square()).exp() if push == "exp" else (1 - distance.abs()).clamp(min=0)
    # Everyone is alike to themselves, once each: taken off the sum.
    others = (similarity * present[:, :, None] * present[:, None, :]).sum((-2, -1)) - people
    return 0.5 * others / (people * (people - 1)).clamp(min=1), pull


@dataclass(frozen=True)
class AssociativeEmbedding(Codec):
    """Keypoints of all people in network-input pixels <-> :class:`TagMaps`.

    Args:
        input_size: (height, width) of the network's input, pixels.
        stride: input pixels per cell.
        sigma: deviation of the Gaussians, cells; they are cut at ``3 sigma + 1``.
        push: "exp" (SRPose, HigherHRNet) or "max".
        push_weight, pull_weight: factors of the two tag terms; 0.001 each in the original.
        pool: side of the max-pooling window that keeps local maxima; odd. SRPose: 5, and 11 with its SR head on HRNet.
        max_people: candidates per keypoint.
        detection_threshold: candidates need a higher heatmap value.
        tag_threshold: a joint joins a person whose mean tag is nearer than this.
        adjust: half a cell (encode cuts coordinates down) and a quarter toward the higher neighbour are added.
        refine: joints that a person misses are filled from the best cell for its tag.
        joint_order: (K,) the order in which keypoints are grouped, the most reliable first.
    """

    input_size: tuple[int, int] = (512, 512)
    _: KW_ONLY
    stride: int = 4
    sigma: float = 2.0
    push: Literal["exp", "max"] = "exp"
    push_weight: float = 1e-3
    pull_weight: float = 1e-3
    pool: int = 5
    max_people: int = 30
    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    adjust: bool = True
    refine: bool = True
    joint_order: tuple[int, ...] = COCO_ORDER

    def __post_init__(self) -> None:
        super().__post_init__()
        heatmap_size(self.input_size, self.stride)
        check_choice("push", self.push, ("exp", "max"))
        if not self.sigma > 0 or self.pool % 2 == 0:
            raise CodecError(f"sigma must be positive and pool odd, got {self.sigma} and {self.pool}")
        if sorted(self.joint_order) != list(range(len(self.joint_order))):
            raise CodecError(f"joint_order must name each of the K keypoints once, got {self.joint_order}")

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(height, width) of the maps, cells."""
        return heatmap_size(self.input_size, self.stride)

    def encode(self, keypoints: Tensor, visibility: Tensor, *, out: Tensor | None = None) -> tuple[TagTargets, Tensor]:
        """Targets and weights of padded people.

        A joint's cell is ``int(x / stride)``, cut and not rounded, as in the original; :meth:`decode` adds the
        half cell back when ``adjust`` is on.

        Args:
            keypoints: (B, P, K, 2) input pixels; rows of absent people may hold anything.
            visibility: (B, P, K), 0 where not labelled or no person.
            out: (B, K, h, w) memory for the heatmaps.

        Returns:
            :class:`TagTargets` and weights (B, P, K) in {0, 1}: labelled and inside the map.
        """
        keypoints, labelled = check_keypoints(keypoints, visibility)
        h, w = self.heatmap_size
        B, P, K = labelled.shape
        cell = (keypoints.nan_to_num() / self.stride).trunc()
        x, y = cell.unbind(-1)
        inside = labelled & (x >= 0) & (x < w) & (y >= 0) & (y < h)
        weights = inside.to(keypoints.dtype)
        row, column = self._profile(x, w), self._profile(y, h) * weights[..., None]
        maps = keypoints.new_zeros(B, K, h, w) if out is None else out.zero_()
        for p in range(P):  # person by person: all at once would need P times the memory
            torch.maximum(maps, (column[:, p, :, :, None] * row[:, p, :, None, :]).to(maps.dtype), out=maps)
        return TagTargets(maps, torch.where(inside, y * w + x, 0).long()), weights

    def _profile(self, cell: Tensor, length: int) -> Tensor:
        distance = (torch.arange(length, dtype=cell.dtype, device=cell.device) - cell[..., None]).abs()
        profile = (distance.square() * (-0.5 / self.sigma**2)).clamp(min=MIN_EXPONENT).exp()
        return profile * (distance <= 3 * self.sigma + 1)

    def loss(
        self, prediction: TagMaps | list[TagMaps], targets: TagTargets, weights: Tensor, *, mask: Tensor | None = None
    ) -> Tensor:
        """Mean squared difference of the heatmaps (factor 1) plus the weighted push and pull.

        Args:
            prediction: maps, or a list of them; coarser heatmaps are compared with averages of the targets, and
                must come with tags at the size of the targets.
            targets, weights: from :meth:`encode`.
            mask: (B, h, w), 0 where the picture is not annotated (crowds).
        """
        if isinstance(prediction, list):
            return torch.stack([self.loss(head, targets, weights, mask=mask) for head in prediction]).sum()
        heatmaps, tags = (maps.to(targets.heatmaps.dtype) for maps in prediction)
        size = (heatmaps.shape[-2], heatmaps.shape[-1])
        difference = (heatmaps - pool_targets(targets.heatmaps, size)).square()
        if mask is not None:
            difference = difference * pool_targets(mask[:, None].to(difference.dtype), size)
        push, pull = push_and_pull(tags, targets.cells, weights, push=self.push)
        return difference.mean() + (self.push_weight * push + self.pull_weight * pull).mean()

    def decode(self, prediction: TagMaps | list[TagMaps]) -> list[PersonGroup]:
        """The people of each picture: keypoints (P, K, 2) in input pixels, joint scores (P, K), scores (P,).

        Grouping goes keypoint by keypoint and is not batched; see :func:`~posekit.codecs.grouping.group_people`.
        """
        heatmaps, tags = final(prediction)
        heatmaps = check_maps(heatmaps, self.heatmap_size)
        tags = check_maps(tags, self.heatmap_size, "tags")
        if heatmaps.shape[1] != len(self.joint_order):
            raise CodecError(
                f"{heatmaps.shape[1]} heatmaps for {len(self.joint_order)} keypoints in joint_order; "
                "give the codec the order of the skeleton"
            )
        groups = group_people(
            heatmaps,
            tags,
            joint_order=self.joint_order,
            pool=self.pool,
            max_people=self.max_people,
            detection_threshold=self.detection_threshold,
            tag_threshold=self.tag_threshold,
            adjust=self.adjust,
            refine=self.refine,
        )
        return [group._replace(keypoints=group.keypoints * self.stride) for group in groups]

    def flip(self, prediction: TagMaps, flip_index: Any, *, shift: int = 0) -> TagMaps:
        """Maps predicted for the mirrored picture, turned back and moved ``shift`` cells right."""
        return TagMaps(*(unmirror(maps, flip_index, keypoint_dim=1, shift=shift) for maps in final(prediction)))
