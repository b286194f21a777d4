"""Suppression, rescoring, PCK and error diagnosis."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit import metrics
from posekit.annotations import read_people
from posekit.skeletons import COCO17, MPII16

SIGMAS = np.array(COCO17.sigmas)


def one_image(keypoints, scores, area, threshold):
    """Plain greedy suppression, a detection at a time."""
    left = list(np.argsort(-scores, kind="stable"))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        survivors = []
        for other in left:
            d2 = ((keypoints[best] - keypoints[other]) ** 2).sum(-1)
            scale = 2 * (2 * SIGMAS) ** 2 * (area[best] + area[other]) / 2
            if np.exp(-d2 / scale).mean() <= threshold:
                survivors.append(other)
        left = survivors
    return kept


@pytest.mark.parametrize("threshold", [0.9, 0.7, 0.5])
def test_suppression_as_published(parity, threshold):
    golden = np.load(parity / "codec" / "oks_nms.npz")
    arrays = golden["keypoints"][..., :2], golden["score"], golden["area"]
    name = f"keep_{100 * threshold:.0f}"
    hard = metrics.oks_nms(*arrays, sigmas=COCO17.sigmas, threshold=threshold)
    np.testing.assert_array_equal(hard, golden[name])
    soft, scores = metrics.soft_oks_nms(*arrays, sigmas=COCO17.sigmas, threshold=threshold)
    np.testing.assert_array_equal(soft, golden[f"soft_{name}"])
    assert (np.diff(scores) <= 0).all() and (scores <= golden["score"][soft]).all()


def crowd_of_detections(rng, images):
    """Detections in random order, images of very different numbers, with exact and with jittered duplicates."""
    keypoints, area, image = [], [], []
    for i in range(images):
        for _ in range(rng.integers(0, 9)):
            body, size = rng.uniform(0, 300, (17, 2)), rng.uniform(500, 20000)
            for _ in range(rng.integers(1, 5)):
                spread = rng.choice([0, 0.1, 0.3, 0.6])
                keypoints.append(body + rng.normal(0, spread, (17, 2)) * np.sqrt(size) * SIGMAS[:, None])
                area.append(size * rng.uniform(0.8, 1.2))
                image.append(7 * i)
    order = rng.permutation(len(image))
    return np.array(keypoints)[order], np.array(area)[order], np.array(image)[order]


@pytest.mark.parametrize("threshold", [0.95, 0.9, 0.5, 0.1, 0.0, 1.0])
def test_a_whole_dataset_is_suppressed_as_image_by_image(threshold):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        keypoints, area, image = crowd_of_detections(rng, 12)
        scores = rng.integers(0, 30, len(area)) / 30
        expected = []
        for i in np.unique(image):
            rows = np.flatnonzero(image == i)
            expected += rows[one_image(keypoints[rows], scores[rows], area[rows], threshold)].tolist()
        got = metrics.oks_nms(keypoints, scores, area, sigmas=SIGMAS, image_ids=image, threshold=threshold)
        assert sorted(got.tolist()) == sorted(expected)
        assert (np.diff(scores[got]) <= 0).all()
        soft, new = metrics.soft_oks_nms(keypoints, scores, area, sigmas=SIGMAS, image_ids=image, threshold=0.5)
        one = np.flatnonzero(image == image[0])
        alone, alone_new = metrics.soft_oks_nms(keypoints[one], scores[one], area[one], sigmas=SIGMAS, threshold=0.5)
        np.testing.assert_array_equal(soft[image[soft] == image[0]], one[alone])
        np.testing.assert_allclose(new[image[soft] == image[0]], alone_new, rtol=1e-12)


def test_suppression_far_from_the_origin_and_of_nothing():
    rng = np.random.default_rng(0)
    keypoints, area, image = crowd_of_detections(rng, 6)
    scores = rng.random(len(area))
    expected = metrics.oks_nms(keypoints, scores, area, sigmas=SIGMAS, image_ids=image)
    moved = metrics.oks_nms(keypoints + 2.0**20, scores, area, sigmas=SIGMAS, image_ids=image)
    np.testing.assert_array_equal(moved, expected)
    nothing = np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0)
    assert len(metrics.oks_nms(*nothing, sigmas=SIGMAS)) == 0
    assert len(metrics.soft_oks_nms(*nothing, sigmas=SIGMAS)[0]) == 0


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_rescoring_takes_the_joints_above_the_threshold(kind):
    joints = kind([[0.9, 0.5, 0.1], [0.2, 0.1, 0.0], [1.0, 1.0, 1.0]])
    got = metrics.rescore(kind([0.5, 0.9, 1.0]), joints)
    np.testing.assert_allclose(np.asarray(got), [0.5 * 0.7, 0.0, 1.0], rtol=1e-6)
    assert isinstance(got, type(joints))


def test_pck_counts_a_distance_equal_to_the_threshold():
    gt = np.zeros((2, 3, 2))
    pred = np.array([[[3, 4], [3.01, 4], [0, 0]], [[0, 10.0], [0, 0], [99, 0]]])
    visibility = np.array([[1, 2, 0], [1, 0, 0]])
    got = metrics.pck(pred, gt, visibility=visibility, reference=np.array([50.0, 100.0]), threshold=0.1)
    np.testing.assert_array_equal(got, [1.0, 0.0, np.nan])
    with pytest.raises(ValueError, match="person 1 has the reference length 0"):
        metrics.pck(pred, gt, visibility=visibility, reference=np.array([50.0, 0.0]))


def mpii_script(pred, gt, missing, head_boxes, threshold):
    """The arithmetic of HRNet's MPIIDataset.evaluate, joints first."""
    size = np.linalg.norm(head_boxes[2:] - head_boxes[:2], axis=0) * 0.6
    visible = 1 - missing
    error = np.linalg.norm(pred - gt, axis=1) / size
    count = visible.sum(1).astype(float)
    right = ((error <= threshold) * visible).sum(1)
    share = 100 * right / count
    counted = np.ma.array(count, mask=False)
    counted.mask[6:8] = True
    shares = np.ma.array(share, mask=False)
    shares.mask[6:8] = True
    return share, np.sum(shares * counted / counted.sum())


