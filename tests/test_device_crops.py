"""Crops cut on the device against OpenCV's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.data import CropLoader, ImageError, Mannequin
from posekit.data.augmentation import Augmentation
from posekit.data.device_crops import DeviceCropLoader, sample

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
