"""Annotation and result files: the same arrays by either parser, one sentence for each fault, every fault at once."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import json

import numpy as np
import pytest

from posekit.annotations import (
    AnnotationError,
    Detections,
    check_annotations,
    parsing,
    read_detections,
    read_people,
    write_detections,
)
from posekit.geometry import crop_affine, crop_box, transform_points
from posekit.metrics import evaluate_coco
from posekit.skeletons import COCO17, CROWDPOSE14, Skeleton


@pytest.fixture(params=["simdjson", "standard library"])
def parser(request, monkeypatch):
    """Run a test with either parser."""
    if request.param == "simdjson":
        if parsing.simdjson_or_none() is None:
            pytest.skip("pysimdjson is not installed; it is an optional extra")
    else:
        monkeypatch.setattr(parsing, "simdjson_or_none", lambda: None)
    return request.param


def make_people(rng, count=12):
    images = [{"id": 10 * i + 7, "height": 480, "width": 640, "file_name": f"é{i}.jpg"} for i in range(5)]
    annotations = []
    for n in range(count):
        corner, size = rng.uniform(0, 200, 2), rng.uniform(60, 250, 2)
        points = np.round(corner + rng.uniform(0.05, 0.95, (17, 2)) * size, 2)
        flags = rng.choice([0, 1, 2], 17, p=[0.2, 0.2, 0.6])
        flags[0] = 2
        points[flags == 0] = 0
        annotations.append({
            "id": n + 1, "image_id": images[n % 4]["id"], "category_id": 1, "iscrowd": int(n == 3),
            "area": float(size.prod() * 0.5), "bbox": [*corner.tolist(), *size.tolist()],
            "keypoints": [v for (x, y), f in zip(points.tolist(), flags.tolist()) for v in (x, y, f)],
            "num_keypoints": int((flags > 0).sum()),
            "segmentation": [[1.0, 2.0, 3.0]], "attributes": {"note": "a },{ in a string"},
        })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}


def make_results(document, rng, noise=2.0):
    results = []
    for record in document["annotations"]:
        points = np.array(record["keypoints"], float).reshape(17, 3)
        points[:, :2] += rng.normal(0, noise, (17, 2))
        results.append({"image_id": record["image_id"], "category_id": 1, "score": float(rng.random()),
                        "keypoints": points.ravel().tolist()})  # fmt: skip
    return results


def save(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def same(a, b):
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
        elif field.name != "source":
            assert x == y, field.name


def test_arrays_hold_what_the_file_says(tmp_path, parser):
    document = make_people(np.random.default_rng(0))
    people = read_people(save(tmp_path / "gt.json", document))
    assert people.skeleton is COCO17 and len(people) == 12 and people.file_name(2) == "é2.jpg"
    for n, record in enumerate(document["annotations"]):
        triples = np.array(record["keypoints"], float).reshape(17, 3)
        np.testing.assert_array_equal(people.keypoints[n], triples[:, :2])
        np.testing.assert_array_equal(people.visibility[n], triples[:, 2])
        assert people.image_ids[people.image_index[n]] == record["image_id"]
        assert people.area[n] == record["area"] and people.is_crowd[n] == record["iscrowd"]
        assert people.num_keypoints[n] == record["num_keypoints"] and people.box[n].tolist() == record["bbox"]
    assert people.image_sizes.tolist() == [[480, 640]] * 5
    chosen = people.select(people.is_crowd)
    assert chosen.ids.tolist() == [4] and len(chosen.image_ids) == 5


def test_dicts_and_files_give_the_same_arrays(tmp_path, parser):
    rng = np.random.default_rng(1)
    document = make_people(rng)
    same(read_people(document), read_people(save(tmp_path / "gt.json", document)))
    results = make_results(document, rng)
    results[5]["score"] = 1
    results[6]["keypoints"][3:5] = [7, 0]
    same(read_detections(results), read_detections(save(tmp_path / "dt.json", results)))
    indented = tmp_path / "indented.json"
    indented.write_text(json.dumps(results, indent=2))
    same(read_detections(results), read_detections(indented))


@pytest.mark.parametrize("piece", [1, 100, 5000])
def test_pieces_of_any_size_give_the_same_detections(tmp_path, monkeypatch, piece):
    pytest.importorskip("simdjson")
    results = make_results(make_people(np.random.default_rng(2), 40), np.random.default_rng(2))
    for n, record in enumerate(results):
        record |= {"image_file": "a}, {b" if n % 3 else '\\"},', "parts": [{"a": {}}, {"b": [{}, {}]}]}
    path = save(tmp_path / "dt.json", results)
    monkeypatch.setattr(parsing, "PIECE_BYTES", piece)
    same(read_detections(path), read_detections(results))


def test_pieces_without_tricks_never_fall_back(tmp_path, monkeypatch):
    pytest.importorskip("simdjson")
    results = make_results(make_people(np.random.default_rng(2), 40), np.random.default_rng(2))
    path = save(tmp_path / "dt.json", results)
    monkeypatch.setattr(parsing, "PIECE_BYTES", 3000)
    monkeypatch.setattr(parsing, "load_json", lambda path: pytest.fail("the fast parser gave up"))
    same(read_detections(path), read_detections(results))


@pytest.mark.parametrize(
    "text", ["", "[", '[{"image_id": 1},]', '[{"a": 1}, {"b": 2}', '[{"a":1},{"b":2}], [{"c":3}]', "{}x"]
)
def test_what_is_not_json_is_refused_by_both(tmp_path, parser, text):
    path = save(tmp_path / "broken.json", text)
    for read in (read_people, read_detections):
        with pytest.raises(AnnotationError, match=r"broken\.json: not JSON at line 1"):
            read(path)


def test_a_number_of_thousands_of_digits_is_named(tmp_path, parser):
    path = save(tmp_path / "gt.json", '{"images": [' + "1" * 5000 + "]}")
    with pytest.raises(AnnotationError, match=r"gt\.json: holds a number of thousands of digits; "):
        read_people(path)
    assert "thousands of digits" in str(check_annotations(path)[0])


def test_an_area_of_null_is_absent(tmp_path, parser):
    document = make_people(np.random.default_rng(3))
    document["annotations"][4]["area"] = None
    people = read_people(save(tmp_path / "gt.json", document))
    assert np.flatnonzero(np.isnan(people.area)).tolist() == [4]


def test_the_collector_is_as_before(tmp_path, parser):
    path = save(tmp_path / "gt.json", make_people(np.random.default_rng(0)))
    broken = save(tmp_path / "broken.json", "[")
    for on in (True, False):
        (gc.enable if on else gc.disable)()
        try:
            read_people(path)
            with pytest.raises(AnnotationError):
                read_detections(broken)
            assert gc.isenabled() == on
        finally:
            gc.enable()


FAULTS = {
    "a list": (lambda d, r: [d], r"holds a list"),
    "images missing": (lambda d, r: d.pop("images"), r"no list 'images'"),
    "categories missing": (lambda d, r: d.pop("categories"), r"no list 'categories'"),
    "annotations not a list": (lambda d, r: d.update(annotations=3), r"no list 'annotations'"),
    "too few numbers": (lambda d, r: r["keypoints"].pop(), r"annotation 5 \(image 7\) has 50 numbers .* 51"),
    "counts that cancel": (
        lambda d, r: d["annotations"][5]["keypoints"].append(r["keypoints"].pop()),
        r"annotation 5 \(image 7\) has 50 numbers",
    ),
    "NaN": (lambda d, r: r["keypoints"].__setitem__(3, float("nan")), r"annotation 5 .*NaN"),
    "infinite box": (lambda d, r: r["bbox"].__setitem__(3, float("inf")), r"annotation 5 .*'bbox'"),
    "null": (lambda d, r: r["keypoints"].__setitem__(3, None), r"annotation 5 .* keypoints"),
    "no keypoints": (lambda d, r: r.pop("keypoints"), r"annotation 5 .* has no 'keypoints'"),
    "no box": (lambda d, r: r.pop("bbox"), r"annotation 5 .* has no 'bbox'"),
    "unknown image": (lambda d, r: r.update(image_id=99), r"annotation 5 \(image 99\).*'images' does not list"),
    "image id a string": (lambda d, r: r.update(image_id="7"), r"annotation 5 .*'image_id': '7'.*number"),
    "repeated id": (lambda d, r: r.update(id=1), r"annotation id 1 occurs twice"),
    "repeated image": (lambda d, r: d["images"][1].update(id=7), r"image id 7 occurs twice"),
    "box of no size": (lambda d, r: r["bbox"].__setitem__(2, 0), r"annotation 5 .*box of no size"),
    "odd flag": (lambda d, r: r["keypoints"].__setitem__(2, 3), r"annotation 5 .*not 0, 1 or 2"),
    "negative area": (lambda d, r: r.update(area=-1.0), r"annotation 5 .*area"),
    "area as text": (lambda d, r: r.update(area="12"), r"annotation 5 \(image 7\) has 'area': '12'"),
    "id too long": (lambda d, r: r.update(id=2**70), r"annotation 1180\d+ .*'id'.*whole number"),
    "half an id": (lambda d, r: r.update(image_id=7.5), r"annotation 5 .*'image_id': 7.5; write a whole"),
    "beyond a float": (lambda d, r: r["keypoints"].__setitem__(0, 10**400), r"annotation 5 .*in 'keypoints'"),
    "annotations an object": (lambda d, r: d.update(annotations={}), r"no list 'annotations'"),
    "file name a number": (lambda d, r: d["images"][2].update(file_name=5), r"image 27 has 'file_name': 5"),
    "file name no text": (lambda d, r: d["images"][2].update(file_name="\ud800"), r"image 27 has 'file_name'"),
    "no keypoint category": (lambda d, r: d["categories"][0].pop("keypoints"), r"no category lists 'keypoints'"),
    "another order": (lambda d, r: d["categories"][0]["keypoints"].reverse(), r"another order"),
    "unknown skeleton": (lambda d, r: d["categories"][0]["keypoints"].pop(), None),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_sentence_with_file_record_and_remedy(tmp_path, parser, fault):
    change, message = FAULTS[fault]
    document = make_people(np.random.default_rng(3))
    replaced = change(document, document["annotations"][4])
    content = replaced if fault == "a list" else document
    if fault == "unknown skeleton":
        document["categories"][0]["keypoints"].pop()
        message = r"no skeleton fits .*'person' 15.*pass skeleton="
    path = save(tmp_path / "gt.json", content)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_people(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and (";" in text), "file, record and remedy in one line"
    found = check_annotations(path)
    assert any(problem.severity == "error" for problem in found), "the checker knows every fault of the reader"


def test_a_skeleton_of_ones_own(tmp_path, parser):
    hand = Skeleton("hand", ("wrist", "tip"), (), ((0, 1),), (0.05, 0.05))
    document = make_people(np.random.default_rng(0))
    for record in document["annotations"]:
        record["keypoints"] = record["keypoints"][:6]
    document["categories"] = [{"id": 1, "keypoints": ["wrist", "tip"]}]
    assert read_people(save(tmp_path / "gt.json", document), skeleton=hand).keypoints.shape == (12, 2, 2)


def test_only_people_are_read_from_a_file_of_many_categories(tmp_path, parser):
    document = make_people(np.random.default_rng(0))
    document["categories"].insert(0, {"id": 5, "name": "cat"})
    document["annotations"].append({"id": 77, "image_id": 7, "category_id": 5, "bbox": [0, 0, 1, 1], "area": 1})
    assert read_people(save(tmp_path / "gt.json", document)).ids.tolist() == list(range(1, 13))


DETECTION_FAULTS = {
    "an annotation file": (lambda r: {"images": []}, r"list of records"),
    "too few numbers": (lambda r: r[4]["keypoints"].pop(), r"detection at index 4 \(image 7\) has 50 numbers"),
    "null": (lambda r: r[4]["keypoints"].__setitem__(0, None), r"detection at index 4 .*null"),
    "NaN score": (lambda r: r[4].update(score=float("nan")), r"detection at index 4"),
    "no score": (lambda r: r[4].pop("score"), r"detection at index 4 .* has no 'score'"),
    "image id a string": (lambda r: r[4].update(image_id="7"), r"detection at index 4 .*'7'"),
    "another category": (lambda r: [x.update(category_id=0) for x in r] and None, r"category_id \(0\).*\(1\)"),
    "a file of boxes": (lambda r: [x.pop("keypoints") and x.update(bbox=[0, 0, 9, 9]) for x in r] and None, r"boxes"),
    "a number": (lambda r: r.__setitem__(4, 4), r"detection at index 4 is not an object"),
}


@pytest.mark.parametrize("fault", DETECTION_FAULTS)
def test_each_fault_of_a_result_file_is_named(tmp_path, parser, fault):
    change, message = DETECTION_FAULTS[fault]
    rng = np.random.default_rng(3)
    document = make_people(rng)
    results = make_results(document, rng)
    replaced = change(results)
    path = save(tmp_path / "dt.json", replaced if isinstance(replaced, dict) else results)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_detections(path, skeleton=COCO17, category_id=1)
    assert str(caught.value).startswith(f"{path}: ")
    found = check_annotations(save(tmp_path / "gt.json", document), detections=path)
    assert any(problem.severity == "error" for problem in found)


def test_keypoints_without_a_score_are_named(tmp_path, parser):
    record = {"image_id": 1, "category_id": 1, "score": 0.5, "keypoints": [1.0] * 34}
    with pytest.raises(AnnotationError, match="index 0 has 34 numbers; write x, y, score"):
        read_detections(save(tmp_path / "dt.json", [record]))


def test_other_categories_are_left_out_as_in_pycocotools():
    rng = np.random.default_rng(3)
    document = make_people(rng)
    results = make_results(document, rng)
    results[2]["category_id"] = 9
    assert len(read_detections(results, category_id=1)) == 11 and len(read_detections(results)) == 12


def test_detections_survive_writing_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    found = Detections(
        rng.integers(0, 9, 30),
        rng.normal(0, 300, (30, 17, 2)),
        rng.random((30, 17)),
        rng.random(30),
        rng.random((30, 4)),
    )
    write_detections(tmp_path / "dt.json", found)
    same(found, read_detections(tmp_path / "dt.json"))
    spoilt = Detections([1], np.full((1, 17, 2), np.nan), np.ones((1, 17)), [0.5])
    with pytest.raises(ValueError, match="JSON"):
        write_detections(tmp_path / "dt.json", spoilt)
    same(found, read_detections(tmp_path / "dt.json"))
    assert [p.name for p in tmp_path.iterdir()] == ["dt.json"], "nothing half-written is left"


def test_real_files_are_read(realdata, parser):
    coco = read_people(realdata / "coco" / "test_coco.json")
    row = int(np.flatnonzero(coco.ids == 442619)[0])
    assert coco.keypoints[row, :2].tolist() == [[367, 81], [374, 73]] and coco.file_name(0) == "000000000785.jpg"
    crowd = read_people(realdata / "crowdpose" / "test_crowdpose.json")
    assert crowd.skeleton is CROWDPOSE14 and np.isnan(crowd.area).all()
    assert check_annotations(realdata / "coco" / "test_coco.json", image_dir=realdata / "coco") == []
    boxes = realdata / "coco" / "test_coco_det_AP_H_56.json"
    assert "file of boxes" in str(check_annotations(realdata / "coco" / "test_coco.json", detections=boxes)[0])


def points_of(record):
    return np.array(record["keypoints"], float).reshape(17, 3)


def put(record, points):
    record["keypoints"] = points.ravel().tolist()


def exchange(records):
    for record in records:
        points = points_of(record)
        put(record, points[:, [1, 0, 2]])


def scaled(records, factors):
    for record in records:
        put(record, points_of(record) * [*factors, 1])


def all_flags(document, value):
    for record in document["annotations"]:
        put(record, points_of(record) * [1, 1, 0] + [0, 0, value])


def each(document, **values):
    for record in document["annotations"]:
        record |= values


def boxes(document, function):
    for record in document["annotations"]:
        record["bbox"] = [float(v) for v in function(*record["bbox"])]


ANNOTATION_TRAPS = {
    "nobody labelled": (lambda d: all_flags(d, 0), "AP is -1"),
    "num_keypoints 0": (lambda d: each(d, num_keypoints=0), "num_keypoints is 0, but"),
    "num_keypoints wrong": (lambda d: d["annotations"][1].update(num_keypoints=1), "is not the number of flags"),
    "no num_keypoints": (lambda d: d["annotations"][1].pop("num_keypoints"), "no 'num_keypoints'"),
    "no areas": (lambda d: [r.pop("area") for r in d["annotations"]], "no annotation has an 'area'"),
    "one area missing": (lambda d: d["annotations"][1].pop("area"), "annotation 2 (image 17): has no 'area'"),
    "areas of 0": (lambda d: each(d, area=0), "its area is 0"),
    "areas of boxes": (
        lambda d: [r.update(area=r["bbox"][2] * r["bbox"][3]) for r in d["annotations"]], "are those of the boxes"),
    "areas normalised": (lambda d: each(d, area=0.1), "areas are at most 1"),
    "nobody medium": (lambda d: each(d, area=20000.0), "AP_medium is -1"),
    "nobody large": (lambda d: each(d, area=2000.0), "AP_large is -1"),
    "category unknown": (lambda d: each(d, category_id=3), "its category_id 3 is not among 'categories' (1)"),
    "flag of 3": (lambda d: all_flags(d, 3), "not 0, 1 or 2"),
    "normalised": (lambda d: scaled(d["annotations"], (1 / 640, 1 / 480)), "look normalised"),
    "exchanged": (lambda d: exchange(d["annotations"]), "only as y, x"),
    "from the corner of the box": (
        lambda d: [put(r, points_of(r) - [*r["bbox"][:2], 0]) for r in d["annotations"]], "relative to the box"),
    "far outside": (lambda d: scaled(d["annotations"], (9, 9)), "outside their person's box"),
    "outside the picture": (lambda d: [i.update(width=50, height=50) for i in d["images"]], "outside the picture"),
    "corners": (
        lambda d: boxes(d, lambda x, y, w, h: (x + 200, y + 150, x + w + 200, y + h + 150)), "look like corners"),
    "id 0": (lambda d: d["annotations"][0].update(id=0), "counts a match with id 0 as a miss"),
    "image id a string": (lambda d: d["images"][0].update(id="7"), "'id': '7'"),
    "no width": (lambda d: d["images"][0].pop("width"), "has no positive 'width' and 'height'"),
    "labelled at 0, 0": (lambda d: scaled(d["annotations"][:1], (0, 0)), "labelled keypoint at 0, 0"),
    "everything empty": (lambda d: d.update(images=[], annotations=[], categories=[]), "the list 'images' is empty"),
}  # fmt: skip


@pytest.mark.parametrize("trap", ANNOTATION_TRAPS)
def test_the_checker_names_each_trap_of_annotations(tmp_path, trap):
    change, expected = ANNOTATION_TRAPS[trap]
    rng = np.random.default_rng(11)
    document = make_people(rng)
    for record, area in zip(document["annotations"], (2000.0, 20000.0)):
        record["area"] = area
    assert check_annotations(save(tmp_path / "gt.json", document)) == []
    change(document)
    found = check_annotations(save(tmp_path / "gt.json", document))
    assert any(expected in str(problem) for problem in found), "\n".join(map(str, found))


def in_crops(document, results):
    """Detections that were never mapped back from their 256x192 crops."""
    for record, person in zip(results, document["annotations"]):
        size = (256, 192)
        matrix = crop_affine(crop_box(np.array(person["bbox"]), size), size)
        points = points_of(record)
        points[:, :2] = transform_points(matrix, points[:, :2])
        put(record, points)


DETECTION_TRAPS = {
    "exchanged": (lambda d, r: exchange(r), "y is read before x"),
    "normalised": (lambda d, r: scaled(r, (1 / 640, 1 / 480)), "multiplied by the picture's size"),
    "left and right": (
        lambda d, r: [put(x, points_of(x)[COCO17.flip_index]) for x in r], "left and right are exchanged"),
    "crop pixels": (in_crops, "256x192 crop"),
    "from the corner": (
        lambda d, r: [put(x, points_of(x) - [*p["bbox"][:2], 0]) for x, p in zip(r, d["annotations"])],
        "corner of the box"),
    "somewhere": (lambda d, r: [put(x, points_of(x) + 5000) for x in r], "meet nobody"),
    "all the same": (lambda d, r: [put(x, points_of(r[0])) for x in r], "all detections are the same"),
    "constant scores": (lambda d, r: [x.update(score=1.0) for x in r], "every score is 1"),
    "string ids": (lambda d, r: [x.update(image_id=str(x["image_id"])) for x in r], "image_id is a string"),
    "unknown images": (lambda d, r: [x.update(image_id=1) for x in r], "12 of 12 detections are of images"),
    "category 0": (lambda d, r: [x.update(category_id=0) for x in r], "have category_id 0, the annotations have 1"),
    "most images without": (lambda d, r: r.__delitem__(slice(1, None)), "have no detection"),
    "21 in an image": (lambda d, r: r.extend([r[0]] * 21), "more than 20 detections"),
    "none": (lambda d, r: r.clear(), "no detections: AP is 0"),
    "16 keypoints": (lambda d, r: [x.update(keypoints=x["keypoints"][:48]) for x in r], "has 48 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("trap", DETECTION_TRAPS)
def test_the_checker_names_each_trap_of_detections(tmp_path, trap):
    change, expected = DETECTION_TRAPS[trap]
    rng = np.random.default_rng(12)
    document = make_people(rng)
    for record, area in zip(document["annotations"], (2000.0, 20000.0)):
        record["area"] = area
    results = make_results(document, rng)
    gt = save(tmp_path / "gt.json", document)
    assert check_annotations(gt, detections=save(tmp_path / "dt.json", results)) == []
    change(document, results)
    found = check_annotations(gt, detections=save(tmp_path / "dt.json", results))
    assert any(expected in str(problem) for problem in found), "\n".join(map(str, found))


def test_pictures_are_checked(tmp_path):
    from PIL import Image

    document = make_people(np.random.default_rng(11))
    for n, image in enumerate(document["images"]):
        image["file_name"] = f"{n}.jpg"
    for n, size in ((0, (640, 480)), (1, (480, 640)), (2, (640, 480))):
        Image.new("RGB", size, (9 * n, 200, 40)).save(tmp_path / f"{n}.jpg")
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:-500])
    (tmp_path / "3.jpg").write_text("no picture")
    document["images"].append({"id": 57, "height": 480, "width": 640, "file_name": "5.png"})
    Image.new("RGB", (640, 480)).save(tmp_path / "5.png")
    (tmp_path / "5.png").write_bytes((tmp_path / "5.png").read_bytes()[:-20])
    text = "\n".join(map(str, check_annotations(save(tmp_path / "gt.json", document), image_dir=tmp_path)))
    for expected in (
        "image 17 (1.jpg): the picture is 480 x 640, the file says 640 x 480",
        "image 27 (2.jpg); image 57 (5.png): the picture is cut short",
        "image 37 (3.jpg): the picture cannot be opened",
        "image 47 (4.jpg): the picture is not in the folder",
    ):
        assert expected in text
    assert "0.jpg" not in text


def spoil(rng, node):
    """Replace one random place of a JSON value by something odd."""
    odd = [None, "x", [], {}, -1, 0, 1e308, float("nan"), True, [[1, 2]], {"id": 1}, "7", 10**25, [None] * 51]
    if isinstance(node, dict | list) and node and rng.random() < 0.85:
        key = rng.choice(list(node)) if isinstance(node, dict) else int(rng.integers(len(node)))
        if rng.random() < 0.15:
            del node[key]
        else:
            node[key] = spoil(rng, node[key])
        return node
    return copy.deepcopy(odd[rng.integers(len(odd))])


def test_nothing_crashes_the_checker_and_readers_agree(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    whole = make_people(rng, 6)
    results = make_results(whole, rng)
    outcomes = {"read": 0, "refused": 0}
    slow = [False]
    original = parsing.simdjson_or_none
    monkeypatch.setattr(parsing, "simdjson_or_none", lambda: None if slow[0] else original())
    for _ in range(150):
        document, found = copy.deepcopy(whole), copy.deepcopy(results)
        for _ in range(rng.integers(1, 4)):
            document, found = spoil(rng, document), spoil(rng, found)
        gt, dt = save(tmp_path / "gt.json", document), save(tmp_path / "dt.json", found)
        problems = check_annotations(gt, detections=dt, image_dir=tmp_path)
        assert not any("could not be checked" in p.problem for p in problems), "\n".join(map(str, problems))
        for read, path in ((read_people, gt), (read_detections, dt)):
            answers = []
            for slow[0] in (False, True):
                try:
                    answers.append(read(path))
                except AnnotationError as error:
                    answers.append(str(error))
            if isinstance(answers[0], str) or isinstance(answers[1], str):
                assert answers[0] == answers[1]
                outcomes["refused"] += 1
                assert any(p.severity == "error" for p in problems), answers[0]
            else:
                same(*answers)
                outcomes["read"] += 1
        with contextlib.suppress(AnnotationError):
            evaluate_coco(gt, dt)
    assert min(outcomes.values()) > 30, outcomes
