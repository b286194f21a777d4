"""From a network and a dataset to numbers: the published road of top-down evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from posekit import metrics
from posekit.annotations import AnnotationError, Detections, People
from posekit.inference.predict import Predictions, Shift, predict
from posekit.inference.processes import ALONE, Processes
from posekit.inference.runtime import Network
from posekit.metrics.nms import OKS_NMS_THRESHOLD


@dataclass(frozen=True)
class Evaluation:
    """A network's scores on a dataset.

    Attributes:
        result: COCO's numbers, :class:`posekit.metrics.KeypointResult`.
        mean_oks: over the people that were cropped by their true boxes; None with detected boxes.
        confusion: who of them took left for right, :class:`posekit.metrics.LeftRightConfusion`, in the order of
            ``people``; None with detected boxes.
        people: (N) the people that were cropped, in the order of ``predictions``; None with detected boxes.
        yaw: (N,) radians, where the dataset knows it (Mannequin), 0 facing the camera.
        detections: what was scored, after suppression of duplicates.
        predictions: what the network said, before it.
    """

    result: metrics.KeypointResult
    mean_oks: float | None
    confusion: metrics.LeftRightConfusion | None
    people: People | None = field(repr=False)
    yaw: np.ndarray | None = field(repr=False)
    detections: Detections = field(repr=False)
    predictions: Predictions = field(repr=False)

    @property
    def stats(self) -> np.ndarray:
        """(10,) COCO numbers in pycocotools' order."""
        return self.result.stats

    @property
    def ap(self) -> float:
        return self.result.ap

    def summary(self) -> dict[str, float]:
        """The numbers worth a log line, as shares of one."""
        numbers = dict(zip(metrics.STATS, map(float, self.stats)))
        if self.mean_oks is not None and self.confusion is not None:
            numbers |= {"mean_oks": self.mean_oks, "confusion": self.confusion.rate}
            if self.yaw is not None:
                by_view = self.confusion.by_view(self.yaw)
                numbers |= {f"confusion_{view}": share for view, share in by_view.items()}
        return numbers


def evaluate(
    model: Network,
    dataset: Any,
    *,
    boxes: Any = None,
    flip_test: bool = True,
    shift: Shift = "auto",
    device: str | torch.device = "auto",
    bf16: bool = False,
    compile: bool = False,
    batch_size: int = 64,
    workers: int = 0,
    nms: float | None = OKS_NMS_THRESHOLD,
    progress: bool | None = False,
    processes: Processes = ALONE,
) -> Evaluation:
    """Crop, predict with flip test, decode, go back to the picture, rescore, suppress duplicates, score.

    A person's score is the box's (1 for true boxes) times the mean confidence of the joints above 0.2. Duplicates are
    removed by OKS with the padded box's area for a scale, both as HRNet's test does.

    Args:
        model: a top-down network.
        dataset: with ``people``; people without labels, crowds and boxes without size are not cropped, but they count
            in the protocol as they should.
        boxes: :class:`posekit.data.Boxes` of a detector; None takes the true boxes.
        flip_test, shift, device, bf16, compile, progress: as of :func:`predict`.
        processes: that share the crops; the first one scores all predictions, and each gets the result.
        batch_size: crops a batch.
        workers: processes that cut crops.
        nms: OKS above which two predictions are one person; None keeps all.

    Raises:
        posekit.annotations.AnnotationError: nobody to crop, people without area, detections that do not fit.
    """
    from posekit.data.crops import CropLoader

    cropped = dataset if boxes is not None or not hasattr(dataset, "trainable") else dataset.trainable()
    if boxes is None and not len(cropped.people):
        raise AnnotationError(_nobody(dataset.people))
    loader = CropLoader(
        cropped,
        model.input_size,
        batch_size=batch_size,
        workers=workers,
        boxes=boxes,
        protocol=getattr(model.codec, "protocol", "hrnet"),
    )
    predictions = predict(
        model, loader, flip_test=flip_test, shift=shift, device=device, bf16=bf16, compile=compile,
        progress=progress, processes=processes,
    )  # fmt: skip
    rows, people = predictions.person, cropped.people
    if boxes is None:
        image_index, box_scores = people.image_index[rows], np.ones(len(rows))
    else:
        image_index, box_scores = boxes.image_index[rows], boxes.score[rows]
    image_ids = people.image_ids[image_index]
    detections = as_detections(predictions, image_ids, box_scores, source=getattr(model, "name", "") or "predictions")
    if nms is not None:
        detections = without_duplicates(detections, predictions.box, sigmas=people.skeleton.sigmas, threshold=nms)
    true = None if boxes is not None else people.select(rows)
    yaw = getattr(cropped, "yaw", None)
    return Evaluation(
        result=processes.once(lambda: metrics.evaluate_coco(dataset.people, detections)),
        mean_oks=None if true is None else float(metrics.person_oks(true, predictions.keypoints).mean()),
        confusion=None if true is None else _confusion(predictions, true),
        people=true,
        yaw=None if true is None or yaw is None else yaw[rows],
        detections=detections,
        predictions=predictions,
    )


