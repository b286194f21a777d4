"""From heatmaps and tags to people: candidates by keypoint, assigned to people by their tags.

Source: ``HeatmapParser`` of HRNet/HigherHRNet-Human-Pose-Estimation (lib/core/group.py), as used by SRPose.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Nose, eyes, ears, shoulders, hips, elbows, wrists, knees, ankles: the trunk before what swings from it.
COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


class PersonGroup(NamedTuple):
    """The P people of one picture."""

    keypoints: np.ndarray  # (P, K, 2) float64, x then y; (0, 0) where the joint was not found
    joint_scores: np.ndarray  # (P, K) heatmap values, 0 where the joint was not found
    scores: np.ndarray  # (P,) mean of the K joint scores before refinement, missing joints counting as 0


class Person:
    """One person in the making: joints found so far and the tags seen."""

    def __init__(self, num_keypoints: int) -> None:
        self.cells = np.zeros((num_keypoints, 2), dtype=np.int64)
        self.scores = np.zeros(num_keypoints)
        self.tags: list[float] = []

    def add(self, joint: int, cell: np.ndarray, score: float, tag: float) -> None:
        self.cells[joint], self.scores[joint] = cell, score
        self.tags.append(tag)


def candidates(heatmaps: Tensor, tags: Tensor, *, pool: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ``count`` highest local maxima per map: cells (B, K, M, 2), scores (B, K, M), tags (B, K, M)."""
    w = heatmaps.shape[-1]
    peaks = torch.where(F.max_pool2d(heatmaps, pool, 1, pool // 2) == heatmaps, heatmaps, 0).flatten(2)
    scores, index = peaks.topk(min(count, peaks.shape[-1]), dim=-1)
    cells = torch.stack([index % w, torch.div(index, w, rounding_mode="floor")], -1)
    return cells.cpu().numpy(), scores.cpu().numpy(), tags.flatten(2).gather(2, index).cpu().numpy()


def assign(
    cells: np.ndarray,
    scores: np.ndarray,
    tags: np.ndarray,
    *,
    joint_order: tuple[int, ...],
    max_people: int,
    detection_threshold: float,
    tag_threshold: float,
) -> list[Person]:
    """People of one picture from its candidates (K, M, 2), (K, M), (K, M).

    Keypoint by keypoint, candidates and people are matched at the least total cost ``100 * round(tag distance) -
    score``; a candidate farther than ``tag_threshold`` from its match, or without one, starts a new person.
    People are keyed by their first tag, so candidates with the very same tag are one person, as in the original.
    """
    from scipy.optimize import linear_sum_assignment

    people: dict[float, Person] = {}
    for joint in joint_order:
        kept = np.flatnonzero(scores[joint] > detection_threshold)
        if not kept.size:
            continue
        keys = list(people)[:max_people]
        means = np.array([np.mean(people[key].tags) for key in keys])
        distance = np.abs(tags[joint, kept, None] - means)  # (candidates, people)
        cost = np.round(distance) * 100 - scores[joint, kept, None]
        partner = np.full(len(kept), -1)  # candidates beyond the number of people stay without one
        rows, columns = linear_sum_assignment(cost)
        partner[rows] = columns
        for row, column in enumerate(partner):
            candidate = joint, kept[row]
            tag = float(tags[candidate])
            near = column >= 0 and distance[row, column] < tag_threshold
            if not near:
                people.setdefault(tag, Person(len(joint_order))).tags = []
            person = people[keys[column] if near else tag]
            person.add(joint, cells[candidate], scores[candidate], tag)
    return list(people.values())


def quarter_steps(maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Steps (..., 2) of a quarter cell toward the higher neighbour; a tie steps back, unlike in top-down decoding."""
    h, w = maps.shape[-2:]
    k = np.arange(len(maps))
    right = maps[k, y, np.minimum(x + 1, w - 1)] > maps[k, y, np.maximum(x - 1, 0)]
    down = maps[k, np.minimum(y + 1, h - 1), x] > maps[k, np.maximum(y - 1, 0), x]
    return np.where(np.stack([right, down], -1), 0.25, -0.25)


def fill_missing(heatmaps: np.ndarray, tags: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> None:
    """Fill, in place, the joints of one person (K, 2), (K,) that were not found.

    From the cell that is highest in ``heatmap - round(|tag - mean tag|)``, the mean over the person's joints.
    """
    K, h, w = heatmaps.shape
    found = scores > 0
    x, y = keypoints[found].astype(np.int64).T
    mean = tags[np.flatnonzero(found), y.clip(0, h - 1), x.clip(0, w - 1)].mean()
    best = (heatmaps - np.round(np.abs(tags - mean))).reshape(K, -1).argmax(-1)
    x, y = best % w, best // w
    values = heatmaps[np.arange(K), y, x]
    missing = ~found & (values > 0)
    keypoints[missing] = (np.stack([x, y], -1) + 0.5 + quarter_steps(heatmaps, x, y))[missing]
    scores[missing] = values[missing]


def group_people(
    heatmaps: Tensor,
    tags: Tensor,
    *,
    joint_order: tuple[int, ...] = COCO_ORDER,
    pool: int = 5,
    max_people: int = 30,
    detection_threshold: float = 0.1,
    tag_threshold: float = 1.0,
    adjust: bool = True,
    refine: bool = True,
) -> list[PersonGroup]:
    """(B, K, h, w) heatmaps and tags -> the people of each picture, keypoints in cells.

    Options as in :class:`~posekit.codecs.associative_embedding.AssociativeEmbedding`.
    """
    found = candidates(heatmaps, tags, pool=pool, count=max_people)
    groups = []
    for maps, tag_maps, *one in zip(heatmaps.cpu().numpy(), tags.cpu().numpy(), *found):
        people = assign(
            *one,
            joint_order=joint_order,
            max_people=max_people,
            detection_threshold=detection_threshold,
            tag_threshold=tag_threshold,
        )
        keypoints = np.array([person.cells for person in people], dtype=np.float64).reshape(-1, len(joint_order), 2)
        joint_scores = np.array([person.scores for person in people]).reshape(-1, len(joint_order))
        scores = joint_scores.mean(-1)
        for person, points, values in zip(people, keypoints, joint_scores):
            if adjust:
                steps = quarter_steps(maps, *person.cells.T)
                points += (0.5 + steps) * (values > 0)[:, None]
            if refine:
                fill_missing(maps, tag_maps, points, values)
        groups.append(PersonGroup(keypoints, joint_scores, scores))
    return groups
