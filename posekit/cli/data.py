"""Verbs on files: score results, make, check and fetch data."""

from __future__ import annotations

import json
from typing import Any

from posekit.cli.common import Arguments, add_group, add_mannequin_options, add_verb, mannequin, print_result


def score(options: Arguments) -> int:
    from posekit import metrics

    result = metrics.evaluate_coco(options.ground_truth, options.detections, area=options.area)
    print_result(options, json.loads(result.to_json()), result)
    return 0


def data_mannequin(options: Arguments) -> int:
    dataset = mannequin(options, options.split, options.scenes)
    facts = {
        "annotations": str(dataset.annotation_file),
        "images": str(dataset.folder / "images"),
        "pictures": len(dataset.people.image_ids),
        "people": len(dataset.people),
    }
    text = f"{facts['pictures']} pictures, {facts['people']} people\n{facts['annotations']}\n{facts['images']}"
    print_result(options, facts, text)
    return 0


def data_check(options: Arguments) -> int:
    from posekit.annotations import check_annotations

    problems = check_annotations(options.file, image_dir=options.images, detections=options.detections)
    plain = [{name: getattr(p, name) for name in ("severity", "record", "problem", "remedy")} for p in problems]
    print_result(options, plain, "\n".join(map(str, problems)) or f"{options.file}: no problem found")
    return 1 if any(p.severity == "error" for p in problems) else 0


def data_download(options: Arguments) -> int:
    from posekit.data.download import fetch

    folder = fetch(options.dataset, options.root, only=tuple(options.only) or None)
    print_result(options, {"folder": str(folder)}, folder)
    return 0


def add_verbs(verbs: Any) -> None:
    """``score`` and ``data``."""
    one = add_verb(verbs, "score", score, "COCO keypoint scores of a result file", "posekit score gt.json results.json")
    one.add_argument("ground_truth", metavar="GT", help="COCO annotation file")
    one.add_argument("detections", metavar="DETECTIONS", help="COCO result file")
    one.add_argument("--area", default="file", choices=("file", "box"), help="box: 0.53 of it, where areas are absent")

    group = add_group(verbs, "data", "make, check or fetch data", "posekit data check gt.json")
    one = add_verb(
        group, "mannequin", data_mannequin, "render the embedded dataset", "posekit data mannequin --split val"
    )
    one.add_argument("--split", default="train", choices=("train", "val", "test"))
    add_mannequin_options(one, scenes=500)
    one = add_verb(group, "check", data_check, "list every problem of an annotation file", "posekit data check gt.json")
    one.add_argument("file", metavar="FILE", help="COCO annotation file")
    one.add_argument("--images", metavar="DIR", help="also look for the pictures")
    one.add_argument("--detections", metavar="FILE", help="also look whether these results fit")
    one = add_verb(
        group, "download", data_download, "fetch a real dataset", "posekit data download coco --only val2017"
    )
    one.add_argument("dataset", choices=("coco", "mpii", "crowdpose"))
    one.add_argument("--root", default="data/downloads", help="folder that gets a folder of the dataset's name")
    one.add_argument("--only", action="append", default=[], metavar="PART", help="fetch archives with this in the name")