def _nobody(people: People) -> str:
    N = len(people)
    whose = f"of {N} people in it nobody has a labelled keypoint and a box with size" if N else "nobody is in it"
    return f"{people.source}: {whose}; label people, or score another file"


def _confusion(predictions: Predictions, true: People) -> metrics.LeftRightConfusion:
    return metrics.lr_confusion(
        predictions.keypoints, true.keypoints, visibility=true.visibility, box=true.box, skeleton=true.skeleton
    )


def as_detections(
    predictions: Predictions, image_ids: np.ndarray, box_scores: np.ndarray, *, source: str = "predictions"
) -> Detections:
    """Predictions of crops as COCO detections, rescored: box score times mean confidence of the joints above 0.2."""
    return Detections(
        image_ids=image_ids,
        keypoints=predictions.keypoints,
        keypoint_scores=predictions.scores,
        scores=metrics.rescore(box_scores, predictions.scores),
        source=source,
    )


def without_duplicates(
    detections: Detections, box: np.ndarray, *, sigmas: Sequence[float], threshold: float = OKS_NMS_THRESHOLD
) -> Detections:
    """Detections of one picture that agree beyond an OKS of ``threshold`` are one person: the best-scored stays.

    Args:
        detections: D of them; the order of those that stay is kept.
        box: (D, 4) crops' boxes x, y, width, height in picture pixels, whose area is the scale, as HRNet's test has it.
        sigmas: (K,) of the skeleton.
    """
    kept = metrics.oks_nms(
        detections.keypoints,
        detections.scores,
        box[:, 2] * box[:, 3],
        sigmas=sigmas,
        image_ids=detections.image_ids,
        threshold=threshold,
    )
    return detections.select(np.sort(kept))


def score(
    model: Network,
    val: Any,
    *,
    flip_test: bool = True,
    device: str | torch.device = "auto",
    bf16: bool = False,
    workers: int = 0,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """One dictionary of numbers for a training log, whatever ``val`` is.

    Args:
        val: a dataset (:func:`evaluate` on true boxes), or a loader of crops in fixed order (:func:`crop_errors`); a
            loader without a skeleton has no flip test.
        workers: processes that cut crops when ``val`` is a dataset; a loader has its own.
        processes: as of :func:`evaluate`.
    """
    options: dict[str, Any] = {"device": device, "bf16": bf16, "processes": processes}
    if hasattr(val, "people"):
        return evaluate(model, val, flip_test=flip_test, workers=workers, **options).summary()
    can_flip = flip_test and hasattr(getattr(val, "dataset", val), "skeleton")
    predictions = predict(model, val, flip_test=can_flip, **options)
    return processes.once(lambda: crop_errors(predictions.crop_keypoints, val))


def crop_errors(keypoints: np.ndarray, loader: Any) -> dict[str, float]:
    """Mean and median distance to the labels in crop pixels, over labelled keypoints.

    Args:
        keypoints: (N, K, 2) crop pixels, in the loader's order.
        loader: gives the labels; iterated once more.
    """
    batches = list(loader)
    labels = np.concatenate([batch.keypoints.numpy(force=True) for batch in batches])
    labelled = np.concatenate([batch.visibility.numpy(force=True) for batch in batches]) > 0
    distance = np.linalg.norm(keypoints - labels, axis=-1)[labelled]
    if not distance.size:
        raise ValueError("the validation loader has no labelled keypoint: there is nothing to score")
    return {"mean_error_px": float(distance.mean()), "median_error_px": float(np.median(distance))}
