"""Analysis against closed forms, published figures, real annotations and the networks' own gradients."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from posekit import analysis
from posekit.codecs import GaussianHeatmap
from posekit.geometry import crop_affine, crop_box, invert_affine, transform_points


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("decoder", "centre", "cells"),
    [
        ("argmax", "subpixel", 0.38260),  # the nearest cell: uniform in a unit square
        ("quarter", "subpixel", 0.19130),  # a quarter cell towards the truth: half the square
        ("dark", "subpixel", 0.0),  # reads the centre itself
        ("argmax", "rounded", 0.38260),
        ("quarter", "rounded", 0.38260),  # both neighbours are equal: nothing gained
        ("dark", "rounded", 0.38260),
    ],
)
def test_quantization_error_meets_its_closed_form(stride, decoder, centre, cells):
    error = analysis.quantization_error(stride, decoder, centre=centre, samples=8192, seed=1)
    assert error.bound == pytest.approx(cells * stride, abs=5e-6 * stride)
    assert error.mean == pytest.approx(cells * stride, rel=0.01, abs=1e-3 * stride)
    assert np.abs(error.errors.mean(0)).max() < 0.01 * stride, "decoding is biased"


def test_unit_square_error_is_the_integral():
    from scipy.integrate import dblquad

    value, _ = dblquad(lambda x, y: np.hypot(x, y), -0.5, 0.5, -0.5, 0.5)
    assert analysis.quantization_bound(1) == pytest.approx(value, abs=1e-9)


def test_noise_takes_the_quarter_offset_away_little_by_little():
    means = [analysis.quantization_error(4, "quarter", noise=noise, samples=2048).mean for noise in (0, 0.02, 0.2)]
    assert means == sorted(means) and means[2] > 1.5 * means[0]


@pytest.mark.parametrize(("stride", "ceiling"), [(16, 0.876), (8, 0.964), (4, 0.991), (2, 0.998), (1, 0.999)])
def test_oks_ceiling_of_a_person_filling_the_crop(stride, ceiling):
    assert analysis.oks_ceiling(stride) == pytest.approx(ceiling, abs=1e-3)


def test_oks_ceiling_is_what_the_metric_gives():
    from posekit.metrics import oks
    from posekit.skeletons import COCO17

    error = analysis.quantization_error(8, samples=17 * 2000, seed=2).errors.reshape(2000, 17, 2)
    area = np.full(2000, 0.53 * 256 * 192 / 1.25**2)
    truth = np.zeros_like(error)
    score = oks(truth + error, truth, area=area, visibility=np.full((2000, 17), 2), sigmas=np.asarray(COCO17.sigmas))
    assert analysis.oks_ceiling(8) == pytest.approx(float(score.mean()), abs=1e-3)


@pytest.mark.parametrize(
    ("stride", "shift", "bias"),
    [(4, 0, 1.5), (4, 1, -0.5), (4, 2, -2.5), (1, 0, 0.0), (1, 1, -0.5), (2, 1, -0.5), (8, 0, 3.5), (8, 1, -0.5)],
)
def test_flip_bias_is_what_the_flip_path_does(stride, shift, bias):
    assert analysis.flip_bias(stride, shift) == bias
    assert analysis.simulated_flip_bias(stride, shift, samples=64) == pytest.approx(bias, abs=2e-3)


@pytest.mark.parametrize("shift", [0, 1])
def test_interval_protocol_needs_no_shift(shift):
    bias = analysis.flip_bias(4, shift, protocol="udp", width=128)
    assert (bias == 0) == (shift == 0)
    measured = analysis.simulated_flip_bias(4, shift, protocol="udp", width=128, samples=64)
    assert measured == pytest.approx(bias, abs=2e-3)


@pytest.mark.parametrize(("width", "ratio", "reads"), [(0.4, 5.5, 0.88), (0.5, 4.7, 0.86), (0.75, 3.9, 0.84)])
def test_oks_with_the_box_diagonal_is_lenient(width, ratio, reads):
    assert analysis.oks_scale_ratio(width, 1.0) == pytest.approx(ratio, abs=0.05)
    assert analysis.oks_at_scale(0.5, analysis.oks_scale_ratio(width, 1.0)) == pytest.approx(reads, abs=0.005)


def test_bad_arguments_are_named():
    for call, message in (
        (lambda: analysis.quantization_error(4, "softmax"), "softmax"),
        (lambda: analysis.quantization_error(4, centre="nearest"), "nearest"),
        (lambda: analysis.quantization_error(4, samples=1), "samples"),
        (lambda: analysis.flip_bias(4, protocol="mmpose"), "mmpose"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.realdata
def test_real_annotations_lose_what_the_closed_form_says(realdata):
    labels = json.loads((realdata / "coco" / "test_coco.json").read_text())["annotations"]
    labels = [label for label in labels if sum(label["keypoints"][2::3])]
    points = torch.tensor([label["keypoints"] for label in labels], dtype=torch.float64).view(len(labels), -1, 3)
    boxes = torch.tensor([label["bbox"] for label in labels], dtype=torch.float64)
    affine = crop_affine(crop_box(boxes, (256, 192)), (256, 192))
    crop = transform_points(affine, points[..., :2])
    codec = GaussianHeatmap((256, 192), stride=4, centre="subpixel", decoder="argmax")
    maps, weights = codec.encode(crop, points[..., 2])
    decoded, _ = codec.decode(maps)
    inside = (weights > 0) & (crop > 4).all(-1) & (crop < torch.tensor([184.0, 248.0])).all(-1)
    error = (decoded - crop).norm(dim=-1)[inside]
    assert len(error) > 50
    standard_error = 4 * 0.14 / len(error) ** 0.5
    assert abs(float(error.mean()) - analysis.quantization_bound(4)) < 4 * standard_error
    back = transform_points(invert_affine(affine), decoded)
    scale = boxes.new_tensor(192.0) / crop_box(boxes, (256, 192))[:, None, 2]
    assert torch.allclose(((back - points[..., :2]).norm(dim=-1) * scale)[inside], error, atol=1e-6)
