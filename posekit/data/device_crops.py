"""Crops cut on the device, from pictures that lie in its memory: nothing waits for a disk, a decoder or a worker.

Order, augmentation and affines are those of :class:`~posekit.data.crops.CropLoader`, drawn on the host; only pixels are
cut elsewhere. OpenCV rounds sampling positions to 1/32 pixel and this does not, so crops differ by a few grey levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from posekit.data.crops import CropLoader, Dataset, _Cutter
from posekit.data.images import ImageError, read_image
from posekit.geometry import invert_affine


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
        pictures = self.pictures[torch.from_numpy(image_index).to(device)].permute(0, 3, 1, 2).float()
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
    ys, xs = torch.meshgrid(
        torch.arange(h, device=affine.device, dtype=affine.dtype),
        torch.arange(w, device=affine.device, dtype=affine.dtype),
        indexing="ij",
    )
    cells = torch.stack([xs, ys, torch.ones_like(xs)], -1)  # (h, w, 3)
    places = torch.einsum("hwj,bij->bhwi", cells, affine)  # (B, h, w, 2) x, y
    # With align_corners, -1 and 1 are the centres of the first and last pixel.
    grid = places * (2 / torch.tensor([W - 1, H - 1], device=affine.device, dtype=affine.dtype)) - 1
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _load(dataset: Any, device: torch.device) -> torch.Tensor:
    people = dataset.people
    image_file = getattr(dataset, "image_file", dataset.image_path)
    first: np.ndarray | None = None
    for index, image_id in enumerate(people.image_ids.tolist()):
        picture = read_image(image_file(index), image_id=image_id)
        if first is None:
            first = picture
            out = torch.empty((len(people.image_ids), *picture.shape), dtype=torch.uint8, device=device)
        if picture.shape != first.shape:
            raise ImageError(
                f"picture '{image_file(index)}' is {picture.shape[0]}x{picture.shape[1]} and the first one is "
                f"{first.shape[0]}x{first.shape[1]}: pictures of different sizes are not kept on a device; use "
                "CropLoader"
            )
        out[index] = torch.from_numpy(np.ascontiguousarray(picture)).to(device)
    if first is None:
        raise ImageError(f"{dataset.name} has no pictures to keep on a device")
    return out
