"""Result files read as bare numbers: the same values as the JSON parser's, and nothing that it refuses."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from posekit.annotations import AnnotationError, parsing, read_detections, uniform


@pytest.fixture(autouse=True)
def without_simdjson(monkeypatch):
    monkeypatch.setattr(parsing, "simdjson_or_none", lambda: None)


def records(count, **other):
    rng = np.random.default_rng(0)
    return [
        {"image_id": int(i), "category_id": 1, "keypoints": [float(v) for v in numbers], "score": float(score), **other}
        for i, numbers, score in zip(
            rng.integers(0, 10**6, count), rng.normal(100, 200, (count, 51)).round(3), rng.uniform(1e-3, 1, count)
        )
    ]


def pieces(text):
    return list(uniform.uniform_pieces(io.BytesIO(text.encode())))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("size", [4000, 1 << 17])
def test_numbers_are_those_of_json_to_the_last_bit(monkeypatch, indent, size):
    monkeypatch.setattr(uniform, "PIECE_BYTES", size)
    written = records(40, bbox=[1.5, -2.0, 0.125, 3.0])
    found = pieces(json.dumps(written, indent=indent))
    assert all(isinstance(piece, dict) for piece in found)  # none went to the JSON parser
    for key in written[0]:
        column = np.concatenate([piece[key] for piece in found])
        assert np.array_equal(column, np.array([record[key] for record in written], dtype=float)), key


def test_only_the_piece_that_looks_otherwise_goes_to_the_parser(monkeypatch):
    monkeypatch.setattr(uniform, "PIECE_BYTES", 4000)
    written = records(40)
    written[20]["score"] = 1.5e-7
    found = pieces(json.dumps(written))
    assert sum(isinstance(piece, list) for piece in found) == 1
    scores = [[r["score"] for r in piece] if isinstance(piece, list) else piece["score"] for piece in found]
    assert np.concatenate(scores).tolist() == [record["score"] for record in written]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [(" 7.5,", " 7.,"), (" 7.5,", " .5,"), (" 7.5,", " -.5,"), (" 7.5,", " 007.5,"), (" 7.5,", " 7-5,"),
     (" 7.5,", " 7.5.5,"), (" 7.5,", " -,"), ("}]", "},]"), ("}]", "}"), (" 7.5,", " 7 5,")],
)  # fmt: skip
@pytest.mark.parametrize("size", [1000, 1 << 17])
def test_what_is_no_json_is_refused(tmp_path, monkeypatch, wrong, right, size):
    monkeypatch.setattr(uniform, "PIECE_BYTES", size)
    written = records(3)
    written[1]["keypoints"][4] = 7.5
    text = json.dumps(written)
    assert wrong in text
    path = tmp_path / "results.json"
    path.write_text(text)
    read_detections(path)
    path.write_text(text.replace(wrong, right))
    with pytest.raises(AnnotationError, match="not JSON"):
        read_detections(path)


def test_ids_too_large_for_a_float_stay_exact(tmp_path):
    written = records(3)
    written[2]["image_id"] = 2**53 + 1
    path = tmp_path / "results.json"
    path.write_text(json.dumps(written))
    assert read_detections(path).image_ids[2] == 2**53 + 1
