"""COCO keypoint evaluation against pycocotools, to the last bit."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest
import torch

from posekit import metrics
from posekit.annotations import AnnotationError, Detections, read_detections, read_people
from posekit.metrics import bootstrap_ap, evaluate_coco
from posekit.skeletons import COCO17

SIGMAS = np.array(COCO17.sigmas)


def pycocotools(gt, detections):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(gt)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def dataset(rng, *, images=12, people=4, detections=6, noise=1.0, crowd=0.1, empty=0.2, scores="distinct", box=False):
    """A random annotation file and result file; a person's own detections come with ``noise`` sigmas of noise."""
    gt = {
        "images": [{"id": int(i), "height": 480, "width": 640, "file_name": f"{i}.jpg"} for i in
                   rng.permutation(10 * images)[:images]],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}],
    }  # fmt: skip
    results = []
    for image in gt["images"]:
        bodies = []
        for _ in range(rng.integers(0, people + 1)):
            x, y = rng.uniform(0, 400, 2)
            w, h = rng.uniform(10, 240, 2)
            points = np.round(np.stack([x + rng.uniform(0, 1, 17) * w, y + rng.uniform(0, 1, 17) * h], -1))
            flags = rng.choice([0, 1, 2], 17, p=[0.4, 0.1, 0.5])
            kind = rng.random()
            if kind < crowd + empty:
                flags[:] = 0
            written = np.where(flags[:, None] > 0, points, 0)
            area = w * h * rng.uniform(0.3, 0.8)
            gt["annotations"].append({
                "id": len(gt["annotations"]) + 1, "image_id": image["id"], "category_id": 1,
                "iscrowd": int(kind < crowd), "area": area, "bbox": [x, y, w, h],
                "keypoints": np.concatenate([written, flags[:, None]], -1).astype(int).ravel().tolist(),
                "num_keypoints": int((flags > 0).sum()),
            })  # fmt: skip
            bodies.append((points, area))
        for n in range(detections):
            if bodies and n < 2 * len(bodies):
                points, area = bodies[n % len(bodies)]
                points = points + rng.normal(0, 1, (17, 2)) * noise * np.sqrt(area) * SIGMAS[:, None] * rng.choice(
                    [0, 0.5, 1, 3]
                )
            else:
                points = rng.uniform(0, 400, 2) + rng.uniform(0, 1, (17, 2)) * rng.uniform(20, 200, 2)
            score = {"distinct": rng.random(), "tied": rng.integers(0, 4) / 4, "equal": 0.5}[scores]
            record = {
                "image_id": image["id"], "category_id": 1, "score": float(score),
                "keypoints": np.concatenate([points, np.ones((17, 1))], -1).ravel().tolist(),
            }  # fmt: skip
            if box:
                record["bbox"] = rng.uniform(10, 200, 4).tolist()
            results.append(record)
    order = rng.permutation(len(results))
    rng.shuffle(gt["annotations"])
    return gt, [results[i] for i in order]