def test_pckh_equals_the_published_arithmetic():
    rng = np.random.default_rng(0)
    gt = rng.uniform(0, 200, (60, 16, 2))
    pred = gt + rng.normal(0, 8, gt.shape)
    visibility = rng.random((60, 16)) > 0.3
    head = np.concatenate([rng.uniform(0, 50, (60, 2)), rng.uniform(60, 90, (60, 2))], -1)
    got = metrics.pckh(pred, gt, visibility=visibility, head_box=head)
    axes = (1, 2, 0)
    for threshold, mean in ((0.5, got.mean), (0.1, got.mean_at_01)):
        share, expected = mpii_script(pred.transpose(axes), gt.transpose(axes), ~visibility.T, head.T, threshold)
        assert 100 * mean == pytest.approx(expected, rel=1e-12)
        if threshold == 0.5:
            np.testing.assert_allclose(100 * got.joints, share, rtol=1e-12)
            assert 100 * got.groups["shoulder"] == pytest.approx((share[12] + share[13]) / 2)
            assert 100 * got.groups["head"] == pytest.approx(share[9])
    shifted = metrics.pckh(pred + 1, gt + 1, visibility=visibility, head_box=head)
    np.testing.assert_array_equal(shifted.joints, got.joints)
    with pytest.raises(ValueError, match="16 keypoints, got 17"):
        metrics.pckh(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), visibility=np.ones((1, 17)), head_box=head[:1])


def two_people():
    def person(number, x):
        points = np.stack([x + 12.0 * (np.arange(17) % 5), 20.0 * np.arange(17), np.full(17, 2)], -1)
        return {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17, "area": 3000.0,
                "bbox": [x, 0.0, 60.0, 340.0], "keypoints": points.ravel().tolist()}  # fmt: skip

    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    return read_people(
        {"images": [{"id": 1}], "annotations": [person(1, 0.0), person(2, 300.0)], "categories": [category]}
    )


