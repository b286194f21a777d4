"""Pictures in and out: decoding with errors that name the file, and the network's normalisation.

OpenCV is used when it is there; Pillow alone is enough.
"""

from __future__ import annotations

import os
from functools import lru_cache
from io import BytesIO

import numpy as np
import torch

try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

# Means and standard deviations of ImageNet's RGB values in [0, 1]; every pretrained backbone here expects them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG", b"IEND"


class ImageError(ValueError):
    """A picture cannot be read: one sentence with the file, the image id and what to do."""


def read_image(path: str | os.PathLike, *, image_id: int | None = None) -> np.ndarray:
    """Decode a picture to (H, W, 3) uint8, RGB.

    EXIF orientation is ignored: COCO's and MPII's annotations refer to the pixels as stored.

    Args:
        path: file in any format that OpenCV or Pillow reads.
        image_id: id in the annotation file, for the message.

    Raises:
        ImageError: the file is missing, empty, truncated or no picture.
    """
    name = f"'{os.fspath(path)}'" + ("" if image_id is None else f" (image id {image_id})")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error.strerror})"
        raise ImageError(f"picture {name} {reason}; check the image folder, or download the picture again") from None
    if _is_truncated(data):
        raise ImageError(f"picture {name} is truncated at {len(data)} bytes; download it again or remove its record")
    picture = _decode(data)
    if picture is None:
        raise ImageError(f"picture {name} is not a readable picture; replace it or remove its record")
    return picture


def _is_truncated(data: bytes) -> bool:
    # OpenCV fills the missing part of a truncated JPEG with grey and returns it without an error, so the end marker
    # is looked for here. It cannot occur inside a scan (0xff is stuffed there), only in thumbnails before the scan.
    if data.startswith(_JPEG_START):
        return not data.endswith(_JPEG_END) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)
    if data.startswith(_PNG_START):
        return _PNG_END not in data[-64:]
    return False


def _decode(data: bytes) -> np.ndarray | None:
    if not data:
        return None
    if cv2 is None:
        return _decode_pillow(data)
    buffer = np.frombuffer(data, np.uint8)
    # Decoding straight to RGB saves a pass over the picture; the flag is younger than the OpenCV we still support.
    rgb = getattr(cv2, "IMREAD_COLOR_RGB", None)
    if rgb is not None:
        return cv2.imdecode(buffer, rgb | cv2.IMREAD_IGNORE_ORIENTATION)
    bgr = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _decode_pillow(data: bytes) -> np.ndarray | None:
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None


def warp(picture: np.ndarray, affine: np.ndarray, out: np.ndarray) -> None:
    """Cut a crop, bilinear, black outside the picture.

    Args:
        picture: (H, W, 3) uint8.
        affine: (2, 3) picture pixels -> crop pixels (:func:`posekit.geometry.crop_affine`).
        out: (h, w, 3) uint8, contiguous, overwritten.
    """
    if cv2 is None:
        out[:] = _warp_pillow(picture, affine, out.shape[:2])
        return
    cv2.warpAffine(picture, affine, (out.shape[1], out.shape[0]), dst=out, flags=cv2.INTER_LINEAR)


def _warp_pillow(picture: np.ndarray, affine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    from posekit.geometry import invert_affine

    # Pillow's coordinates have their origin at the corner of the first pixel, ours at its centre.
    a, b, tx, c, d, ty = invert_affine(affine).ravel()
    coefficients = (a, b, tx + 0.5 * (1 - a - b), c, d, ty + 0.5 * (1 - c - d))
    image = Image.fromarray(picture).transform(
        size[::-1], Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR
    )
    return np.asarray(image)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _constant_rows(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors and summands of a row of pixels, (width * 3,) each. Kept: copying them to a GPU waits for the GPU."""
    scale = [1 / (255 * s) for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return torch.tensor(scale, device=device).repeat(width), torch.tensor(shift, device=device).repeat(width)


def normalise(
    images: torch.Tensor,
    *,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, 3, H, W) uint8 RGB -> float32 ``(x / 255 - mean) / std`` of the same shape, channels_last in memory.

    Works on the device of ``images``. Fastest when they already are channels_last, as crops are, and when ``out`` is
    the result of an earlier call of the same shape: half of the time otherwise goes into fresh memory.
    """
    B, C, H, W = images.shape
    device = images.device
    # (B, C, H, W) channels_last -> (B, H, W * C): one long row, so that the channel constants broadcast over whole
    # rows instead of over three values at a time, which is several times slower on a CPU.
    rows = images.permute(0, 2, 3, 1).contiguous().view(B, H, W * C)
    row_scale, row_shift = _constant_rows(tuple(mean), tuple(std), W, device)
    out_rows = _float_rows((B, H, W * C), device) if out is None else out.permute(0, 2, 3, 1).view(B, H, W * C)
    if device.type == "cpu":
        # One picture at a time, so that it is still in the cache when it is scaled.
        for row, out_row in zip(rows, out_rows, strict=True):
            out_row.copy_(row)
            torch.addcmul(row_shift, out_row, row_scale, out=out_row)
    else:
        torch.addcmul(row_shift, rows.float(), row_scale, out=out_rows)
    return out_rows.view(B, H, W, C).permute(0, 3, 1, 2)


def _float_rows(shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    if device.type != "cpu":
        return torch.empty(shape, device=device)
    # NumPy asks Linux for huge pages and torch does not: fresh memory of a batch costs a sixth this way.
    return torch.from_numpy(np.empty(shape, np.float32))


def denormalise(
    images: torch.Tensor,
    *,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> torch.Tensor:
    """The inverse of :func:`normalise`: (B, 3, H, W) float -> uint8, rounded and clipped."""
    scale = images.new_tensor(std).view(1, -1, 1, 1) * 255
    shift = images.new_tensor(mean).view(1, -1, 1, 1) * 255
    return (images * scale + shift).round().clamp(0, 255).to(torch.uint8)
