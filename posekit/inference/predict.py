"""Crops in, keypoints in the picture out: flip test, decoding, the inverse affine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from posekit.geometry import invert_affine, transform_points
from posekit.inference.processes import ALONE, Processes, together
from posekit.inference.runtime import Network, as_float, map_prediction, pick_device, to_input
from posekit.inference.speed import for_evaluation

Shift = int | Literal["auto"]


@dataclass(frozen=True)
class Predictions:
    """What a network says about N crops, in the loader's order.

    Attributes:
        keypoints: (N, K, 2) float64 picture pixels, x then y.
        scores: (N, K) float64, the codec's confidence of each keypoint.
        person: (N,) int64, the row of ``dataset.people`` (or of the loader's boxes) that was cropped.
        box: (N, 4) float64 xywh, the region that was cut, picture pixels.
        crop_keypoints: (N, K, 2) float64, the same keypoints in crop pixels.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    person: np.ndarray
    box: np.ndarray
    crop_keypoints: np.ndarray

    def __len__(self) -> int:
        return len(self.keypoints)


def auto_shift(codec: Any) -> int:
    """By how many cells published flip tests move the un-mirrored map: one at stride > 1, else none.

    Cell i of the "hrnet" protocol is pixel ``stride * i``, so a mirrored map comes back ``stride - 1`` pixels too far
    left; averaging halves that. One whole cell leaves half a pixel on the other side: better at stride 4 (1.5 without),
    equal at stride 2, and harmful at stride 1, where nothing is to be corrected. "udp" and coordinates need none.
    SRPose nevertheless publishes a shift of 1 at stride 1: pass it to repeat its numbers.
    """
    return int(getattr(codec, "stride", 1) > 1 and getattr(codec, "protocol", "hrnet") == "hrnet")


@together()
@torch.inference_mode()
def predict(
    model: Network,
    loader: Any,
    *,
    flip_test: bool = True,
    flip_index: Any = None,
    shift: Shift = "auto",
    device: str | torch.device = "auto",
    bf16: bool = False,
    compile: bool = False,
    progress: bool | None = False,
    processes: Processes = ALONE,
) -> Predictions:
    """Run a network over a loader of crops.

    Args:
        model: with ``codec``; moved to ``device``, evaluated in eval mode, and put back into the mode it had.
        loader: of crop batches (:class:`posekit.data.CropLoader`, :class:`posekit.training.ArrayLoader`).
        flip_test: average the prediction (before decoding) with that of the mirrored crop, turned back.
        flip_index: (K,) of the skeleton; None takes it from ``loader.dataset.skeleton``.
        shift: cells by which the turned-back map moves right; "auto" is :func:`auto_shift`.
        device: "auto" takes a GPU when there is one.
        bf16: bfloat16 autocast of the network as it is; decoding stays in float32. ``posekit evaluate --bf16`` is
            another road, faster and coarser: it predicts with ``for_evaluation(model, bf16=True)``, weights and maps
            in bfloat16.
        compile: predict with ``for_evaluation(model, bf16=bf16, compile_batch=...)``, compiled for the size of the
            first batch; ``bf16`` then means what it means there. It takes up to a minute before the first batch.
        progress: show a bar on stderr; None: when it is a terminal.
        processes: that share the batches. Each of them must call, with a loader in the same fixed order; each gets
            all predictions, the same as from one process.

    Raises:
        ValueError: a flip test without a flip index, or a network that cannot be compiled.
        posekit.inference.ProcessError: another process has ended.
    """
    from tqdm import tqdm

    if flip_test and flip_index is None:
        flip_index = _flip_index(loader)
    device = pick_device(device)
    codec = model.codec
    cells = auto_shift(codec) if shift == "auto" else shift
    with torch.inference_mode(False):  # else what moves to a GPU could never be trained again
        model.to(device=device, memory_format=torch.channels_last)
    was_training = model.training
    model.eval()
    run = None if compile else model
    parts: list[tuple[np.ndarray, ...]] = []
    hidden = not processes.first or (None if progress is None else not progress)
    mine = tqdm(processes.share(loader), unit="batch", desc="predict", disable=hidden)
    try:
        for batch in mine:
            images = to_input(batch.images, device)
            if run is None:
                with torch.inference_mode(False):  # the compiler wants weights that count their versions
                    run = for_evaluation(model, bf16=bf16, compile_batch=len(images))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16 and not compile):
                prediction = as_float(run(images))
                if flip_test:
                    mirrored = as_float(run(images.flip(-1)))
            if flip_test:
                back = codec.flip(mirrored, flip_index, shift=cells)
                prediction = map_prediction(lambda a, b: (a + b) * 0.5, prediction, back)
            keypoints, scores = codec.decode(prediction)
            in_crop = keypoints.double().cpu()
            in_picture = transform_points(invert_affine(batch.affine.cpu().double()), in_crop)
            parts.append(
                tuple(
                    array.numpy(force=True)
                    for array in (in_picture, scores.double(), batch.person, batch.box.double(), in_crop)
                )
            )
    finally:
        model.train(was_training)
    parts = processes.interleave(parts)
    if not parts:
        raise ValueError("the loader gave no crops: its dataset has nobody in it, or fewer people than one batch")
    return Predictions(*(np.concatenate(column) for column in zip(*parts)))


def _flip_index(loader: Any) -> Any:
    skeleton = getattr(getattr(loader, "dataset", loader), "skeleton", None)
    if skeleton is None:
        raise ValueError("a flip test needs to know left from right: pass flip_index=skeleton.flip_index")
    return skeleton.flip_index
