"""Flip test, way back to the picture, and folding, on networks whose right answer is known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from posekit import create_model, inference, training
from posekit.annotations import write_detections
from posekit.codecs import Coordinates, GaussianHeatmap, SimCC
from posekit.data import Boxes, CocoKeypoints, CropLoader
from posekit.geometry import crop_affine, crop_box, transform_points
from posekit.inference import fusion

SIZE = (256, 192)
FLIP_INDEX = np.array([1, 0])  # keypoint 0 is left, 1 is right


class Oracle(nn.Module):
    """Finds two dots and names the one further left in the crop 'left': right for mirrored crops too.

    Its heatmap is a perfect one at the given stride, so every error that remains is the flip test's.
    """

    def __init__(self, codec):
        super().__init__()
        self.codec, self.input_size = codec, codec.input_size
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        points = []
        for image in images[:, 0]:
            rows, columns = torch.nonzero(image > 0, as_tuple=True)
            order = torch.argsort(columns)[:2]
            points.append(torch.stack([columns[order], rows[order]], -1).float())
        keypoints = torch.stack(points)
        targets, _ = self.codec.encode(keypoints, torch.ones(keypoints.shape[:2]))
        return targets


def dots(count=12):
    """Float pictures with one bright pixel left of the middle and one right of it, far from the border."""
    rng = np.random.default_rng(0)
    columns = np.stack([rng.integers(64, 80, count), rng.integers(112, 128, count)], -1)
    keypoints = np.stack([columns, rng.integers(64, 192, (count, 2))], -1)
    images = np.zeros((count, 1, *SIZE), np.float32)
    for image, points in zip(images, keypoints):
        for x, y in points:
            image[0, y, x] = 1
    return training.ArrayLoader(images, keypoints.astype(np.float32), batch_size=5, shuffle=False)


def mean_x_error(codec, **options):
    loader = dots()
    found = inference.predict(Oracle(codec), loader, flip_index=FLIP_INDEX, device="cpu", **options)
    np.testing.assert_array_equal(found.person, np.arange(12))
    return float((found.keypoints - loader.keypoints.numpy())[..., 0].mean())


def averaged(stride):
    return GaussianHeatmap(SIZE, stride=stride, sigma=8 / stride, centre="subpixel", window=None, decoder="dark")


@pytest.mark.parametrize(
    ("stride", "shift", "bias"),
    # Averaging moves the peak by half of the mirrored map's misplacement: shift * stride - (stride - 1) pixels.
    [(4, 0, -1.5), (4, 1, 0.5), (2, 0, -0.5), (2, 1, 0.5), (1, 0, 0.0), (1, 1, 0.5)],
)
def test_flip_test_bias_is_the_derived_one(stride, shift, bias):
    assert mean_x_error(averaged(stride), shift=shift) == pytest.approx(bias, abs=0.05)


def test_auto_shift_is_published_practice():
    size = SIZE
    assert [inference.auto_shift(GaussianHeatmap(size, stride=s)) for s in (4, 2, 1)] == [1, 1, 0]
    assert inference.auto_shift(GaussianHeatmap(size, protocol="udp")) == 0
    assert inference.auto_shift(SimCC(size)) == inference.auto_shift(Coordinates(size)) == 0
    assert mean_x_error(averaged(4)) == mean_x_error(averaged(4), shift=1)


@pytest.mark.parametrize(
    "codec",
    [
        Coordinates(SIZE),
        GaussianHeatmap(SIZE, stride=4, protocol="udp", centre="subpixel", window=None, decoder="dark"),
        SimCC(SIZE, split=1.0),
    ],
    ids=lambda codec: type(codec).__name__,
)
def test_codecs_without_flip_bias(codec):
    assert mean_x_error(codec) == pytest.approx(0.0, abs=0.02)


def test_flip_test_exchanges_left_and_right():
    """Without the exchange of names the two maps disagree and an average would be wrong by tens of pixels."""
    loader = dots()
    found = inference.predict(Oracle(Coordinates(SIZE)), loader, flip_index=FLIP_INDEX, device="cpu")
    np.testing.assert_allclose(found.keypoints, loader.keypoints.numpy(), atol=1e-3)
    wrong = inference.predict(Oracle(Coordinates(SIZE)), loader, flip_index=np.arange(2), device="cpu")
    assert np.abs(wrong.keypoints - loader.keypoints.numpy()).max() > 5


def test_keypoints_go_back_to_the_picture():
    """Crops cut from known boxes: the picture's coordinates come back, rotation and mirror undone."""
    loader = dots()
    codec = Coordinates(SIZE)
    rng = np.random.default_rng(1)
    box = crop_box(rng.uniform(20, 90, (12, 4)), SIZE)
    affine = crop_affine(box, SIZE, rotation=rng.uniform(-40, 40, 12), flip=rng.random(12) < 0.5)
    start = 0
    batches = []
    for batch in loader:
        stop = start + len(batch.images)
        batches.append(
            batch._replace(affine=torch.from_numpy(affine[start:stop]), box=torch.from_numpy(box[start:stop]))
        )
        start = stop
    found = inference.predict(Oracle(codec), batches, flip_test=False, device="cpu")
    np.testing.assert_allclose(transform_points(affine, found.keypoints), loader.keypoints.numpy(), atol=1e-3)
    np.testing.assert_array_equal(found.box, box)


