"""COCO keypoint evaluation against pycocotools and hotcoco, on the size of COCO val2017.

    python tests/benchmarks/bench_evaluation.py [--rounds 5] [--json FILE]

5,000 images, 2,693 with people, 11,004 people of whom 6,352 have keypoints and 110 are crowds, 20 detections an image.
Three questions: AP from arrays in memory (the peers need a record per detection, so making these counts), AP from two
JSON files (with simdjson where it is installed, and with the standard library alone), and the end of an epoch
(rescore, suppress, score) on detections of which a third are true duplicates.
Everything runs on one thread, by the CPU clock; hotcoco's threads are held to one as well.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common  # first: it sets the number of threads
import numpy as np

from posekit import metrics
from posekit.annotations import Detections, parsing, read_people
from posekit.skeletons import COCO17

SIGMAS = np.array(COCO17.sigmas)
IMAGES, PEOPLED, PEOPLE, LABELLED, CROWDS, PER_IMAGE = 5000, 2693, 11004, 6352, 110, 20
K = 17
STANDARD, SIMDJSON = "posekit, standard library", "posekit, simdjson"


def make_people(rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
    """An annotation file as a dict, and for each person all K places, the area, and the row of the image."""
    image_ids = np.sort(rng.choice(600_000, IMAGES, replace=False)) + 1
    size = np.stack([rng.integers(400, 641, IMAGES), rng.integers(320, 641, IMAGES)], -1)
    peopled = rng.choice(IMAGES, PEOPLED, replace=False)
    image = np.concatenate([peopled, rng.choice(peopled, PEOPLE - PEOPLED)])
    wh = rng.uniform((0.04, 0.08), (0.8, 0.9), (PEOPLE, 2)) * size[image]
    xy = rng.uniform(0, 1, (PEOPLE, 2)) * (size[image] - wh)
    places = xy[:, None] + rng.uniform((0.05, 0.02), (0.95, 0.98), (PEOPLE, K, 2)) * wh[:, None]
    area = np.round(wh.prod(1) * rng.uniform(0.3, 0.75, PEOPLE), 4)
    flags = rng.choice([0, 1, 2], (PEOPLE, K), p=[0.3, 0.1, 0.6])
    flags[np.arange(PEOPLE), rng.integers(0, K, PEOPLE)] = 2
    order = rng.permutation(PEOPLE)
    flags[order[LABELLED:]] = 0
    crowd = np.zeros(PEOPLE, int)
    crowd[order[LABELLED : LABELLED + CROWDS]] = 1
    places = np.where(flags[..., None] > 0, np.round(places), places)
    written = np.concatenate([np.where(flags[..., None] > 0, places, 0), flags[..., None]], -1).astype(int)
    annotations = [
        {
            "id": n + 1, "image_id": int(image_ids[image[n]]), "category_id": 1, "iscrowd": int(crowd[n]),
            "area": float(area[n]), "bbox": np.round([*xy[n], *wh[n]], 2).tolist(),
            "keypoints": written[n].ravel().tolist(), "num_keypoints": int((flags[n] > 0).sum()),
        }
        for n in range(PEOPLE)
    ]  # fmt: skip
    images = [
        {"id": int(i), "width": int(w), "height": int(h), "file_name": f"{i:012d}.jpg"}
        for i, (w, h) in zip(image_ids, size)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}, places, area, image


def make_detections(
    rng: np.random.Generator, gt: dict[str, Any], places: np.ndarray, area: np.ndarray, image: np.ndarray
) -> Detections:
    """One and a half detections a person, 0.5 to 4 sigmas off; the rest of an image's 20 hit nobody."""
    ids = np.array([record["id"] for record in gt["images"]])
    size = np.array([(record["width"], record["height"]) for record in gt["images"]])
    row = np.repeat(np.arange(IMAGES), PER_IMAGE)
    D = len(row)
    wh = rng.uniform((0.05, 0.1), (0.6, 0.8), (D, 2)) * size[row]
    keypoints = (
        rng.uniform(0, 1, (D, 2))[:, None] * (size[row] - wh)[:, None] + rng.uniform(0, 1, (D, K, 2)) * wh[:, None]
    )
    hit = np.zeros(D, bool)
    by_image = np.argsort(image, kind="stable")
    begin = np.searchsorted(image[by_image], np.arange(IMAGES + 1))
    for i in range(IMAGES):
        own = by_image[begin[i] : begin[i + 1]]
        n = min(PER_IMAGE, int(np.ceil(1.5 * len(own))))
        rows, of = i * PER_IMAGE + np.arange(n), np.resize(own, n)
        off = np.sqrt(area[of])[:, None] * SIGMAS * rng.choice([0.5, 1, 2, 4], (n, 1))
        keypoints[rows] = places[of] + rng.normal(0, 1, (n, K, 2)) * off[..., None]
        hit[rows] = True
    scores = (rng.permutation(D) / D * 0.98 + 0.01) * np.where(hit, 1, 0.4)
    return Detections(ids[row], np.round(keypoints, 4), np.round(rng.uniform(0.1, 1, (D, K)), 4), scores)


