"""Real COCO, MPII and CrowdPose pictures through reader, crops, codecs and scoring."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest
import torch

from posekit import data, metrics
from posekit.annotations import Detections, write_detections
from posekit.codecs import Coordinates, GaussianHeatmap, IntegralHeatmap, SimCC
from posekit.data.augmentation import hrnet_coco, mirror_only
from posekit.geometry import invert_affine, transform_points

pytestmark = pytest.mark.realdata
SIZE = (256, 192)


@pytest.fixture(scope="module")
def coco(realdata):
    return data.CocoKeypoints(realdata / "coco/test_coco.json", realdata / "coco")


@pytest.fixture(scope="module")
def boxes(realdata, coco):
    return data.read_boxes(realdata / "coco/test_coco_det_AP_H_56.json", coco.people)


def to_picture(keypoints: torch.Tensor, batch: data.CropBatch) -> np.ndarray:
    return transform_points(invert_affine(batch.affine), keypoints.double()).numpy()


def perfect_prediction(codec, keypoints: torch.Tensor, visibility: torch.Tensor):
    """What a network would say that has learned the codec's targets exactly, and the weights (B, K)."""
    targets, weights = codec.encode(keypoints, visibility)
    if isinstance(codec, SimCC):  # targets are probabilities, predictions their logarithms
        targets = tuple(t.clamp_min(1e-30).log() for t in targets)
    if isinstance(codec, IntegralHeatmap):  # trained on the coordinate alone: any map with that mean, here a Gaussian
        y, x = (torch.arange(n // codec.stride) * float(codec.stride) for n in SIZE)
        squared = (x - keypoints[..., 0, None, None]) ** 2 + (y[:, None] - keypoints[..., 1, None, None]) ** 2
        targets = -squared / (2 * codec.stride**2)
    return targets, weights


# Bounds on the error of each axis in crop pixels, from the arithmetic of the codec: half a cell when the centre is
# rounded, a quarter of one after the quarter offset, half a bin for SimCC. DARK is exact up to the Gaussian's tail.
CODECS = {
    "rounded, argmax": (GaussianHeatmap(SIZE, decoder="argmax"), 2.0),
    "rounded, quarter": (GaussianHeatmap(SIZE), 2.0),
    "sub-pixel, quarter": (GaussianHeatmap(SIZE, centre="subpixel", window=None), 1.0),
    "sub-pixel, dark": (GaussianHeatmap(SIZE, centre="subpixel", window=None, decoder="dark"), 0.005),
    "udp": (GaussianHeatmap(SIZE, centre="subpixel", window=None, decoder="dark", protocol="udp"), 0.005),
    "full size, argmax": (GaussianHeatmap(SIZE, stride=1, sigma=6.0, decoder="argmax"), 0.5),
    "simcc": (SimCC(SIZE), 0.25),
    "integral": (IntegralHeatmap(SIZE), 0.005),
    "coordinates": (Coordinates(SIZE), 0.001),
}


@pytest.mark.parametrize("augmentation", [None, mirror_only()], ids=["annotated boxes", "mirrored"])
@pytest.mark.parametrize("name", CODECS)
def test_real_keypoints_come_back_from_every_codec_to_their_place_in_the_picture(coco, name, augmentation):
    codec, bound = CODECS[name]
    protocol = getattr(codec, "protocol", "hrnet")
    dataset = coco.trainable()
    loader = data.CropLoader(dataset, SIZE, batch_size=5, protocol=protocol, augmentation=augmentation, seed=1)
    checked = 0
    for batch in loader:
        prediction, weights = perfect_prediction(codec, batch.keypoints, batch.visibility)
        found, scores = codec.decode(prediction)
        people = dataset.people.select(batch.person.numpy())
        true, vis = people.keypoints.copy(), people.visibility.copy()
        mirrored, order = batch.flip.numpy(), dataset.skeleton.flip_index
        true[mirrored], vis[mirrored] = true[mirrored][:, order], vis[mirrored][:, order]
        np.testing.assert_array_equal(batch.visibility, vis)
        # Near the border of a map part of the Gaussian is missing, and DARK's smoothing (5 cells) lacks neighbours.
        margin = 24.0 if bound < 0.1 else 8.0 if "sub-pixel" in name else 0.0
        inner = ((batch.keypoints >= margin) & (batch.keypoints <= torch.tensor([191.0, 255.0]) - margin)).all(-1)
        checkable = (inner & (weights > 0)).numpy()
        pixels_of_picture = (batch.box[:, 2] / SIZE[1]).numpy()[:, None, None]
        error = np.abs(to_picture(found, batch) - true) / pixels_of_picture
        assert error[checkable].max() <= bound + 1e-3
        assert (scores.numpy()[checkable] > 0.5).all()
        checked += checkable.sum()
    assert checked > 140


def pycocotools_stats(annotations, results) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(annotations))
        evaluation = COCOeval(gt, gt.loadRes(str(results)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("name", CODECS)
def test_decoded_ground_truth_scores_nearly_one_and_as_pycocotools_says(coco, realdata, tmp_path, name):
    codec, _ = CODECS[name]
    dataset = coco.trainable()
    protocol = getattr(codec, "protocol", "hrnet")
    (batch,) = data.CropLoader(dataset, SIZE, batch_size=64, protocol=protocol)
    found, scores = codec.decode(perfect_prediction(codec, batch.keypoints, batch.visibility)[0])
    people = dataset.people
    person = batch.person.numpy()
    detections = Detections(
        people.image_ids[people.image_index[person]], to_picture(found, batch), scores.numpy(), scores.mean(1).numpy()
    )
    write_detections(tmp_path / "results.json", detections)
    annotations = realdata / "coco/test_coco.json"
    result = metrics.evaluate_coco(annotations, tmp_path / "results.json")
    assert result.stats[0] >= 0.97 and result.stats[1] == 1.0
    np.testing.assert_array_equal(result.stats, pycocotools_stats(annotations, tmp_path / "results.json"))


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, 4) and (B, 4) xywh boxes -> (A, B) intersection over union."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    both = np.clip(high - low, 0, None).prod(-1)
    return both / (a[:, 2:].prod(-1)[:, None] + b[:, 2:].prod(-1)[None] - both)


def test_published_boxes_and_a_perfect_network_give_what_the_boxes_allow(coco, boxes, realdata, tmp_path):
    assert len(boxes) == 118
    people = coco.trainable().people
    same_picture = boxes.image_index[:, None] == people.image_index[None]
    iou = overlap(boxes.box, people.box) * same_picture
    nearest = iou.argmax(1)
    codec = GaussianHeatmap(SIZE)
    rows, keypoints, scores = [], [], []
    for batch in data.CropLoader(coco, SIZE, batch_size=32, boxes=boxes):
        person = nearest[batch.person]
        in_crop = transform_points(batch.affine, torch.from_numpy(people.keypoints[person])).float()
        found, confidence = codec.decode(codec.encode(in_crop, torch.from_numpy(people.visibility[person]))[0])
        rows.append(batch.person.numpy())
        keypoints.append(to_picture(found, batch))
        scores.append(confidence.numpy())
    rows, keypoints, scores = (np.concatenate(v) for v in (rows, keypoints, scores))
    assert sorted(rows.tolist()) == list(range(118))
    image_ids = people.image_ids[boxes.image_index[rows]]
    total = metrics.rescore(boxes.score[rows], scores)
    kept = metrics.oks_nms(
        keypoints,
        total,
        boxes.box[rows, 2:].prod(1) * 1.25**2,
        sigmas=coco.skeleton.sigmas,
        image_ids=image_ids,
    )
    detections = Detections(image_ids, keypoints, scores, total).select(kept)
    assert len(detections) < 118, "118 boxes of 12 people hold duplicates"
    write_detections(tmp_path / "results.json", detections)
    annotations = realdata / "coco/test_coco.json"
    result = metrics.evaluate_coco(annotations, tmp_path / "results.json")
    assert result.stats[1] > 0.9
    np.testing.assert_array_equal(result.stats, pycocotools_stats(annotations, tmp_path / "results.json"))


def test_the_example_row_of_the_hrnet_slides_is_found(coco):
    people = coco.people
    row = {"left_eye": (374, 73), "nose": (367, 81), "right_ankle": (396, 341)}
    where = [(people.keypoints[:, people.skeleton.index(k)] == v).all(1) for k, v in row.items()]
    (n,) = np.flatnonzero(np.logical_and.reduce(where))
    assert people.image_ids[people.image_index[n]] == 785 and people.num_keypoints[n] == 17


def test_fourteen_annotated_people_are_twelve_trainable_ones_and_crops_cover_their_keypoints(coco):
    assert len(coco) == 14 and len(coco.trainable()) == 12 and len(coco.people.image_ids) == 4
    (batch,) = data.CropLoader(coco.trainable(), SIZE, batch_size=64)
    inside = ((batch.keypoints >= 0) & (batch.keypoints < torch.tensor([192.0, 256.0]))).all(-1)
    assert inside[batch.visibility > 0].all()
    assert (batch.images.float().mean((1, 2, 3)) > 20).all()
    drawn = list(data.CropLoader(coco.trainable(), SIZE, batch_size=5, augmentation=hrnet_coco(), shuffle=True))
    assert sum(len(b) for b in drawn) == 12


def test_crops_show_the_pixels_that_pillow_reads(coco):
    """The centre of each crop against the picture itself, read by another decoder."""
    from PIL import Image

    dataset = coco.trainable()
    (batch,) = data.CropLoader(dataset, SIZE, batch_size=64, augmentation=mirror_only(), seed=3)
    y, x = torch.meshgrid(torch.arange(100, 150.0), torch.arange(70, 120.0), indexing="ij")
    grid = torch.stack([x, y], -1).reshape(-1, 2)
    for b, n in enumerate(batch.person.tolist()):
        image = Image.open(dataset.image_path(dataset.people.image_index[n])).convert("RGB")
        picture = np.asarray(image, dtype=np.float64)
        height, width, _ = picture.shape
        px, py = transform_points(invert_affine(batch.affine[b]), grid.double()).numpy().T
        x0, y0 = np.floor([px, py]).astype(int)
        seen = (x0 >= 0) & (y0 >= 0) & (x0 < width - 1) & (y0 < height - 1)
        fx, fy, x0, y0 = (px - x0)[seen, None], (py - y0)[seen, None], x0[seen], y0[seen]
        top = picture[y0, x0] * (1 - fx) + picture[y0, x0 + 1] * fx
        bottom = picture[y0 + 1, x0] * (1 - fx) + picture[y0 + 1, x0 + 1] * fx
        ours = batch.images[b].permute(1, 2, 0)[100:150, 70:120].reshape(-1, 3).numpy()[seen]
        assert np.abs(top * (1 - fy) + bottom * fy - ours).mean() < 1.5


def test_mpii_people_are_cropped_where_the_official_loader_crops_them(realdata):
    dataset = data.MpiiKeypoints(realdata / "mpii/test_mpii.json", realdata / "mpii")
    records = json.loads((realdata / "mpii/test_mpii.json").read_text())
    assert len(dataset) == len(records) == 5
    (batch,) = data.CropLoader(dataset, (256, 256), batch_size=8)
    for b, n in enumerate(batch.person.tolist()):
        record = records[n]
        centre, scale = np.array(record["center"], float), record["scale"]
        centre[1] += 15 * scale
        centre, side = centre - 1, 1.25 * scale * 200
        np.testing.assert_allclose(batch.box[b], [*(centre - side / 2), side, side])
        labelled = np.array(record["joints_vis"]) > 0
        joints = (np.array(record["joints"]) - 1 - centre) * 256 / side + 128
        np.testing.assert_allclose(batch.keypoints[b, labelled], joints[labelled], atol=1e-3)
        np.testing.assert_array_equal(batch.visibility[b] > 0, labelled)
    assert (batch.images.float().mean((1, 2, 3)) > 20).all()


def test_mpii_head_boxes_come_from_the_official_matlab_file(realdata, tmp_path):
    from scipy.io import savemat

    corners = np.arange(20.0).reshape(5, 2, 2)
    savemat(tmp_path / "gt_valid.mat", {"headboxes_src": np.moveaxis(corners, 0, 2)})
    from posekit.data.mpii import read_head_boxes

    dataset = data.MpiiKeypoints(
        realdata / "mpii/test_mpii.json", realdata / "mpii", head_boxes=read_head_boxes(tmp_path / "gt_valid.mat")
    )
    np.testing.assert_array_equal(dataset.head_box, corners.reshape(5, 4))
    two = dataset.with_people(dataset.people.select(np.array([3, 1])))
    np.testing.assert_array_equal(two.head_box, corners.reshape(5, 4)[[3, 1]])


def test_crowdpose_pictures_are_read_with_their_crowd_index(realdata):
    dataset = data.CrowdPose(realdata / "crowdpose/test_crowdpose.json", realdata / "crowdpose")
    assert dataset.skeleton.name == "crowdpose14" and len(dataset) == 5
    assert dataset.crowd_index.tolist() == [0.33, 0.39] and dataset.crowd_level.tolist() == [1, 1]
    assert np.isnan(dataset.people.area).all()
    (batch,) = data.CropLoader(dataset.trainable(), SIZE, batch_size=8, augmentation=hrnet_coco())
    assert batch.keypoints.shape == (4, 14, 2), "one of the five people has no keypoints"
    boxes = data.read_boxes(realdata / "crowdpose/test_crowdpose_det_AP_40.json", dataset.people)
    assert sum(len(b) for b in data.CropLoader(dataset, SIZE, batch_size=16, boxes=boxes)) == len(boxes) > 0


def test_cleaned_boxes_change_little_inside_a_picture(coco):
    before, after = coco.people.box, coco.clean_boxes().people.box
    np.testing.assert_allclose(before[:, 2:] - after[:, 2:], 1.0, atol=0.6)
    assert dataclasses.is_dataclass(coco.people) and coco.people.box is before