def test_flip_test_without_names_is_refused():
    with pytest.raises(ValueError, match="flip_index"):
        inference.predict(Oracle(Coordinates(SIZE)), dots(), device="cpu")


class Peeking(nn.Module):
    """A network that has seen the labels: it answers each batch with the encoded truth, off by ``error`` pixels."""

    def __init__(self, dataset, codec, error=0.0):
        super().__init__()
        self.codec, self.input_size = codec, codec.input_size
        self.unused = nn.Parameter(torch.zeros(1))
        rng = torch.Generator().manual_seed(0)
        answers = []
        for batch in CropLoader(dataset, self.input_size, batch_size=64, protocol=getattr(codec, "protocol", "hrnet")):
            noise = error * torch.randn(batch.keypoints.shape, generator=rng)
            answers.append(codec.encode(batch.keypoints + noise, torch.ones_like(batch.visibility))[0])
        self.answers = iter(answers)

    def forward(self, images):
        return next(self.answers)


@pytest.fixture
def coco(realdata):
    return CocoKeypoints(realdata / "coco" / "test_coco.json", realdata / "coco")


@pytest.mark.realdata
@pytest.mark.parametrize(
    "codec",
    [
        GaussianHeatmap((256, 192), stride=1, sigma=4, centre="subpixel", decoder="dark", blur_kernel=17),
        GaussianHeatmap((256, 192), protocol="udp", centre="subpixel", window=None, decoder="dark"),
        SimCC((256, 192)),
        Coordinates((256, 192)),
    ],
    ids=["stride 1", "udp", "simcc", "coordinates"],
)
def test_the_truth_scores_as_true_on_real_pictures(coco, codec):
    found = inference.evaluate(Peeking(coco.trainable(), codec), coco, flip_test=False, device="cpu")
    assert found.ap > 0.97 and found.mean_oks > 0.97
    assert found.confusion.rate == 0


@pytest.mark.realdata
def test_evaluation_equals_pycocotools(coco, realdata, tmp_path, capsys):
    """On predictions that are wrong enough for every number to differ from 0 and 1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    model = Peeking(coco.trainable(), GaussianHeatmap((256, 192)), error=9.0)
    found = inference.evaluate(model, coco, flip_test=False, device="cpu")
    write_detections(tmp_path / "results.json", found.detections)
    truth = COCO(str(realdata / "coco" / "test_coco.json"))
    peer = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "keypoints")
    peer.evaluate()
    peer.accumulate()
    peer.summarize()
    np.testing.assert_array_equal(found.stats, peer.stats)
    assert 0.05 < found.ap < 0.95
    assert found.summary()["AP"] == found.ap


@pytest.mark.realdata
def test_duplicates_are_suppressed_and_detected_boxes_used(coco, realdata):
    """The true boxes given twice, the second time with a lower score, as a detector would."""
    people = coco.trainable().people
    twice = Boxes(np.tile(people.image_index, 2), np.tile(people.box, (2, 1)), np.repeat([0.9, 0.5], len(people)))

    class SameForBoth(nn.Module):
        codec, input_size = Coordinates((256, 192)), (256, 192)

        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            means = images.mean((1, 2, 3))[:, None, None] * 1e-3
            return means + torch.linspace(-0.4, 0.4, 17)[:, None].expand(17, 2)

    every = inference.evaluate(SameForBoth(), coco, boxes=twice, nms=None, flip_test=False, device="cpu")
    kept = inference.evaluate(SameForBoth(), coco, boxes=twice, flip_test=False, device="cpu")
    assert len(every.detections) == 2 * len(people)
    np.testing.assert_array_equal(kept.detections.scores, np.full(len(people), 0.9))
    assert kept.mean_oks is None and "mean_oks" not in kept.summary()


@pytest.mark.realdata
def test_one_picture_equals_the_dataset_road(coco, realdata):
    torch.manual_seed(0)
    model = create_model("tiny_simple_baseline", input_size=(96, 64))
    people = coco.trainable().people
    rows = np.flatnonzero(people.image_index == people.image_index[0])
    path = coco.image_path(int(people.image_index[0]))
    one = inference.predict_image(model, path, people.box[rows], device="cpu")
    whole = inference.evaluate(model, coco, device="cpu").predictions
    order = [int(np.flatnonzero(whole.person == row)[0]) for row in rows]
    np.testing.assert_allclose(one.keypoints, whole.keypoints[order], atol=1e-6)
    np.testing.assert_allclose(one.box, whole.box[order], atol=1e-9)
    with pytest.raises(ValueError, match="boxes must be"):
        inference.predict_image(model, path, [[1, 2, 3]])


class Branches(nn.Module):
    """Convolutions with and without normalisation, a transposed one, a linear layer, and a residual sum."""

    def __init__(self):
        super().__init__()
        self.input_size = (16, 12)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.a, self.a_norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.up, self.up_norm = nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.a_norm(self.a(x))
        return self.last(self.up_norm(self.up(x)).relu())


class Spying(Branches):
    """Also reads a convolution's raw output, so folding would change it."""

    def forward(self, x):
        raw = self.a(self.stem(x))
        return self.last(self.up_norm(self.up(raw + self.a_norm(raw))).relu())


