"""Crops cut on the device, from pictures that lie in its memory: nothing waits for a disk, a decoder or a worker.

Order, augmentation and affines are those of :class:`~posekit.data.crops.CropLoader`, drawn on the host; only pixels are
cut elsewhere. OpenCV rounds sampling positions to 1/32 pixel and this does not, so crops differ by a few grey levels.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from posekit.data.crops import CropLoader, Dataset, _Cutter
from posekit.data.images import ImageError, read_image
from posekit.geometry import invert_affine

READERS, TOGETHER = 8, 256  # threads that decode pictures, and pictures that go to the device at once
SHARE = 0.25  # of the device's free memory, for all pictures; the rest is the network's, and other runs'


def fits(dataset: Dataset, device: torch.device) -> bool:
    """Whether a dataset's pictures are known to be of one size and take at most ``SHARE`` of a GPU's free memory."""
    sizes = dataset.people.image_sizes
    if not len(sizes) or (sizes != sizes[0]).any() or (sizes[0] == 0).any():
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return 3 * int(sizes[0].prod()) * len(sizes) <= SHARE * free


class DeviceCropLoader(CropLoader):
    """A :class:`~posekit.data.crops.CropLoader` whose pictures and crops live on one device.

    Args:
        dataset: with pictures of one size, such as Mannequin; all of them must fit into the device's memory.
        input_size: (height, width) of a crop.
        device: where the pictures are kept and the crops are cut.
        options: as of ``CropLoader``, without ``workers`` and ``cache_images``.

    Raises:
        posekit.data.ImageError: a picture that cannot be read, or has another size than the first.
        ValueError: as of ``CropLoader``.
    """

    def __init__(
        self, dataset: Dataset, input_size: tuple[int, int], *, device: torch.device | str, **options: Any
    ) -> None:
        super().__init__(dataset, input_size, **options)
        cpu = self._cutter
        self._cutter = _DeviceCutter(
            dataset, cpu.size, cpu.seed, cpu.augmentation, cpu.padding, cpu.protocol, cpu.boxes, 0, cpu.share
        )
        self._cutter.pictures = _load(dataset, torch.device(device))


class _DeviceCutter(_Cutter):
    pictures: torch.Tensor  # (I, H, W, 3) uint8

    def _cut(self, image_index: np.ndarray, affine: np.ndarray) -> torch.Tensor:
        device = self.pictures.device
        # Nothing here waits for the device: it still works on the batch before.
        index = torch.from_numpy(image_index).to(device, non_blocking=True)
        pictures = self.pictures[index].permute(0, 3, 1, 2).float()
        back = torch.from_numpy(invert_affine(affine)).to(device, torch.float32, non_blocking=True)
        crops = sample(pictures, back, self.size)
        return crops.round_().clamp_(0, 255).to(torch.uint8, memory_format=torch.channels_last)


def sample(pictures: torch.Tensor, affine: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear crops, black outside the picture.

    Args:
        pictures: (B, C, H, W) float.
        affine: (B, 2, 3) crop pixels -> picture pixels, origin at the centre of the first pixel.
        size: (h, w) of a crop.

    Returns:
        (B, C, h, w).
    """
    (h, w), (H, W) = size, pictures.shape[-2:]
    xs = torch.arange(w, device=affine.device, dtype=affine.dtype)
    ys = torch.arange(h, device=affine.device, dtype=affine.dtype)[:, None]
    # In full precision, whatever was chosen for matrix products; with align_corners, -1 and 1 are the centres of the
    # first and last pixel.
    a, b, c = affine[:, :, :, None, None].unbind(2)  # each (B, 2, 1, 1), for x and y
    x, y = (a * xs + b * ys + c).unbind(1)  # each (B, h, w)
    grid = torch.stack([x * (2 / (W - 1)) - 1, y * (2 / (H - 1)) - 1], -1)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _load(dataset: Any, device: torch.device) -> torch.Tensor:
    people = dataset.people
    image_file = getattr(dataset, "image_file", dataset.image_path)
    ids = people.image_ids.tolist()
    if not ids:
        raise ImageError(f"{dataset.name} has no pictures to keep on a device")

    def read(index: int) -> np.ndarray:
        return read_image(image_file(index), image_id=ids[index])

    first = read(0)
    out = torch.empty((len(ids), *first.shape), dtype=torch.uint8, device=device)
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(ids), TOGETHER):
            part = range(start, min(start + TOGETHER, len(ids)))
            pictures = list(pool.map(read, part))
            for index, picture in zip(part, pictures):
                if picture.shape != first.shape:
                    raise ImageError(
                        f"picture '{image_file(index)}' is {picture.shape[0]}x{picture.shape[1]} and the first one is "
                        f"{first.shape[0]}x{first.shape[1]}: pictures of different sizes are not kept on a device; use "
                        "CropLoader"
                    )
            out[part.start : part.stop] = torch.from_numpy(np.stack(pictures)).to(device)
    return out