def test_each_kind_of_error_is_told_apart():
    people = two_people()
    wrist, other_wrist = COCO17.index("left_wrist"), COCO17.index("right_wrist")
    pred = people.keypoints.copy()
    deviation = 2 * COCO17.sigmas[wrist] * np.sqrt(3000)
    pred[0, wrist, 1] += deviation * np.sqrt(-2 * np.log(0.7))
    pred[0, other_wrist] = people.keypoints[0, wrist]
    pred[0, COCO17.index("left_knee")] = people.keypoints[1, COCO17.index("right_knee")]
    pred[1, COCO17.index("nose")] += 5000
    diagnosis = metrics.diagnose(people, pred)
    found = {(m, COCO17.keypoints[k]): metrics.KINDS[diagnosis.kind[m, k]] for m, k in np.argwhere(diagnosis.kind > 0)}
    assert found == {
        (0, "left_wrist"): "jitter",
        (0, "right_wrist"): "inversion",
        (0, "left_knee"): "swap",
        (1, "nose"): "miss",
    }
    assert diagnosis.counts.sum() == 34 and diagnosis.shares["good"] == pytest.approx(30 / 34)
    assert "inversion" in str(diagnosis)
    exchanged = metrics.diagnose(people, people.keypoints, person=np.array([1, 0]))
    assert set(np.unique(exchanged.kind)) == {3}
    mirrored = metrics.diagnose(people, people.keypoints[:, COCO17.flip_index])
    assert mirrored.kind[0, COCO17.index("nose")] == 0 and mirrored.kind[0, wrist] == 2


def test_left_right_confusion_by_view_joint_and_distance():
    people = two_people()
    gt = np.concatenate([people.keypoints] * 2)
    pred = gt.copy()
    pred[3] = gt[3][COCO17.flip_index]
    box = np.concatenate([people.box] * 2)
    visibility = np.full((4, 17), 2)
    visibility[0, COCO17.index("left_ankle")] = 0
    result = metrics.lr_confusion(pred, gt, visibility=visibility, box=box, skeleton=COCO17)
    separation = np.linalg.norm(gt - gt[:, COCO17.flip_index], axis=-1)
    expected = (separation > 0.06 * 340) & (np.arange(17) > 0)
    expected[0, [COCO17.index("left_ankle"), COCO17.index("right_ankle")]] = False
    np.testing.assert_array_equal(result.eligible, expected)
    np.testing.assert_array_equal(result.confused[3], expected[3])
    assert not result.confused[:3].any()
    views = result.by_view(np.array([0.0, 2 * np.pi, np.pi / 2, np.pi]))
    assert views == {"front": 0.0, "side": 0.0, "back": 1.0}
    assert result.by_joint()["wrist"] == 0.25
    share, count = result.by_distance(np.where(np.arange(4)[:, None] == 3, 5.0, 1.0) * np.ones((4, 17)), [0, 2, 4, 6])
    np.testing.assert_array_equal(share, [0, np.nan, 1])
    assert count.sum() == expected.sum()


def test_a_prediction_between_the_joints_is_not_confused():
    gt = np.array([[[0.0, 0], [10, 0], [20, 0]]] * 3)
    pred = gt.copy()
    pred[:, 1, 0] = [15.0, 16.6, 16.7]
    from posekit.skeletons import Skeleton

    skeleton = Skeleton("hands", ("head", "left_hand", "right_hand"), ((1, 2),), (), (0.1, 0.1, 0.1))
    result = metrics.lr_confusion(
        pred, gt, visibility=np.ones((3, 3)), box=np.array([[0, 0, 20, 20]] * 3), skeleton=skeleton
    )
    np.testing.assert_array_equal(result.confused[:, 1], [False, False, True])


def test_mpii_groups_name_every_group_once():
    result = metrics.PckhResult(np.arange(16) / 16, 0.5, 0.1, 0.5)
    assert result.groups["ankle"] == pytest.approx(5 / 32) and "mean@0.1" in str(result)
    assert MPII16.keypoints[9] == "head_top" and result.groups["head"] == 9 / 16
