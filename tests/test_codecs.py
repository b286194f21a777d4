"""Codecs against the originals' outputs, against slow transcriptions of the originals, and at their edges.

What is not copied from the originals, and why, stands at the test of the file concerned.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from posekit.codecs import (
    SRPOSE_MSE,
    AssociativeEmbedding,
    Codec,
    CodecError,
    CoordinateLoss,
    Coordinates,
    GaussianHeatmap,
    HeatmapLoss,
    IntegralHeatmap,
    SimCC,
    TagMaps,
    group_people,
    pool_targets,
    push_and_pull,
    soft_argmax,
)
from posekit.geometry import crop_affine, invert_affine, transform_points
from posekit.skeletons import COCO17

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
UNBIASED = GaussianHeatmap(centre="subpixel", window=None, decoder="dark")
UDP = GaussianHeatmap(protocol="udp", centre="subpixel", decoder="dark")
ALL = {
    "argmax": GaussianHeatmap(decoder="argmax"),
    "quarter": GaussianHeatmap(),
    "dark": UNBIASED,
    "udp": UDP,
    "cross-entropy": GaussianHeatmap(loss="cross_entropy", ohkm=8),
    "simcc": SimCC(),
    "simcc one-hot": SimCC(smoothing="label", score="peak"),
    "coordinates": Coordinates(loss="smooth_l1"),
    "integral": IntegralHeatmap(regulariser=0.1),
}
every_codec = pytest.mark.parametrize("codec", ALL.values(), ids=ALL.keys())


def people(n: int = 4, k: int = 17, *, margin: float = 0.0, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    """(n, k, 2) random keypoints in a 192 x 256 crop, ``margin`` pixels from its sides."""
    unit = torch.rand(n, k, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (margin + unit * (torch.tensor([192.0, 256.0]) - 2 * margin)).to(dtype)


def noise(shape, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_prediction(codec: Codec, n: int, k: int, dtype=torch.float32):
    """Something of the shape that a network for this codec returns."""
    if isinstance(codec, SimCC):
        return tuple(noise((n, k, bins), seed=i).to(dtype) for i, bins in enumerate(codec.bins))
    if isinstance(codec, Coordinates):
        return 0.2 * noise((n, k, 2)).to(dtype)
    return noise((n, k, *codec.heatmap_size)).to(dtype)


def each(prediction, function):
    """Apply to a tensor, or to both of a pair."""
    return tuple(map(function, prediction)) if isinstance(prediction, tuple) else function(prediction)


def to_image(keypoints: torch.Tensor, golden) -> np.ndarray:
    """Crop pixels -> image pixels for the originals' centre and scale (box size / 200)."""
    size = golden["scale"].astype(np.float64) * 200
    box = np.concatenate([golden["center"] - size / 2, size], -1)
    return transform_points(invert_affine(crop_affine(box, (256, 192))), keypoints.double().numpy())


# --- the originals' outputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "name", "weight"),
    [
        (GaussianHeatmap(), "target", "target_weight"),
        (GaussianHeatmap((384, 288), sigma=3.0), "target_384", "weight_384"),
        (GaussianHeatmap(stride=1, sigma=8.0), "target_full_s8_pool4", "weight_full_s8"),
    ],
)
def test_hrnet_targets(parity, codec, name, weight):
    """Includes joints left and above the crop, where rounding toward zero and rounding down differ."""
    golden = np.load(parity / "codec" / "msra_target.npz")
    joints, visible = (
        torch.from_numpy(golden["joints"])[None, :, :2],
        torch.from_numpy(golden["joints_vis"])[None, :, 0],
    )
    maps, weights = codec.encode(joints, visible)
    np.testing.assert_allclose(pool_targets(maps, golden[name].shape[1:])[0], golden[name], atol=1e-6)
    np.testing.assert_array_equal(weights[0], golden[weight][:, 0])