def with_duplicates(rng: np.random.Generator, detections: Detections) -> Detections:
    """A third of the detections replaced by near copies of another one of the same image."""
    keypoints = detections.keypoints.copy()
    D = len(keypoints)
    copies = rng.choice(D, D // 3, replace=False)
    source = copies // PER_IMAGE * PER_IMAGE + rng.integers(0, PER_IMAGE, len(copies))
    extent = np.sqrt(np.ptp(detections.keypoints[source], axis=1).prod(1))
    shift = rng.normal(0, 1, (len(copies), K, 2)) * 0.3 * SIGMAS[:, None] * extent[:, None, None]
    keypoints[copies] = detections.keypoints[source] + shift
    return Detections(detections.image_ids, keypoints, detections.keypoint_scores, detections.scores)


def records(detections: Detections) -> list[dict[str, Any]]:
    """What the peers take: a dict for each detection."""
    triples = np.concatenate([detections.keypoints, detections.keypoint_scores[..., None]], -1)
    return [
        {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": score}
        for image, keypoints, score in zip(
            detections.image_ids.tolist(), triples.reshape(len(triples), -1).tolist(), detections.scores.tolist()
        )
    ]


def peer(module: str, gt: str, detections: Any) -> np.ndarray:
    if module == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from hotcoco import COCO, COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(gt)
        found = coco.loadRes(detections if isinstance(detections, str) else records(detections))
        evaluation = COCOeval(coco, found, "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.array(evaluation.stats[:10])


@contextlib.contextmanager
def without_simdjson() -> Iterator[None]:
    """As if pysimdjson, an optional extra, were not installed."""
    original, parsing.simdjson_or_none = parsing.simdjson_or_none, lambda: None
    try:
        yield
    finally:
        parsing.simdjson_or_none = original


def from_files(gt: str, detections: str) -> np.ndarray:
    return metrics.evaluate_coco(gt, detections).stats


def end_of_epoch(gt: str, detections: Detections) -> metrics.KeypointResult:
    people = read_people(gt)
    area = metrics.detection_areas(detections)
    scores = metrics.rescore(detections.scores, detections.keypoint_scores)
    kept = metrics.oks_nms(detections.keypoints, scores, area, sigmas=SIGMAS, image_ids=detections.image_ids)
    rescored = Detections(
        detections.image_ids[kept], detections.keypoints[kept], detections.keypoint_scores[kept], scores[kept],
        area=area[kept],
    )  # fmt: skip
    return metrics.evaluate_coco(people, rescored)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ours-only", action="store_true", help="leave the peers out")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    gt, places, area, image = make_people(rng)
    detections = make_detections(rng, gt, places, area, image)
    doubled = with_duplicates(rng, detections)
    try:
        import hotcoco  # noqa: F401

        peers = ["pycocotools", "hotcoco"]
    except ImportError:
        peers = ["pycocotools"]
    peers = [] if options.ours_only else peers
    stats: dict[str, np.ndarray] = {}

    def keep(name: str, values: np.ndarray) -> None:
        stats[name] = values

    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        gt_file, dt_file = str(Path(folder) / "gt.json"), str(Path(folder) / "dt.json")
        Path(gt_file).write_text(json.dumps(gt))
        Path(dt_file).write_text(json.dumps(records(detections)))
        arrays = {"posekit": lambda: keep("posekit arrays", metrics.evaluate_coco(gt_file, detections).stats)}

        def plain() -> None:
            with without_simdjson():
                keep("posekit files, plain", from_files(gt_file, dt_file))

        files = {STANDARD: plain}
        if parsing.simdjson_or_none() is not None:
            files[SIMDJSON] = lambda: keep("posekit files, simdjson", from_files(gt_file, dt_file))
        for name in peers:
            arrays[name] = lambda name=name: keep(f"{name} arrays", peer(name, gt_file, detections))
            files[name] = lambda name=name: keep(f"{name} files", peer(name, gt_file, dt_file))
        epoch = {
            "AP alone": lambda: metrics.evaluate_coco(gt_file, doubled),
            "rescore, OKS-NMS, AP": lambda: end_of_epoch(gt_file, doubled),
        }
        for title, cases, reference in (
            ("AP, detections as arrays, annotations from file", arrays, "posekit"),
            ("AP, from two JSON files", files, STANDARD),
            ("end of an epoch, a third of the detections duplicates", epoch, "AP alone"),
        ):
            tables[title] = common.report(title, common.interleave(cases, rounds=options.rounds), reference=reference)
        result = metrics.evaluate_coco(gt_file, detections)
        intervals = common.interleave(
            {"1000 resamples": lambda: metrics.bootstrap_ap(result, samples=1000, seed=0)}, rounds=1, warmup=0
        )
        tables["bootstrap"] = common.report("bootstrap of AP over images", intervals, reference="1000 resamples")
        kept = len(end_of_epoch(gt_file, doubled).matches.order)
    print(f"\nkept after suppression: {kept} of {len(doubled)}")
    reference_stats = stats.get("pycocotools files", stats["posekit files, plain"])
    for name, values in stats.items():
        print(f"{name:24} equal to the last bit: {np.array_equal(values, reference_stats)}")
    common.write(
        options.json,
        {"tables": tables, "versions": common.versions("numpy", "pycocotools", "hotcoco", "pysimdjson"), "kept": kept},
    )


if __name__ == "__main__":
    main()