CASES = {
    "distinct scores": {},
    "tied scores": {"scores": "tied"},
    "all scores equal": {"scores": "equal"},
    "more than 20 detections of an image": {"detections": 30, "scores": "tied", "images": 5},
    "many people, all overlapping": {"people": 15, "noise": 8.0, "images": 4, "detections": 20},
    "crowds": {"crowd": 0.6},
    "people without keypoints": {"empty": 0.7, "scores": "tied"},
    "nobody counts": {"crowd": 0.5, "empty": 0.6},
    "no people at all": {"people": 0},
    "perfect detections": {"noise": 0.0},
    "detections with boxes": {"box": True},
    "detections without areas and boxes": {"box": False, "detections": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_equals_pycocotools_to_the_last_bit(case):
    for seed in range(12):
        gt, results = dataset(np.random.default_rng([seed, len(case)]), **CASES[case])
        reference = pycocotools(gt, results)
        ours = evaluate_coco(gt, results)
        np.testing.assert_array_equal(ours.stats, reference.stats[:10])
        np.testing.assert_array_equal(ours.precision, reference.eval["precision"][:, :, 0, :, 0])
        np.testing.assert_array_equal(ours.recall, reference.eval["recall"][:, 0, :, 0])


def test_matches_are_those_of_pycocotools():
    gt, results = dataset(np.random.default_rng(5), images=30, people=6, detections=12)
    reference = pycocotools(gt, results)
    ours = evaluate_coco(gt, results)
    people = read_people(gt)
    for t in (0, 5, 9):
        pairs = set()
        for entry in reference.evalImgs[: len(gt["images"])]:
            if entry is not None:
                found = zip(entry["dtIds"], entry["dtMatches"][t])
                pairs |= {(int(d) - 1, int(g)) for d, g in found if g > 0}
        detection, person = ours.matches.pairs(threshold=metrics.THRESHOLDS[t])
        assert pairs and set(zip(detection.tolist(), people.ids[person].tolist())) == pairs
    every = np.concatenate([m.ravel() for m in reference.ious.values() if len(m)])
    assert np.isin(ours.matches.pair_oks, every).all(), "the OKS of a matched pair has other bits than pycocotools'"


def test_oks_asks_for_one_skeleton_and_looks_at_labelled_keypoints_only():
    rng = np.random.default_rng(0)
    gt, visibility = rng.uniform(0, 90, (3, 17, 2)), np.tile([0, 2], 9)[:17] + np.zeros((3, 1))
    known = {"area": np.full(3, 900.0), "visibility": visibility, "sigmas": SIGMAS}
    expected = metrics.oks(gt + 2, gt, **known)
    holes = np.where(visibility[..., None] > 0, gt, np.nan)
    np.testing.assert_array_equal(metrics.oks(gt + 2, holes, **known), expected)
    with pytest.raises(ValueError, match="17 predicted and 17 annotated keypoints with 1 sigmas"):
        metrics.oks(gt, gt, **{**known, "sigmas": [0.1]})
    with pytest.raises(ValueError, match="5 predicted and 17 annotated"):
        metrics.oks(gt[:, :5], gt, **known)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_oks_of_all_pairs_equals_pycocotools(as_tensor):
    gt, results = dataset(np.random.default_rng(8), images=20, people=5, detections=8, noise=2.0)
    people, found = read_people(gt), read_detections(results)
    reference = pycocotools(gt, results)
    compared = 0
    for (image, _), expected in reference.ious.items():
        if not len(expected):
            continue
        rows = np.flatnonzero(people.image_ids[people.image_index] == image)
        mine = np.flatnonzero(found.image_ids == image)
        mine = mine[np.argsort(-found.scores[mine], kind="stable")]
        arrays = [found.keypoints[mine][:, None], people.keypoints[rows][None]]
        extra = {"area": people.area[rows], "visibility": people.visibility[rows], "box": people.box[rows]}
        if as_tensor:
            arrays = [torch.from_numpy(a) for a in arrays]
            extra = {key: torch.from_numpy(a) for key, a in extra.items()}
        got = metrics.oks(*arrays, **extra, sigmas=COCO17.sigmas)
        assert isinstance(got, torch.Tensor) == as_tensor
        np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=1e-12)
        compared += expected.size
    assert compared > 100


def test_far_away_tiny_and_huge_coordinates_do_not_hide_a_match():
    """The float32 pass must never lose a pair, however badly float32 resolves the coordinates."""
    rng = np.random.default_rng(3)
    for scale, offset in ((1e-4, 0), (1, 1e6), (1e-3, 1e5), (1e4, 0)):
        gt, results = dataset(rng, images=6, detections=5)
        for record in gt["annotations"]:
            points = np.array(record["keypoints"], float).reshape(17, 3)
            points[:, :2] = points[:, :2] * scale + offset
            record["keypoints"] = points.ravel().tolist()
            record["area"] *= scale**2
            record["bbox"] = (np.array(record["bbox"]) * scale + [offset, offset, 0, 0]).tolist()
        for record in results:
            points = np.array(record["keypoints"]).reshape(17, 3)
            points[:, :2] = points[:, :2] * scale + offset
            record["keypoints"] = points.ravel().tolist()
        reference = pycocotools(gt, results)
        got = evaluate_coco(gt, results)
        np.testing.assert_array_equal(got.stats, reference.stats[:10])
        assert got.recall[0, 0] == reference.eval["recall"][0, 0, 0, 0]


def test_image_ids_may_be_anything_integral():
    """Ids far apart are looked up in another way than ids close together."""
    gt, results = dataset(np.random.default_rng(4), images=20)
    expected = evaluate_coco(gt, results)
    for record in [*gt["annotations"], *results]:
        record["image_id"] = (record["image_id"] - 50) * 10**12
    for image in gt["images"]:
        image["id"] = (image["id"] - 50) * 10**12
    np.testing.assert_array_equal(evaluate_coco(gt, results).precision, expected.precision)
    results[3]["image_id"] = 7
    with pytest.raises(AnnotationError, match="image 7, which"):
        evaluate_coco(gt, results)


def test_a_person_of_annotation_id_0_is_found():
    """pycocotools stores ids of matches and reads 0 as "none"; the person counts as missed there, not here."""
    gt, results = dataset(np.random.default_rng(0), images=1, people=1, noise=0, crowd=0, empty=0, detections=1)
    while not gt["annotations"]:
        gt, results = dataset(np.random.default_rng(4), images=1, people=1, noise=0, crowd=0, empty=0, detections=1)
    gt["annotations"][0]["id"] = 0
    assert evaluate_coco(gt, results).ap == pytest.approx(1)
    assert pycocotools(gt, results).stats[0] == 0


def test_no_detections_score_zero():
    gt, _ = dataset(np.random.default_rng(1))
    result = evaluate_coco(gt, [])
    assert result.ap == 0 and result.ar == 0


def test_files_dicts_and_arrays_agree(tmp_path):
    gt, results = dataset(np.random.default_rng(2), images=20)
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    from_files = evaluate_coco(tmp_path / "gt.json", tmp_path / "dt.json")
    points = np.array([r["keypoints"] for r in results]).reshape(-1, 17, 3)
    arrays = Detections(
        torch.tensor([r["image_id"] for r in results]),
        torch.from_numpy(points[..., :2]),
        points[..., 2],
        [r["score"] for r in results],
    )
    for other in (evaluate_coco(gt, results), evaluate_coco(read_people(gt), arrays)):
        np.testing.assert_array_equal(other.precision, from_files.precision)
    again = json.loads(from_files.to_json())
    assert list(again["stats"].values()) == from_files.stats.tolist()
    assert f"{100 * from_files.ap:.2f}" in str(from_files)
    assert from_files.ap75 == from_files.stats[2] and from_files.ar_large == from_files.stats[9]


def test_real_annotations_with_noisy_copies(realdata):
    gt = json.loads((realdata / "coco" / "test_coco.json").read_text())
    rng = np.random.default_rng(0)
    results = []
    for record in gt["annotations"] * 3:
        points = np.array(record["keypoints"], float).reshape(17, 3)
        points[:, :2] += rng.normal(0, 1, (17, 2)) * SIGMAS[:, None] * np.sqrt(record["area"]) * rng.uniform(0, 3)
        results.append({"image_id": record["image_id"], "category_id": 1, "score": float(rng.random()),
                        "keypoints": points.ravel().tolist()})  # fmt: skip
    ours = evaluate_coco(realdata / "coco" / "test_coco.json", results)
    assert 0.1 < ours.ap < 0.9
    np.testing.assert_array_equal(ours.stats, pycocotools(gt, results).stats[:10])


def test_areas_that_are_absent_are_named_or_taken_from_the_box():
    gt, results = dataset(np.random.default_rng(6), crowd=0, empty=0)
    with_area = evaluate_coco(gt, results)
    by_box = copy.deepcopy(gt)
    for record in by_box["annotations"]:
        record["area"] = record["bbox"][2] * record["bbox"][3] * 0.53
    without = copy.deepcopy(gt)
    for record in without["annotations"]:
        del record["area"]
    first = without["annotations"][0]["id"]
    with pytest.raises(AnnotationError, match=rf"annotation {first} has no 'area'.*area='box'"):
        evaluate_coco(without, results)
    got = evaluate_coco(without, results, area="box")
    np.testing.assert_array_equal(got.stats, pycocotools(by_box, results).stats[:10])
    assert got.ap != with_area.ap


def test_detections_that_do_not_fit_are_named():
    gt, results = dataset(np.random.default_rng(7))
    stray = copy.deepcopy(results)
    stray[3]["image_id"] = 999_999
    with pytest.raises(AnnotationError, match=r"detection at index 3 is of image 999999.*not list"):
        evaluate_coco(gt, stray)
    found = read_detections(results)
    with pytest.raises(AnnotationError, match="16 keypoints where coco17 has 17"):
        evaluate_coco(
            gt, Detections(found.image_ids, found.keypoints[:, :16], found.keypoint_scores[:, :16], found.scores)
        )
    spoilt = found.keypoints.copy()
    spoilt[5, 2, 0] = np.nan
    with pytest.raises(AnnotationError, match=r"index 5 .*NaN"):
        evaluate_coco(gt, Detections(found.image_ids, spoilt, found.keypoint_scores, found.scores))


def test_bootstrap_equals_scoring_the_resampled_files():
    gt, results = dataset(np.random.default_rng(9), images=15)
    result = evaluate_coco(gt, results)
    ids = result.matches.image_ids
    rng = np.random.default_rng(42)
    expected = []
    for _ in range(8):
        times = np.bincount(rng.integers(0, len(ids), len(ids)), minlength=len(ids))
        resampled = {"images": [], "annotations": [], "categories": gt["categories"]}
        copies = []
        for image, count in zip(ids.tolist(), times.tolist()):
            for n in range(count):
                new = image * 100 + n
                resampled["images"].append({"id": new})
                for record in gt["annotations"]:
                    if record["image_id"] == image:
                        number = len(resampled["annotations"]) + 1
                        resampled["annotations"].append(record | {"image_id": new, "id": number})
                copies += [record | {"image_id": new} for record in results if record["image_id"] == image]
        expected.append(pycocotools(resampled, copies).stats)
    for index, name in enumerate(metrics.STATS):
        got = bootstrap_ap(result, samples=8, seed=42, statistic=name).samples
        np.testing.assert_allclose(np.nan_to_num(got, nan=-1), np.array(expected)[:, index], rtol=0, atol=1e-12)


def test_bootstrap_interval_holds_the_estimate_and_repeats():
    gt, results = dataset(np.random.default_rng(10), images=40)
    result = evaluate_coco(gt, results)
    a, b = (bootstrap_ap(result, samples=200, seed=1) for _ in range(2))
    np.testing.assert_array_equal(a.samples, b.samples)
    assert a.low < result.ap < a.high and a.low < a.mean < a.high
    with pytest.raises(ValueError, match="unknown statistic"):
        bootstrap_ap(result, seed=0, statistic="mAP")