def settled(net):
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.2, 3)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    return net.eval()


def test_folded_network_is_the_same_function():
    net = settled(Branches())
    fused = inference.fuse_conv_bn(net)
    image = torch.randn(2, 3, 16, 12)
    torch.testing.assert_close(fused(image), net(image), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 3
    with pytest.raises(ValueError, match="cannot be folded"):
        inference.fuse_conv_bn(settled(Spying()))


def test_folding_is_checked_in_double_precision_where_float32_is_cut_short():
    net, image = settled(Branches()), torch.randn(1, 3, 16, 12)
    fused = inference.fuse_conv_bn(net)

    class OnGpu(torch.Tensor):
        is_cuda = True

    with torch.no_grad():
        assert fusion._equal(copy.deepcopy(net), copy.deepcopy(fused), image.as_subclass(OnGpu))
        fused.get_submodule(next(n for n, m in fused.named_modules() if isinstance(m, nn.Conv2d))).weight.mul_(1.001)
        assert not fusion._equal(net, fused, image.as_subclass(OnGpu))


class Points(Branches):
    """Two keypoints from the means of the maps."""

    codec = Coordinates((16, 12))

    def forward(self, x):
        return super().forward(x).flatten(2).unflatten(2, (-1, 2)).mean(2)


def noise():
    images = np.random.default_rng(0).normal(size=(12, 3, 16, 12)).astype(np.float32)
    return training.ArrayLoader(images, np.zeros((12, 2, 2), np.float32), batch_size=5, shuffle=False)


def test_compiled_predictions_are_the_plain_ones(monkeypatch):
    """The last batch is smaller, and the flip test runs compiled too."""
    seen = []
    full = inference.speed.Compiled._full
    monkeypatch.setattr(
        inference.speed.Compiled, "_full", lambda self, x: (seen.append((self.batch, len(x))), full(self, x))[1]
    )
    net = settled(Points()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    options = {"flip_index": FLIP_INDEX, "device": "cpu"}
    compiled = inference.predict(net, noise(), compile=True, **options)
    assert seen == [(5, 2)] + [(5, 5)] * 4 + [(5, 2)] * 2
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    plain = inference.predict(net, noise(), **options)
    np.testing.assert_allclose(compiled.keypoints, plain.keypoints, rtol=1e-5, atol=1e-5)
    assert np.ptp(plain.keypoints, axis=0).min() > 1e-2 and len(seen) == 7


def test_bfloat16_of_the_network_as_it_is_and_of_its_weights_are_two_roads():
    """Each is what its documentation says: autocast, and the copy that the command line predicts with."""
    net, options = settled(Points()), {"flip_index": FLIP_INDEX, "device": "cpu"}
    cast, whole = (
        inference.predict(network, noise(), bf16=bf16, **options).keypoints
        for network, bf16 in ((net, True), (inference.for_evaluation(net, bf16=True), False))
    )
    image = next(iter(noise())).images
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        expected = [net(side).float() for side in (image, image.flip(-1))]
    expected = (expected[0] + net.codec.flip(expected[1], FLIP_INDEX, shift=0)) / 2
    np.testing.assert_array_equal(cast[:5], net.codec.decode(expected)[0].double().numpy())
    assert np.abs(cast - whole).max() > 0