def test_hrnet_decoding(parity):
    """Not copied: the original returns the negative maximum of an all-negative map as its score; here it is 0."""
    golden = np.load(parity / "codec" / "quarter_decode.npz")
    maps = torch.from_numpy(golden["heatmaps"])
    highest, scores = GaussianHeatmap(decoder="argmax").decode(maps)
    np.testing.assert_array_equal(highest / 4, golden["max_preds"])
    np.testing.assert_array_equal(scores, golden["maxvals"][..., 0].clip(0))
    np.testing.assert_allclose(to_image(highest, golden), golden["final_preds_nopost"], atol=1e-4)
    np.testing.assert_allclose(to_image(GaussianHeatmap().decode(maps)[0], golden), golden["final_preds"], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dark_decoding(parity, dtype):
    golden = np.load(parity / "codec" / "dark_decode.npz")
    codec = GaussianHeatmap(decoder="dark", blur_kernel=int(golden["blur_kernel"]), max_step=None)
    keypoints, scores = codec.decode(torch.from_numpy(golden["heatmaps"]).to(dtype))
    np.testing.assert_allclose(keypoints / 4, golden["heatmap_coords"], atol=1e-4)
    np.testing.assert_allclose(to_image(keypoints, golden), golden["final_preds"], atol=1e-4)
    np.testing.assert_allclose(scores, golden["maxvals"][..., 0], atol=1e-6)


@pytest.mark.parametrize(("prefix", "codec"), [("std", GaussianHeatmap()), ("unb", UNBIASED)])
def test_mmpose_heatmaps(parity, prefix, codec):
    """Not copied: mmpose gives cell (-1, -1) for an empty map, HRNet and we give (0, 0)."""
    golden = np.load(parity / "codec" / "msra_mmpose1x.npz")
    maps, weights = codec.encode(torch.from_numpy(golden["keypoints"]), torch.from_numpy(golden["visible"]))
    np.testing.assert_allclose(maps[0], golden[f"{prefix}_heatmaps"], atol=1e-6)
    np.testing.assert_array_equal(weights, golden[f"{prefix}_weights"])
    keypoints, scores = codec.decode(maps)
    found = golden[f"{prefix}_score"] > 0
    np.testing.assert_allclose(keypoints[found], golden[f"{prefix}_dec"][found], atol=1e-4)
    np.testing.assert_allclose(scores, golden[f"{prefix}_score"], atol=1e-6)
    assert (keypoints[~found] == 0).all() and (~found).any()


def test_mmpose_udp(parity):
    """Not copied: mmpose encodes with (W-1)/(w-1) and decodes with W/(w-1), so that its decode does not undo its
    encode; we use the first in both, and the test takes the factor out. Its empty maps decode to NaN, ours to pixel
    (0, 0). The combined target (`udpc_`: a disc and two offset maps per joint) is no codec of this package."""
    golden = np.load(parity / "codec" / "udp_mmpose1x.npz")
    maps, weights = UDP.encode(torch.from_numpy(golden["keypoints"]), torch.from_numpy(golden["visible"]))
    np.testing.assert_allclose(maps[0], golden["udp_heatmaps"], atol=1e-6)
    np.testing.assert_array_equal(weights, golden["udp_weights"])
    factor = torch.tensor([192 / 191, 256 / 255])
    keypoints, scores = UDP.decode(torch.from_numpy(golden["udp_noisy"])[None])
    np.testing.assert_allclose(keypoints * factor, golden["udp_dec"], atol=1e-4)
    np.testing.assert_allclose(scores, golden["udp_score"], atol=1e-6)
    keypoints, scores = UDP.decode(maps)
    found = np.isfinite(golden["udp_dec_clean"]).all(-1)
    np.testing.assert_allclose((keypoints * factor)[found], golden["udp_dec_clean"][found], atol=1e-4)
    np.testing.assert_allclose(scores, golden["udp_score_clean"].clip(0), atol=1e-6)
    assert (keypoints[~found] == 0).all() and (~found).any()


@pytest.mark.parametrize(
    ("prefix", "codec"),
    [
        ("g6", SimCC(score="peak")),
        ("g6raw", SimCC(score="peak", normalise=False)),
        ("std", SimCC(score="peak", smoothing="label")),
    ],
)
def test_mmpose_simcc(parity, prefix, codec):
    """Not copied: bin -1 and the raw score for rows without a positive entry; here pixel (0, 0) and score 0."""
    golden = np.load(parity / "codec" / "simcc_mmpose1x.npz")
    (x, y), weights = codec.encode(torch.from_numpy(golden["keypoints"]), torch.from_numpy(golden["visible"]))
    np.testing.assert_allclose(x, golden[f"{prefix}_x"], atol=1e-6)
    np.testing.assert_allclose(y, golden[f"{prefix}_y"], atol=1e-6)
    np.testing.assert_array_equal(weights, golden[f"{prefix}_w"])
    for logits, name in (((x, y), prefix), ((golden["rand_x"], golden["rand_y"]), "rand")):
        keypoints, scores = codec.decode(tuple(torch.as_tensor(part) for part in logits))
        found = golden[f"{name}_score"] > 0
        np.testing.assert_allclose(keypoints[found], golden[f"{name}_dec"][found], atol=1e-6)
        np.testing.assert_allclose(scores, golden[f"{name}_score"].clip(0), atol=1e-6)
        assert (keypoints[~found] == 0).all() and (~found).any()


def test_srpose_decoding(parity):
    """SRPose's own decode is the quarter offset. Not copied: its all-negative map gives the last pooling cell, and
    mmpose's (-1, -1); nor the `megvii` variant (blur, second maximum, score / 255 + 0.5), which no paper here uses."""
    golden = np.load(parity / "codec" / "srpose_decode.npz")
    maps = torch.from_numpy(golden["heatmaps"])
    keypoints, scores = GaussianHeatmap().decode(maps)
    found = golden["default_vals"][..., 0] > 0
    assert (~found).sum() == 1
    for name in ("srpose", "default"):
        np.testing.assert_allclose(to_image(keypoints, golden)[found], golden[f"{name}_preds"][found], atol=1e-4)
        np.testing.assert_allclose(scores[found], golden[f"{name}_vals"][..., 0][found], atol=1e-6)
    highest = to_image(GaussianHeatmap(decoder="argmax").decode(maps)[0], golden)
    np.testing.assert_allclose(highest[found], golden["nopost_preds"][found], atol=1e-4)


@pytest.mark.parametrize("push", ["exp", "max"])
def test_associative_embedding_loss(parity, push):
    golden = np.load(parity / "codec" / "ae_loss.npz")
    side = math.isqrt(int(golden["num_tags"]) // 17)
    tags = torch.zeros(17 * side * side)
    tags[golden["used_index"]] = torch.from_numpy(golden["used_tags"])
    # The original lists each person's flat cells in any order; here they stand at their keypoint.
    person, slot = np.nonzero(golden["joints_encoded"][0, ..., 1])
    keypoint, cell = np.divmod(golden["joints_encoded"][0, person, slot, 0], side * side)
    cells, weights = torch.zeros(1, 30, 17, dtype=torch.int64), torch.zeros(1, 30, 17)
    cells[0, person, keypoint], weights[0, person, keypoint] = torch.from_numpy(cell), 1.0
    pushed, pulled = push_and_pull(tags.view(1, 17, side, side), cells, weights, push=push)
    np.testing.assert_allclose(pushed, golden[f"push_{push}"], atol=1e-6)
    np.testing.assert_allclose(pulled, golden[f"pull_{push}"], atol=1e-6)


@pytest.mark.parametrize(("adjust", "refine"), [(0, 0), (1, 0), (1, 1)])
def test_associative_embedding_grouping(parity, adjust, refine):
    golden = np.load(parity / "codec" / "ae_group.npz")
    maps, tags = torch.from_numpy(golden["heatmaps"])[None], torch.from_numpy(golden["tags"])[None]
    (group,) = group_people(maps, tags, adjust=bool(adjust), refine=bool(refine))
    expected = golden[f"ans_a{adjust}r{refine}"]
    np.testing.assert_allclose(group.keypoints, expected[..., :2], atol=1e-4)
    np.testing.assert_allclose(group.joint_scores, expected[..., 2], atol=1e-6)
    np.testing.assert_allclose(group.scores, golden[f"score_a{adjust}r{refine}"], atol=1e-6)


# --- slow transcriptions of published formulas ------------------------------------------------------------------


def dark_by_whole_maps(maps: np.ndarray) -> np.ndarray:
    """DARK as DarkPose does it, blurring each whole map: (N, h, w) -> (N, 2) cells."""
    import cv2

    points = []
    for hm in maps.astype(np.float64):
        y, x = np.unravel_index(hm.argmax(), hm.shape)
        blurred = cv2.GaussianBlur(np.pad(hm, 5), (11, 11), 0, borderType=cv2.BORDER_CONSTANT)[5:-5, 5:-5]
        v = np.log(np.maximum(blurred * hm.max() / blurred.max(), 1e-10))
        point = np.array([x, y], dtype=np.float64)
        if 1 < x < hm.shape[1] - 2 and 1 < y < hm.shape[0] - 2:
            gradient = 0.5 * np.array([v[y, x + 1] - v[y, x - 1], v[y + 1, x] - v[y - 1, x]])
            xx = 0.25 * (v[y, x + 2] - 2 * v[y, x] + v[y, x - 2])
            yy = 0.25 * (v[y + 2, x] - 2 * v[y, x] + v[y - 2, x])
            xy = 0.25 * (v[y + 1, x + 1] - v[y - 1, x + 1] - v[y + 1, x - 1] + v[y - 1, x - 1])
            point -= np.linalg.solve([[xx, xy], [xy, yy]], gradient)
        points.append(point)
    return np.array(points)


@pytest.mark.parametrize("size", [(256, 192), (32, 24), (20, 8)], ids=["64x48", "8x6, smaller than a patch", "5x2"])
def test_dark_patches_equal_blurring_whole_maps(size):
    """Peaks everywhere, border and corners too; the maps of a batch lie side by side in memory and must not mix."""
    codec = GaussianHeatmap(size, decoder="dark", centre="subpixel", window=None, max_step=None)
    keypoints = torch.rand(6, 9, 2, generator=torch.Generator().manual_seed(3)) * torch.tensor(size[::-1])
    maps = codec.encode(keypoints, torch.ones(6, 9))[0].double()
    maps += 0.02 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = dark_by_whole_maps(maps.flatten(0, 1).numpy()).reshape(6, 9, 2)
    np.testing.assert_allclose(codec.decode(maps)[0] / 4, expected, atol=1e-6)


def test_mse_is_the_original_joints_mse_loss():
    """JointsMSELoss and JointsOHKMMSELoss of HRNet, transcribed; SRPose leaves out the half."""
    codec = GaussianHeatmap()
    targets, weights = codec.encode(people(3, 17), (torch.arange(51).view(3, 17) % 5).clamp(max=1))
    prediction = targets + 0.1 * noise(targets.shape)
    terms = np.zeros((3, 17))
    for b in range(3):
        for k in range(17):
            w = float(weights[b, k])
            terms[b, k] = 0.5 * np.mean((prediction[b, k].numpy() * w - targets[b, k].numpy() * w) ** 2)
    assert float(codec.loss(prediction, targets, weights)) == pytest.approx(terms.mean(), rel=1e-5)
    srpose = replace(codec, loss=SRPOSE_MSE)
    assert float(srpose.loss(prediction, targets, weights)) == pytest.approx(2 * terms.mean(), rel=1e-5)
    hardest = np.sort(terms, -1)[:, -8:].sum(-1).mean() / 8
    assert float(replace(codec, ohkm=8).loss(prediction, targets, weights)) == pytest.approx(hardest, rel=1e-5)


def test_coarser_heads_are_compared_with_averages():
    codec = GaussianHeatmap(stride=1, sigma=8.0, loss=SRPOSE_MSE)
    targets, weights = codec.encode(people(2, 3), torch.ones(2, 3))
    coarse = targets.view(2, 3, 32, 8, 24, 8).mean((3, 5))
    assert float(codec.loss([coarse, targets], targets, weights)) == pytest.approx(0, abs=1e-12)
    total = codec.loss([coarse + 1, targets + 2], targets, weights, head_weights=[1e-4, 1.0])
    assert float(total) == pytest.approx(1e-4 + 4, rel=1e-5)
    with pytest.raises(CodecError, match="the prediction is 256x192 but the targets are 32x24"):
        codec.loss([targets], coarse, weights)


def test_cross_entropy_is_least_at_the_target_itself():
    """Its gradient is softmax minus the target scaled to sum 1; unlabelled joints have none."""
    codec = GaussianHeatmap(loss="cross_entropy", centre="subpixel")
    visibility = torch.ones(2, 5)
    visibility[0, 0] = 0
    targets, weights = codec.encode(people(2, 5, margin=40), visibility)
    logits = noise(targets.shape).requires_grad_()
    codec.loss(logits, targets, weights).backward()
    probability = targets / targets.sum((-2, -1), keepdim=True).clamp(min=1e-9)
    softmax = logits.detach().flatten(2).softmax(-1).view_as(logits) * weights[..., None, None]
    np.testing.assert_allclose(logits.grad, (softmax - probability) / 10, atol=1e-6)
    ideal = probability.clamp(min=1e-30).log()
    _, scores = codec.decode(ideal)
    np.testing.assert_allclose(scores.flatten()[1:], 1, atol=0.08)
    assert codec.decode(100 * ideal)[1].max() == 1  # more certain than the ideal map is no more than certain


def test_simcc_loss_is_a_divergence():
    codec = SimCC()
    targets, weights = codec.encode(people(2, 5, margin=30), torch.ones(2, 5))
    at_label = codec.loss(each(targets, lambda t: t.clamp(min=1e-30).log()), targets, weights)
    assert float(at_label) == pytest.approx(0, abs=1e-4)
    entropy = 2 * math.log(codec.sigma * math.sqrt(2 * math.pi * math.e))
    flat = codec.loss(each(targets, torch.zeros_like), targets, weights)
    assert float(flat) == pytest.approx(math.log(384) + math.log(512) - entropy, rel=1e-4)


@pytest.mark.parametrize(("kind", "expected"), [("l1", 0.3), ("l2", 0.05), ("smooth_l1", 0.29)])
def test_coordinate_losses_average_over_labelled_joints(kind, expected):
    targets = torch.zeros(1, 2, 2)
    prediction = torch.tensor([[[0.1, -0.2], [5.0, math.inf]]])
    loss = CoordinateLoss(kind)(prediction.nan_to_num(posinf=9.0), targets, torch.tensor([[1.0, 0.0]]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_soft_argmax_is_the_mean_cell_and_its_gradient_is_exact():
    maps = noise((2, 3, 5, 7)).double().requires_grad_()
    p = maps.detach().flatten(2).softmax(-1).view_as(maps)
    expected = np.stack([(p.sum(2) * torch.arange(7)).sum(-1), (p.sum(3) * torch.arange(5)).sum(-1)], -1)
    np.testing.assert_allclose(soft_argmax(maps).detach(), expected, atol=1e-12)
    assert torch.autograd.gradcheck(soft_argmax, (maps,))


# --- closed-form bounds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_quantisation_error_is_the_closed_form(stride):
    """Argmax errs by the mean distance to the centre of a square, 0.3826 strides; on an ideal rounded target the
    quarter offset changes nothing, and on a sub-pixel target it halves the error."""
    # Nine cells from the sides, so that DARK's blur sees whole Gaussians.
    keypoints, visible = people(40, 60, margin=max(24, 9 * stride), seed=5), torch.ones(40, 60)
    mean_distance = (math.sqrt(2) + math.asinh(1)) / 6 * stride

    def error(**options) -> float:
        codec = GaussianHeatmap(stride=stride, **options)
        decoded = torch.cat(
            [codec.decode(codec.encode(*part)[0])[0] for part in zip(keypoints.split(4), visible.split(4))]
        )
        return float((decoded - keypoints).norm(dim=-1).mean())

    assert error(decoder="argmax") == pytest.approx(mean_distance, rel=0.03)
    assert error(decoder="quarter") == error(decoder="argmax")
    assert error(decoder="quarter", centre="subpixel") == pytest.approx(mean_distance / 2, rel=0.03)
    assert error(decoder="dark", centre="subpixel", window=None) < 0.002 * stride


@pytest.mark.parametrize(("codec", "bound"), [(SimCC(), 0.25), (Coordinates(), 1e-4), (UDP, 0.02)])
def test_round_trip_within_half_a_bin(codec, bound):
    keypoints = people(8, 17, margin=40)
    targets, weights = codec.encode(keypoints, torch.full((8, 17), 2))
    decoded, scores = codec.decode(targets)
    assert float((decoded - keypoints).abs().max()) <= bound + 1e-4
    assert (weights == 1).all() and (scores > 0).all()


def test_integral_round_trip_through_its_ideal_map():
    codec, keypoints = IntegralHeatmap(regulariser=1.0), people(4, 17, margin=40)
    targets, weights = codec.encode(keypoints, torch.ones(4, 17))
    cells = torch.stack(torch.meshgrid(torch.arange(64), torch.arange(48), indexing="ij")[::-1], -1)
    ideal = (-(cells - keypoints[:, :, None, None] / 4).square().sum(-1) / 8).requires_grad_()
    decoded, scores = codec.decode(ideal)
    np.testing.assert_allclose(decoded, keypoints, atol=1e-3)
    np.testing.assert_allclose(scores, 1, atol=0.13)
    assert replace(codec, regulariser=0.0).loss(ideal, targets, weights).item() < 1e-5
    codec.loss(ideal, targets, weights).backward()
    assert ideal.grad.abs().max() < 1e-3


def test_integral_leaves_out_joints_that_no_mean_of_cells_reaches():
    outside = torch.tensor([[[-1.0, 100.0], [100.0, 257.0], [100.0, 100.0]]])
    assert IntegralHeatmap().encode(outside, torch.ones(1, 3))[1].tolist() == [[0, 0, 1]]
    assert Coordinates().encode(outside, torch.ones(1, 3))[1].tolist() == [[1, 1, 1]]


# --- mirrored predictions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "shift"), [(UDP, 0), (SimCC(), -1), (SimCC(split=3.0), -2), (Coordinates(), 0)])
def test_flip_undoes_a_mirrored_crop(codec, shift):
    """x becomes 191 - x. UDP and coordinates need no shift, SimCC 1 - split bins (keypoints on whole bins here)."""
    keypoints = people(3, 17, margin=40).round()
    mirrored = keypoints[:, COCO17.flip_index].clone()
    mirrored[..., 0] = 191 - mirrored[..., 0]
    expected = codec.decode(codec.encode(keypoints, torch.ones(3, 17))[0])[0]
    turned = codec.flip(codec.encode(mirrored, torch.ones(3, 17))[0], COCO17.flip_index, shift=shift)
    np.testing.assert_allclose(codec.decode(turned)[0], expected, atol=1e-3)


def test_published_flip_shift_is_a_quarter_cell_too_far():
    """Cell i is pixel 4i, so the mirrored map belongs 3/4 of a cell to the right; published code moves it by 1."""
    keypoints = people(3, 17, margin=40)
    mirrored = keypoints[:, COCO17.flip_index].clone()
    mirrored[..., 0] = 191 - mirrored[..., 0]
    for shift, bias in ((0, -3.0), (1, 1.0)):
        turned = UNBIASED.flip(UNBIASED.encode(mirrored, torch.ones(3, 17))[0], COCO17.flip_index, shift=shift)
        error = UNBIASED.decode(turned)[0] - keypoints
        np.testing.assert_allclose(error[..., 0], bias, atol=0.02)
        np.testing.assert_allclose(error[..., 1], 0, atol=0.02)


# --- edges ------------------------------------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize("device", DEVICES)
def test_encode_batch_dtype_and_memory(codec, device):
    """A batch equals its samples; float64 agrees with float32; ``out`` is the memory that comes back."""
    keypoints, visibility = people(5, 17).to(device), (torch.arange(85).view(5, 17) % 3).to(device)
    targets, weights = codec.encode(keypoints, visibility)
    alone, alone_weight = codec.encode(keypoints[2:3], visibility[2:3])
    wide, _ = codec.encode(keypoints.double(), visibility)
    out = each(targets, lambda t: torch.full_like(t, 7.0))
    reused, _ = codec.encode(keypoints, visibility, out=out)
    for t, a, d, o, r in zip(*(x if isinstance(x, tuple) else (x,) for x in (targets, alone, wide, out, reused))):
        assert torch.equal(t[2:3], a) and torch.equal(t, r) and o is r
        assert d.dtype == torch.float64 and torch.allclose(d.float(), t, atol=1e-5)
        assert t.device.type == device
    assert torch.equal(weights[2:3], alone_weight)
    assert ((weights > 0) == (visibility > 0)).all()


@every_codec
@pytest.mark.parametrize("device", DEVICES)
def test_decode_batch_dtype_and_layout(codec, device):
    """A batch equals its samples; strided, float64, gradient-carrying and listed predictions give the same."""
    prediction = each(random_prediction(codec, 5, 17), lambda p: p.to(device))
    keypoints, scores = codec.decode(prediction)
    assert keypoints.shape == (5, 17, 2) and scores.shape == (5, 17) and keypoints.dtype == torch.float32
    variants = {
        "listed": [prediction, prediction],
        "strided": each(prediction, lambda p: p.transpose(0, -1).contiguous().transpose(0, -1)),
        "with gradient": each(prediction, lambda p: p.clone().requires_grad_()),
        "float64": each(prediction, torch.Tensor.double),
    }
    for name, variant in variants.items():
        again, again_scores = codec.decode(variant)
        assert torch.allclose(again.float(), keypoints, atol=2e-2), name
        assert torch.allclose(again_scores.float(), scores, atol=1e-5), name
        assert not again.requires_grad, name
    assert again.dtype == torch.float64
    alone, alone_scores = codec.decode(each(prediction, lambda p: p[3:4]))
    assert torch.allclose(alone, keypoints[3:4], atol=1e-4) and torch.allclose(alone_scores, scores[3:4])


@every_codec
def test_everything_stays_on_its_device(codec):
    """On the meta device any number taken to the host, and any tensor made on the wrong device, raises."""
    keypoints = torch.zeros(2, 17, 2, device="meta")
    targets, weights = codec.encode(keypoints, torch.ones(2, 17, device="meta"))
    prediction = each(random_prediction(codec, 2, 17), lambda p: p.to("meta"))
    results = [*codec.decode(codec.flip(prediction, COCO17.flip_index, shift=1)), weights]
    results += [*targets] if isinstance(targets, tuple) else [targets]
    results.append(codec.loss(prediction, targets, weights))
    assert {result.device.type for result in results} == {"meta"}


@every_codec
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_decode_half_precision_as_if_widened(codec, half):
    prediction = random_prediction(codec, 2, 3, half)
    keypoints, scores = codec.decode(prediction)
    expected, expected_scores = codec.decode(each(prediction, torch.Tensor.float))
    assert keypoints.dtype == torch.float32
    assert torch.equal(keypoints, expected) and torch.equal(scores, expected_scores)


@every_codec
def test_autocast_and_bfloat16_networks_cost_no_precision(codec):
    """Matrix products under autocast round to three digits, which would move coordinates by whole cells."""
    targets, weights = codec.encode(people(2, 17, margin=20), torch.ones(2, 17))
    prediction = random_prediction(codec, 2, 17)
    expected, loss = codec.decode(prediction)[0], codec.loss(prediction, targets, weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(codec.decode(prediction)[0], expected, atol=1e-3)
        assert codec.loss(prediction, targets, weights).item() == pytest.approx(loss.item(), rel=1e-5)
    half = each(prediction, lambda p: p.bfloat16().requires_grad_())
    value = codec.loss(half, targets, weights)
    value.backward()
    widened = codec.loss(each(half, torch.Tensor.float), targets, weights)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(widened.item(), rel=1e-6)
    assert (half[0] if isinstance(half, tuple) else half).grad.abs().sum() > 0


@every_codec
@pytest.mark.parametrize(("n", "k"), [(0, 17), (3, 1), (0, 1)], ids=["empty batch", "one keypoint", "both"])
def test_small_batches(codec, n, k):
    codec = replace(codec, ohkm=1) if getattr(codec, "ohkm", None) else codec
    targets, weights = codec.encode(people(n, k), torch.ones(n, k))
    keypoints, scores = codec.decode(random_prediction(codec, n, k))
    assert weights.shape == scores.shape == (n, k) and keypoints.shape == (n, k, 2)
    flipped = codec.flip(random_prediction(codec, n, k), [0] if k == 1 else COCO17.flip_index, shift=1)
    assert codec.decode(flipped)[0].shape == (n, k, 2)
    if n:
        assert torch.isfinite(codec.loss(random_prediction(codec, n, k), targets, weights))


@every_codec
def test_nan_in_one_prediction_stays_there(codec):
    """The joint with a NaN gets pixel (0, 0) and score 0; every number that comes out is finite."""
    prediction = random_prediction(codec, 2, 4)
    clean, _ = codec.decode(prediction)

    def spoil(p):
        p = p.clone()
        p[0, 1].view(-1)[0] = math.nan
        return p

    keypoints, scores = codec.decode(each(prediction, spoil))
    assert torch.isfinite(keypoints).all() and torch.isfinite(scores).all()
    assert (keypoints[0, 1] == 0).all() and scores[0, 1] == 0
    assert torch.equal(keypoints[1], clean[1])


@every_codec
def test_nan_and_infinite_keypoints_have_no_weight(codec):
    keypoints = people(1, 4)
    keypoints[0, 1, 0], keypoints[0, 2, 1] = math.nan, math.inf
    targets, weights = codec.encode(keypoints, torch.ones(1, 4))
    assert weights.tolist() == [[1, 0, 0, 1]]
    for part in targets if isinstance(targets, tuple) else (targets,):
        assert torch.isfinite(part).all() and (part[0, 1] == 0).all() and (part[0, 2] == 0).all()


@pytest.mark.parametrize("decoder", ["argmax", "quarter", "dark"])
@pytest.mark.parametrize("protocol", ["hrnet", "udp"])
def test_maps_without_a_peak(decoder, protocol):
    codec = GaussianHeatmap(decoder=decoder, protocol=protocol)
    maps = torch.stack([torch.zeros(64, 48), -torch.rand(64, 48), torch.full((64, 48), math.nan)])[None]
    keypoints, scores = codec.decode(maps)
    assert (keypoints == 0).all() and (scores == 0).all()


@pytest.mark.parametrize("decoder", ["argmax", "quarter", "dark"])
@pytest.mark.parametrize("protocol", ["hrnet", "udp"])
def test_peaks_on_borders_and_corners(decoder, protocol):
    """No step there in published code, whose test for the quarter offset is lopsided: cell 1 takes none, cell w-2
    does. UDP's DARK steps everywhere."""
    codec = GaussianHeatmap(decoder=decoder, protocol=protocol)
    cells = torch.cartesian_prod(torch.tensor([0, 1, 46, 47]), torch.tensor([0, 1, 62, 63]))
    maps = 0.5 * torch.rand(1, 16, 64, 48, generator=torch.Generator().manual_seed(0))
    maps[0, torch.arange(16), cells[:, 1], cells[:, 0]] = 1.0
    keypoints, scores = codec.decode(maps)
    away = (keypoints[0] / torch.tensor(codec.cell) - cells).abs().amax(-1)
    if protocol == "udp" and decoder == "dark":
        assert away.max() <= 2 and (away > 0).sum() > 8
    else:
        inner = (cells == torch.tensor([46, 62])).all(-1)
        assert (away[~inner] < 1e-4).all()
        assert float(away[inner]) == pytest.approx(0.25 if decoder == "quarter" else 0, abs=1e-4)
    assert (scores == 1).all()


@pytest.mark.parametrize("decoder", ["argmax", "quarter", "dark"])
@pytest.mark.parametrize("size", [(4, 4), (64, 4), (4, 64)])
def test_maps_one_cell_wide(decoder, size):
    codec = GaussianHeatmap(size, decoder=decoder)
    maps, weights = codec.encode(torch.zeros(2, 3, 2), torch.ones(2, 3))
    keypoints, scores = codec.decode(maps)
    assert (keypoints == 0).all() and (scores == 1).all() and (weights == 1).all()


def test_dark_does_not_leap_on_noise():
    """The original leaps thousands of cells on an untrained network's maps; ``max_step=None`` does too."""
    maps = torch.rand(8, 17, 64, 48, generator=torch.Generator().manual_seed(0))
    highest = GaussianHeatmap(decoder="argmax").decode(maps)[0]
    assert (GaussianHeatmap(decoder="dark").decode(maps)[0] - highest).abs().max() <= 2 * 4
    assert (GaussianHeatmap(decoder="dark", max_step=None).decode(maps)[0] - highest).abs().max() > 100


@pytest.mark.parametrize(
    ("x", "edge", "weight", "holds_mass"),
    [
        (-28.0, "published", 1, True),  # cell -6: the last cell of its window is column 0
        (-32.0, "published", 1, False),  # cell -7: the window ends just before column 0, and still counts
        (-32.0, "exact", 0, False),
        (-36.0, "published", 0, False),
        (212.0, "published", 1, True),  # cell 53: the window begins in the last column
        (216.0, "published", 0, False),
        (216.0, "exact", 0, False),
    ],
)
def test_joints_outside_the_crop(x, edge, weight, holds_mass):
    """A window of 6 cells to each side, at stride 4, left and right of the map and above and below it."""
    codec = GaussianHeatmap(edge=edge, decoder="argmax")
    for axis in (0, 1):
        point = torch.full((1, 1, 2), 100.0)
        point[..., axis] = x if x < 0 or axis == 0 else x + 64
        maps, weights = codec.encode(point, torch.ones(1, 1))
        assert float(weights) == weight and bool(maps.sum() > 0) == holds_mass


def test_visibility_one_and_two_count_alike():
    """COCO's 1 is labelled but occluded; only 0 is unlabelled, whatever its coordinates."""
    _, weights = GaussianHeatmap().encode(people(1, 3), torch.tensor([[0, 1, 2]], dtype=torch.uint8))
    assert weights.tolist() == [[0, 1, 1]]


# --- associative embedding --------------------------------------------------------------------------------------


def test_people_encoded_together_come_apart_by_their_tags():
    codec = AssociativeEmbedding((256, 256), stride=2, sigma=2.0)
    rng = torch.Generator().manual_seed(0)
    keypoints = 20 + 216 * torch.rand(2, 3, 17, 2, generator=rng)
    visibility = torch.full((2, 3, 17), 2)
    visibility[0, 2] = 0
    targets, weights = codec.encode(keypoints, visibility)
    tags = torch.zeros_like(targets.heatmaps)
    for b, p, k in np.ndindex(2, 3, 17):
        if weights[b, p, k]:
            cell = int(targets.cells[b, p, k])
            y, x = divmod(cell, 128)
            tags[b, k, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 3.0 * p
    groups = codec.decode(TagMaps(targets.heatmaps, tags))
    assert [len(group.scores) for group in groups] == [2, 3]
    far = (keypoints[:, :, None] - keypoints[:, None]).norm(dim=-1) + 1e9 * torch.eye(3)[None, :, :, None]
    for b, group in enumerate(groups):
        order = np.argsort([tags[b, 0][tuple((p[0] // 2).astype(int)[::-1])].item() for p in group.keypoints])
        for p, points in enumerate(group.keypoints[order]):
            clear = (far[b, p, : len(order)].amin(0) > 30).numpy()  # joints that no other person's covers
            assert np.abs(points - keypoints[b, p].numpy())[clear].max() <= 1.6 and clear.sum() > 8
    empty = codec.decode(TagMaps(torch.zeros(1, 17, 128, 128), torch.zeros(1, 17, 128, 128)))
    assert empty[0].keypoints.shape == (0, 17, 2) and empty[0].scores.shape == (0,)


def test_grouping_prefers_the_score_among_tags_that_round_alike():
    """Two candidates near one person's tag: the surer one joins, the nearer one starts a person of its own."""
    maps, tags = torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 16)
    maps[0, 0, 2, 2] = 0.9
    for (y, x), score, tag in (((4, 4), 0.3, 0.05), ((10, 10), 0.8, 0.4)):
        maps[0, 1, y, x], tags[0, 1, y, x] = score, tag
    (group,) = group_people(maps, tags, joint_order=(0, 1), adjust=False, refine=False)
    np.testing.assert_array_equal(group.keypoints, [[[2, 2], [10, 10]], [[0, 0], [4, 4]]])
    np.testing.assert_allclose(group.scores, [0.85, 0.15], atol=1e-6)
    # Refinement fills the second person's missing joint, and leaves the found one although a higher cell fits its tag.
    (refined,) = group_people(maps, tags, joint_order=(0, 1), adjust=False, refine=True)
    np.testing.assert_array_equal(refined.keypoints[1], [[2.25, 2.25], [4, 4]])
    np.testing.assert_allclose(refined.scores, group.scores)
    maps[0, 1, 4, 4], tags[0, 1, 10, 10] = 0.0, 1.2  # the only candidate, but farther than the threshold
    (group,) = group_people(maps, tags, joint_order=(0, 1), adjust=False, refine=False)
    np.testing.assert_array_equal(group.keypoints, [[[2, 2], [0, 0]], [[0, 0], [10, 10]]])


def test_tag_loss_pulls_and_pushes():
    codec = AssociativeEmbedding((64, 64), push_weight=1.0, pull_weight=1.0)
    keypoints = 8 + 48 * torch.rand(2, 2, 17, 2, generator=torch.Generator().manual_seed(1))
    targets, weights = codec.encode(keypoints, torch.ones(2, 2, 17))
    tags = noise(targets.heatmaps.shape).requires_grad_()
    perfect = TagMaps(targets.heatmaps, tags)
    loss = codec.loss(perfect, targets, weights)
    loss.backward()
    assert tags.grad.count_nonzero() <= weights.sum() < tags.grad.numel()
    better = TagMaps(targets.heatmaps, (tags - 0.5 * tags.grad).detach())
    assert codec.loss(better, targets, weights) < loss
    absent = codec.loss(perfect, targets, torch.zeros_like(weights))
    assert float(absent.detach()) == 0
    worse = TagMaps(targets.heatmaps + 1, tags)
    nothing_annotated = codec.loss(worse, targets, torch.zeros_like(weights), mask=torch.zeros(2, 16, 16))
    assert float(nothing_annotated.detach()) == 0


def test_tags_flip_with_their_maps():
    maps = TagMaps(noise((1, 17, 8, 8)), noise((1, 17, 8, 8), seed=2))
    turned = AssociativeEmbedding((32, 32)).flip(maps, COCO17.flip_index)
    for part, result in zip(maps, turned):
        np.testing.assert_array_equal(result[0, 1], part[0, 2].flip(-1))


# --- configuration and messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [*ALL.values(), AssociativeEmbedding(), GaussianHeatmap(loss=SRPOSE_MSE, ohkm=4)])
def test_json_round_trip(codec):
    again = Codec.from_dict(json.loads(json.dumps(codec.to_dict())))
    assert again == codec and hash(again) == hash(codec) and type(again) is type(codec)
    assert replace(codec, input_size=(128, 96)) != codec


MISTAKES = {
    "stride that does not divide": (lambda: GaussianHeatmap((250, 192)), "250x192 is not divisible by stride 4"),
    "unknown decoder": (lambda: GaussianHeatmap(decoder="best"), "'best'.*'argmax', 'quarter', 'dark'"),
    "unknown loss": (lambda: GaussianHeatmap(loss="mae"), "'mae'.*'mse', 'cross_entropy'"),
    "unknown coordinate loss": (lambda: Coordinates(loss="l3"), "'l3'"),
    "even kernel": (lambda: GaussianHeatmap(blur_kernel=10), "odd"),
    "udp on one column": (lambda: GaussianHeatmap((64, 4), protocol="udp"), "at least 2x2"),
    "no bins": (lambda: SimCC((1, 1), split=1.0), "split"),
    "joint order": (lambda: AssociativeEmbedding(joint_order=(0, 0)), "once"),
    "unknown field": (lambda: Codec.from_dict({"codec": "SimCC", "bins": 3}), "no field 'bins'"),
    "unknown codec": (lambda: Codec.from_dict({"codec": "Magic"}), "'Magic'.*GaussianHeatmap"),
    "maps of another stride": (lambda: GaussianHeatmap().decode(torch.zeros(1, 17, 32, 24)), "64, 48.*32, 24"),
    "prediction of another size": (
        lambda: GaussianHeatmap().loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 4, 4), torch.ones(1, 1)),
        "differ in shape",
    ),
    "visibility of another size": (
        lambda: GaussianHeatmap().encode(torch.zeros(2, 17, 2), torch.ones(2, 16)),
        r"\(2, 17, 2\) and \(2, 16\)",
    ),
    "out of another size": (
        lambda: GaussianHeatmap().encode(torch.zeros(1, 1, 2), torch.ones(1, 1), out=torch.zeros(1, 1, 4, 4)),
        "out must be",
    ),
    "more hard joints than joints": (
        lambda: HeatmapLoss(top_k=9)(torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 4, 4), torch.ones(1, 8)),
        "ohkm=9",
    ),
    "head weights": (
        lambda: HeatmapLoss()([torch.zeros(1, 1, 4, 4)], torch.zeros(1, 1, 4, 4), torch.ones(1, 1), head_weights=[]),
        "0 head weights for 1",
    ),
}


@pytest.mark.parametrize(("mistake", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_in_a_sentence(mistake, message):
    with pytest.raises(CodecError, match=message):
        mistake()
