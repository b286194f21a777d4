"""Crops cut on the device against OpenCV's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from posekit import create_model, training
from posekit.data import CropLoader, ImageError, Mannequin
from posekit.data.augmentation import Augmentation
from posekit.data.device_crops import DeviceCropLoader, fits, sample

OPTIONS = {"batch_size": 8, "augmentation": Augmentation(), "shuffle": True, "seed": 3, "drop_last": True}


@pytest.fixture(scope="module")
def people():
    return Mannequin("val", level="natural", scenes=12).trainable()


@pytest.mark.parametrize("protocol", ["hrnet", "udp"])
def test_crops_are_those_of_the_loader(people, protocol):
    host = CropLoader(people, (96, 64), protocol=protocol, **OPTIONS)
    device = DeviceCropLoader(people, (96, 64), device="cpu", protocol=protocol, **OPTIONS)
    assert len(host) == len(device)
    for loader in (host, device):
        loader.resume({"epoch": 2, "batch": 1})
    for a, b in zip(host, device, strict=True):
        for name in ("keypoints", "visibility", "affine", "person", "box", "flip"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        difference = (a.images.int() - b.images.int()).abs()
        assert b.images.is_contiguous(memory_format=torch.channels_last)
        assert difference.float().mean() < 0.5 and (difference > 8).float().mean() < 0.005


def test_sampling_is_bilinear_with_black_outside():
    picture = torch.arange(12.0).reshape(1, 1, 3, 4)
    half = torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0.5]]])  # crop pixel -> half a pixel further right and down
    found = sample(picture, half, (3, 4))[0, 0]
    assert found[:2, :3].numpy() == pytest.approx(np.array([[2.5, 3.5, 4.5], [6.5, 7.5, 8.5]]), abs=1e-5)
    assert found[2, 0] == pytest.approx((8 + 9) / 4)  # the row below does not exist
    assert sample(picture, torch.tensor([[[1.0, 0, 9], [0, 1.0, 9]]]), (2, 2)).abs().sum() == 0


def test_pictures_of_different_sizes_are_refused(people, tmp_path):
    import cv2

    class Mixed:
        name, skeleton, people = "mixed", None, None

        def image_path(self, index):
            return tmp_path / f"{index}.png"

    mixed = Mixed()
    mixed.people, mixed.skeleton = people.people, people.skeleton
    for index in range(len(people.people.image_ids)):
        cv2.imwrite(str(mixed.image_path(index)), np.zeros((40 + (index == 5), 60, 3), np.uint8))
    with pytest.raises(ImageError, match=r"5\.png' is 41x60 and the first one is 40x60"):
        DeviceCropLoader(mixed, (96, 64), device="cpu", **OPTIONS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_crops_on_a_gpu_are_those_on_the_host(people):
    host = DeviceCropLoader(people, (96, 64), device="cpu", **OPTIONS)
    device = DeviceCropLoader(people, (96, 64), device="cuda", **OPTIONS)
    for a, b in zip(host, device, strict=True):
        assert (a.images.int() - b.images.cpu().int()).abs().max() <= 1


def test_training_cuts_where_it_is_told_to(people, tmp_path, monkeypatch):
    """The device's road, forced on a CPU, learns what the host's does; "auto" on a CPU is the host's, bit for bit."""
    recipe = training.recipes.quick(8 * 12, batch_size=8)
    weights, losses = {}, {}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: pytest.fail("a CPU has room without being asked"))
    for crops in ("host", "auto", "device"):
        torch.manual_seed(0)
        net = create_model("tiny_simple_baseline")
        result = training.fit(
            net, people, None, recipe, out_dir=tmp_path / crops, seed=1, device="cpu", log_every=1, crops=crops
        )
        weights[crops] = torch.cat([value.flatten().float() for value in net.state_dict().values()])
        losses[crops] = np.array([record["loss"] for record in result.history])
    assert torch.equal(weights["auto"], weights["host"])
    assert not torch.equal(weights["device"], weights["host"]), "both were cut by one loader"
    assert losses["device"][0] == pytest.approx(losses["host"][0], rel=0.01)
    assert losses["device"] == pytest.approx(losses["host"], rel=0.1)  # small differences grow with the steps


def test_pictures_are_kept_on_a_gpu_when_they_are_of_one_size_and_fit(people, monkeypatch):
    need = len(people.people.image_ids) * 192 * 256 * 3
    for free, answer in ((4 * need, True), (4 * need - 4, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert fits(people, torch.device("cuda")) is answer
    sizes = people.people.image_sizes.copy()
    sizes[1] += 1
    mixed = people.with_people(dataclasses.replace(people.people, image_sizes=sizes))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * need, 100 * need))
    assert fits(people, torch.device("cuda")) and not fits(mixed, torch.device("cuda"))
