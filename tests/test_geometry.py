"""Boxes, affines and mirrors against the published constructions; skeletons and their errors."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from posekit import geometry
from posekit.skeletons import COCO17, CROWDPOSE14, MPII16, SKELETONS, Skeleton

SIZE = (256, 192)
WIDTH = 640  # of the picture


def three_points(box: np.ndarray, size: tuple[int, int], rotation: float) -> np.ndarray:
    """HRNet's get_affine_transform: the affine through centre, a point above it and a third at a right angle."""
    width, (h, w) = box[2], size
    centre, angle = box[:2] + box[2:] / 2, np.deg2rad(rotation)
    up = np.array([np.sin(angle), -np.cos(angle)]) * width / 2
    source, target = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    source[0], source[1] = centre, centre + up
    target[0], target[1] = (w / 2, h / 2), (w / 2, h / 2 - w / 2)
    for points in (source, target):
        across = points[0] - points[1]
        points[2] = points[1] + (-across[1], across[0])
    return cv2.getAffineTransform(source, target)


def udp_warp(box: np.ndarray, size: tuple[int, int], rotation: float) -> np.ndarray:
    """mmpose's get_warp_matrix(theta, 2 * centre, size_dst = size - 1, size_target = box size)."""
    theta, (h, w) = np.deg2rad(rotation), size
    x, y = 2 * (box[:2] + box[2:] / 2)
    sx, sy = (w - 1) / box[2], (h - 1) / box[3]
    cos, sin = np.cos(theta), np.sin(theta)
    return np.array(
        [
            [cos * sx, -sin * sx, sx * (-0.5 * x * cos + 0.5 * y * sin + 0.5 * box[2])],
            [sin * sy, cos * sy, sy * (-0.5 * x * sin - 0.5 * y * cos + 0.5 * box[3])],
        ]
    )


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    box = np.concatenate([rng.uniform(-50, 400, (200, 2)), rng.uniform(20, 400, (200, 2))], 1)
    return geometry.crop_box(box, SIZE), rng.uniform(-90, 90, 200), rng.random(200) < 0.5


def mirrored(box: np.ndarray) -> np.ndarray:
    """The box in the picture whose pixel columns are reversed, as published code mirrors: centre -> W - 1 - centre."""
    x = WIDTH - 1 - (box[0] + box[2] / 2) - box[2] / 2
    return np.array([x, *box[1:]])


@pytest.mark.parametrize("protocol", ["hrnet", "udp"])
def test_the_closed_form_is_the_published_construction_mirror_included(views, protocol):
    ours = geometry.crop_affine(views[0], SIZE, rotation=views[1], flip=views[2], protocol=protocol)
    reverse = np.array([[-1, 0, WIDTH - 1], [0, 1, 0], [0, 0, 1.0]])
    for matrix, box, rotation, flip in zip(ours, *views):
        # mmpose rotates the other way round than HRNet: its callers pass the angle of the same picture negated.
        build = three_points if protocol == "hrnet" else lambda b, s, r: udp_warp(b, s, -r)
        published = build(mirrored(box) if flip else box, SIZE, rotation)
        if flip:
            published = published @ reverse
        corners = np.array([[0, 0, 1], [WIDTH, 0, 1], [0, 480, 1], [WIDTH, 480, 1]])
        assert np.abs((matrix - published) @ corners.T).max() < 5e-3  # cv2's three points are float32


