"""Score one trained network in every way that a claim asks about, from one pass over the crops.

Flip test, the shift of its mirrored map, and the decoder are choices after the network: the maps are predicted once,
as they are and mirrored, and decoded under each choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from posekit import inference, metrics
from posekit.data import CropLoader
from posekit.geometry import invert_affine, transform_points
from posekit.inference.evaluate import as_detections, without_duplicates
from posekit.inference.predict import Predictions, auto_shift
from posekit.inference.runtime import as_float, map_prediction, to_input

# A keypoint is found within this share of the larger side of its person's box: about half a head of somebody upright,
# as PCKh asks for. Mannequins have no head boxes.
PCK_THRESHOLD = 0.06
BOOTSTRAP = 300


@dataclass(frozen=True)
class Scores:
    """Of one network on one dataset, in percent.

    Attributes:
        metrics: "AP", "mean OKS", "PCK", shares of errors by kind, left-right confusion by view, all with flip test,
            the published shift and the network's own decoder; and "AP, X", "mean OKS, X" for every other way X of
            :func:`variants`.
        intervals: 95 % of "AP", by the bootstrap over pictures.
        draws: (300,) float32 of "AP" and each "AP, X": the same resampled pictures for every network on this dataset,
            so that differences of draws are paired.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    draws: dict[str, np.ndarray]


def score_variants(net: Any, dataset: Any, *, device: str | torch.device = "cpu") -> Scores:
    """Predict once, decode and score in every way.

    Args:
        net: with ``codec`` and ``input_size``.
        dataset: of people with true boxes.
    """
    people = dataset.trainable()
    found, person = _decode_all(net, people, pick=inference.pick_device(device))
    true = people.people.select(person["person"])
    numbers: dict[str, float] = {}
    draws: dict[str, np.ndarray] = {}
    for name, (keypoints, scores) in found.items():
        suffix = f", {name}" if name else ""
        result = _score(dataset.people, true, person, keypoints, scores)
        numbers[f"AP{suffix}"] = 100 * result.ap
        drawn = metrics.bootstrap_ap(result, samples=BOOTSTRAP, seed=0)
        draws[f"AP{suffix}"] = (100 * drawn.samples).astype(np.float32)
        numbers[f"mean OKS{suffix}"] = 100 * float(metrics.person_oks(true, keypoints).mean())
        if not name:
            main, interval = result, drawn
    keypoints, _ = found[""]
    numbers |= {"AP50": 100 * main.ap50, "AP75": 100 * main.ap75, "AR": 100 * main.ar}
    numbers |= _errors(true, keypoints, people.yaw[person["person"]] if hasattr(people, "yaw") else None)
    return Scores(numbers, {"AP": (100 * interval.low, 100 * interval.high)}, draws)


def variants(codec: Any) -> dict[str, Callable[[Any, Any, Any], Any]]:
    """Ways from (prediction, mirrored prediction, flip index) to keypoints and scores; "" is the published way."""

    def averaged(decoder: Any, shift: int) -> Callable[[Any, Any, Any], Any]:
        def decode(plain: Any, mirrored: Any, flip_index: Any) -> Any:
            back = codec.flip(mirrored, flip_index, shift=shift)
            return decoder.decode(map_prediction(lambda a, b: (a + b) * 0.5, plain, back))

        return decode

    own = auto_shift(codec)
    ways = {"": averaged(codec, own), "no flip test": lambda plain, mirrored, flip_index: codec.decode(plain)}
    if "decoder" in {field.name for field in fields(codec)}:
        ways |= {name: averaged(replace(codec, decoder=name), own) for name in ("argmax", "quarter", "dark")}
        ways |= {f"shift {cells}": averaged(codec, cells) for cells in (0, 1, 2)}
    return ways


@torch.inference_mode()
def _decode_all(net: Any, people: Any, *, pick: torch.device) -> tuple[dict, dict[str, np.ndarray]]:
    loader = CropLoader(people, net.input_size, batch_size=64, protocol=getattr(net.codec, "protocol", "hrnet"))
    with torch.inference_mode(False):  # else what moves to a GPU could never be trained again
        net.to(device=pick, memory_format=torch.channels_last).eval()
    ways, flip_index = variants(net.codec), people.skeleton.flip_index
    parts: dict[str, list] = {name: [] for name in ways}
    rows, boxes = [], []
    for batch in loader:
        images = to_input(batch.images, pick)
        plain, mirrored = as_float(net(images)), as_float(net(images.flip(-1)))
        back = invert_affine(batch.affine.cpu().double())
        for name, decode in ways.items():
            keypoints, scores = decode(plain, mirrored, flip_index)
            picture = transform_points(back, keypoints.double().cpu())
            parts[name].append((picture.numpy(), scores.double().cpu().numpy()))
        rows.append(batch.person.numpy())
        boxes.append(batch.box.double().numpy())
    joined = {name: tuple(np.concatenate(column) for column in zip(*chunks)) for name, chunks in parts.items()}
    return joined, {"person": np.concatenate(rows), "box": np.concatenate(boxes)}


def _score(everybody: Any, true: Any, person: Any, keypoints: np.ndarray, scores: np.ndarray) -> Any:
    """The published road of :func:`posekit.inference.evaluate` after decoding: rescore, suppress duplicates, AP."""
    predictions = Predictions(keypoints, scores, person["person"], person["box"], keypoints)
    detections = as_detections(predictions, true.image_ids[true.image_index], np.ones(len(keypoints)))
    return metrics.evaluate_coco(everybody, without_duplicates(detections, person["box"], sigmas=true.skeleton.sigmas))


def _errors(true: Any, keypoints: np.ndarray, yaw: np.ndarray | None) -> dict[str, float]:
    """PCK, kinds of error and left-right confusion, percent."""
    found = metrics.pck(
        keypoints, true.keypoints, visibility=true.visibility, reference=true.box[:, 2:].max(1), threshold=PCK_THRESHOLD
    )
    labelled = (true.visibility > 0).sum(0)
    confusion = metrics.lr_confusion(
        keypoints, true.keypoints, visibility=true.visibility, box=true.box, skeleton=true.skeleton
    )
    numbers = {"PCK": float(np.nansum(found * labelled) / labelled.sum()), "confusion": confusion.rate}
    numbers |= {f"{kind} share": share for kind, share in metrics.diagnose(true, keypoints).shares.items()}
    if yaw is not None:
        numbers |= {f"confusion, {view}": share for view, share in confusion.by_view(yaw).items()}
    return {name: 100 * value for name, value in numbers.items() if math.isfinite(value)}