def test_a_mirrored_crop_is_the_crop_of_the_mirrored_picture_pixel_by_pixel(views):
    picture = np.random.default_rng(1).integers(0, 256, (480, WIDTH, 3), np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    for box, rotation in zip(views[0][:10], views[1][:10]):
        folded = geometry.crop_affine(box, SIZE, rotation=rotation, flip=True)
        copied = geometry.crop_affine(mirrored(box), SIZE, rotation=rotation)
        ours = cv2.warpAffine(picture, folded, SIZE[::-1])
        theirs = cv2.warpAffine(np.ascontiguousarray(picture[:, ::-1]), copied, SIZE[::-1])
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.mean() < 0.1 and difference.max() <= 8


def test_the_unbiased_protocol_commutes_with_the_mirror_and_the_biased_one_is_off_by_a_pixel(views):
    points = np.random.default_rng(2).uniform(0, 400, (200, 17, 2))
    for protocol, bias in (("udp", 0.0), ("hrnet", 1.0)):
        plain = geometry.transform_points(geometry.crop_affine(views[0], SIZE, protocol=protocol), points)
        flipped = geometry.crop_affine(views[0], SIZE, flip=True, protocol=protocol)
        flipped = geometry.transform_points(flipped, points)[:, COCO17.flip_index]
        expected = geometry.flip_keypoints(plain, SIZE[1], COCO17.flip_index)
        np.testing.assert_allclose(flipped - expected, np.broadcast_to([bias, 0.0], expected.shape), atol=1e-9)


def test_a_crop_shows_the_box_padded_by_a_quarter_at_the_crops_aspect_ratio():
    box = np.array([[100.0, 50.0, 60.0, 160.0], [100.0, 50.0, 300.0, 160.0]])
    grown = geometry.crop_box(box, SIZE)
    np.testing.assert_allclose(geometry.box_centre(grown), geometry.box_centre(box))
    np.testing.assert_allclose(grown[:, 2:], [[160 * 0.75 * 1.25, 160 * 1.25], [300 * 1.25, 300 / 0.75 * 1.25]])
    corners = np.stack([grown[:, :2], grown[:, :2] + grown[:, 2:]], 1)
    seen = geometry.transform_points(geometry.crop_affine(grown, SIZE), corners)
    np.testing.assert_allclose(seen, np.broadcast_to([[0, 0], SIZE[::-1]], seen.shape), atol=1e-9)


def test_inverse_and_torch_give_the_same_numbers(views):
    points = np.random.default_rng(3).uniform(0, 600, (200, 17, 2))
    matrix = geometry.crop_affine(views[0], SIZE, rotation=views[1], flip=views[2])
    there = geometry.transform_points(matrix, points)
    np.testing.assert_allclose(geometry.transform_points(geometry.invert_affine(matrix), there), points, atol=1e-8)

    box, rotation, flip = map(torch.from_numpy, views)
    torch_matrix = geometry.crop_affine(box, SIZE, rotation=rotation, flip=flip)
    assert torch_matrix.dtype == torch.float64
    np.testing.assert_allclose(torch_matrix.numpy(), matrix, rtol=1e-12)
    torch_there = geometry.transform_points(torch_matrix, torch.from_numpy(points))
    np.testing.assert_allclose(torch_there.numpy(), there, atol=1e-9)
    np.testing.assert_allclose(geometry.invert_affine(torch_matrix).numpy(), geometry.invert_affine(matrix))
    single = geometry.crop_affine(box[0].float(), SIZE)
    assert single.shape == (2, 3) and single.dtype == torch.float32


def test_flipped_heatmaps_follow_the_published_flip_back_and_shift():
    maps = torch.rand(2, 17, 8, 6, generator=torch.Generator().manual_seed(0))
    back = maps.numpy()[..., ::-1].copy()
    for a, b in COCO17.flip_pairs:
        back[:, [a, b]] = back[:, [b, a]]
    np.testing.assert_array_equal(geometry.flip_heatmaps(maps, COCO17.flip_index), back)
    shifted = back.copy()
    shifted[..., 1:] = back[..., :-1]
    np.testing.assert_array_equal(geometry.flip_heatmaps(maps, COCO17.flip_index, shift=1), shifted)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_mirrors_exchange_left_and_right_and_undo_themselves(skeleton):
    exchange = str.maketrans({"<": "right", ">": "left"})
    names = [n.replace("left", "<").replace("right", ">").translate(exchange) for n in skeleton.keypoints]
    assert names == [skeleton.keypoints[i] for i in skeleton.flip_index]
    points = np.random.default_rng(0).random((3, skeleton.num_keypoints, 2)) * 100
    twice = geometry.flip_keypoints(geometry.flip_keypoints(points, 100, skeleton.flip_index), 100, skeleton.flip_index)
    np.testing.assert_allclose(twice, points)
    upper, lower = set(skeleton.upper_body), set(skeleton.lower_body)
    assert upper | lower == set(range(skeleton.num_keypoints)) and not upper & lower
    assert {skeleton.flip_index[i] for i in upper} == upper


def test_sizes_and_sigmas_are_the_official_ones():
    from pycocotools.cocoeval import Params

    assert (COCO17.num_keypoints, MPII16.num_keypoints, CROWDPOSE14.num_keypoints) == (17, 16, 14)
    np.testing.assert_allclose(COCO17.sigmas, Params("keypoints").kpt_oks_sigmas)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"flip_pairs": ((1, 3), (2, 4))}, "'left_eye' (1) must be paired with 'right_eye' (2)"),
        ({"flip_pairs": ()}, "flip pairs do not match"),
        ({"flip_pairs": (*COCO17.flip_pairs, (0, 1))}, "two flip pairs"),
        ({"flip_pairs": (*COCO17.flip_pairs[:-1], (15, 17))}, "indices run from 0 to 16"),
        ({"sigmas": COCO17.sigmas[1:]}, "16 sigmas for 17 keypoints"),
        ({"sigmas": (0.0, *COCO17.sigmas[1:])}, "must be positive"),
        ({"sigmas": (float("nan"), *COCO17.sigmas[1:])}, "must be positive and finite, got nan"),
        ({"keypoints": ("left_eye", *COCO17.keypoints[1:])}, "names repeat"),
        ({"limbs": ((0, 17),)}, "limb (0, 17) names no keypoint"),
        ({"upper_body": (0, -1)}, "upper-body index"),
    ],
)
def test_a_skeleton_that_cannot_be_says_what_is_wrong_with_it(change, says):
    with pytest.raises(ValueError, match=r"^skeleton 'coco17': ") as error:
        dataclasses.replace(COCO17, **change)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_skeleton_of_ones_own_takes_a_few_lines():
    hand = Skeleton("hand", ("wrist", "thumb", "index"), (), ((0, 1), (0, 2)), (0.05, 0.04, 0.04))
    assert hand.flip_index.tolist() == [0, 1, 2] and hand.index("thumb") == 1
    with pytest.raises(KeyError, match="no keypoint 'toe'; it has wrist, thumb, index"):
        hand.index("toe")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="unknown protocol 'dark'; use 'hrnet' or 'udp'"):
        geometry.crop_affine(np.array([0.0, 0, 10, 10]), SIZE, protocol="dark")
