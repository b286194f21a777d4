"""Person crops: decode once per picture, one affine per person, uint8 out.

Nothing else happens here. Normalisation, targets and everything that depends on the network run on the batch, on the
device, so that changing a codec never touches the loader.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from posekit import geometry
from posekit.annotations import People
from posekit.data.augmentation import Augmentation
from posekit.data.coco import Boxes, check_boxes
from posekit.data.images import ImageError, cv2, read_image, warp
from posekit.geometry import BOX_PADDING
from posekit.skeletons import Skeleton

CACHE_BYTES = 1 << 30  # decoded pictures kept by cache_images, all workers together


class Dataset(Protocol):
    """What the loader asks of a dataset."""

    people: People
    name: str

    @property
    def skeleton(self) -> Skeleton: ...

    def image_path(self, image_index: int) -> Path: ...


@dataclass(frozen=True, eq=False)
class CropBatch:
    """B person crops and how they were cut.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, channels_last in memory; :func:`posekit.data.normalise` makes them floats.
        keypoints: (B, K, 2) float32 crop pixels; left and right already exchanged in mirrored crops. Zeros when the
            loader crops detected boxes.
        visibility: (B, K) uint8; 0 is unlabelled. A labelled keypoint may lie outside the crop.
        affine: (B, 2, 3) float64, picture pixels -> crop pixels, the mirror included.
        person: (B,) int64 rows of ``dataset.people``, or of ``loader.boxes`` when boxes were given.
        box: (B, 4) float64 xywh, the region cut (aspect ratio and padding included, rotation not), picture pixels.
        flip: (B,) bool, mirrored crops.
    """

    images: torch.Tensor
    keypoints: torch.Tensor
    visibility: torch.Tensor
    affine: torch.Tensor
    person: torch.Tensor
    box: torch.Tensor
    flip: torch.Tensor

    def __len__(self) -> int:
        return len(self.person)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> CropBatch:
        return CropBatch(*(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)))

    def pin_memory(self) -> CropBatch:
        return CropBatch(*(getattr(self, f.name).pin_memory() for f in fields(self)))


@dataclass(frozen=True)
class _Order:
    """One batch to cut. The rows travel with the order, so that a worker holds no permutation of its own."""

    epoch: int
    batch: int
    rows: np.ndarray


class CropLoader:
    """Batches of person crops, the same for any number of workers.

    The crops of a batch depend on ``seed``, the epoch and the batch's place in it, and on nothing else. Without
    ``shuffle`` the people of a picture follow each other and the picture is decoded once; ``batch.person`` says whose
    crop is where.

    Args:
        dataset: anything with ``people``, ``image_path(image_index)``, ``name`` and ``skeleton``. All its people are
            cropped; ``dataset.trainable()`` leaves out those without keypoints or size.
        input_size: (height, width) of a crop.
        batch_size: people per batch.
        augmentation: None cuts the annotated boxes.
        shuffle: a new order of the people in every epoch.
        seed: of the order and the augmentation.
        workers: processes that cut ahead; 0 cuts in this one.
        padding: enlargement of boxes, 1.25 in the papers.
        protocol: "hrnet" or "udp", see :mod:`posekit.geometry`.
        boxes: detected boxes to crop instead of the annotated ones (:func:`posekit.data.read_boxes`).
        cache_images: keep decoded pictures while they fit into ``cache_bytes``; each worker keeps its own share.
        cache_bytes: see above.
        drop_last: leave out a last batch that is not full.
        share: (r, n) cuts only the r-th of n nearly equal parts of every batch, for n processes that train together:
            the parts are the whole batch, augmentation included, that one process would cut.

    Raises:
        ValueError: sizes or counts that make no sense; augmentation together with boxes.
        posekit.annotations.AnnotationError: a box without size.
        posekit.data.ImageError: while iterating, a picture that cannot be read.
    """

    def __init__(
        self,
        dataset: Dataset,
        input_size: tuple[int, int],
        *,
        batch_size: int,
        augmentation: Augmentation | None = None,
        shuffle: bool = False,
        seed: int = 0,
        workers: int = 0,
        padding: float = BOX_PADDING,
        protocol: geometry.Protocol = "hrnet",
        boxes: Boxes | None = None,
        cache_images: bool = False,
        cache_bytes: int = CACHE_BYTES,
        drop_last: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if not 0 < padding < math.inf or len(input_size) != 2:
            raise ValueError(
                f"crop loader: padding {padding} and input_size {tuple(input_size)}; a padding is a positive factor, "
                "such as 1.25, and a size is (height, width)"
            )
        if batch_size < 1 or min(input_size) < 2 or workers < 0 or seed < 0:
            raise ValueError(
                f"crop loader: batch_size {batch_size}, input_size {tuple(input_size)}, workers {workers} and seed "
                f"{seed} must be positive (input sides at least 2)"
            )
        if not 0 <= share[0] < share[1]:
            raise ValueError(f"crop loader: share {share} is no part of a whole; (0, 2) is the first of two halves")
        if boxes is not None and augmentation is not None:
            raise ValueError("crop loader: detected boxes carry no keypoints; augment annotated people instead")
        people = dataset.people
        if boxes is None:
            check_boxes(people.box, people.source, "annotation", people.ids)
        self.dataset = dataset
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.batch_size = batch_size
        self.boxes = boxes
        self.shuffle = shuffle
        self.seed = seed
        self.workers = workers
        self.drop_last = drop_last
        self._image_index = people.image_index if boxes is None else boxes.image_index
        budget = cache_bytes // max(workers, 1) if cache_images else 0
        self._cutter = _Cutter(dataset, self.input_size, seed, augmentation, padding, protocol, boxes, budget, share)
        self._pool: Any = None
        self._epoch = 0
        self._next_batch = 0

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        whole, rest = divmod(len(self._image_index), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def num_people(self) -> int:
        """Crops in a whole epoch."""
        N = len(self._image_index)
        return N - N % self.batch_size if self.drop_last else N

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next iteration, and start it at its first batch."""
        self._epoch, self._next_batch = int(epoch), 0

    def state(self) -> dict[str, int]:
        """Where the iteration stands: the epoch, and the number of its batches handed out."""
        return {"epoch": self._epoch, "batch": self._next_batch}

    def resume(self, state: dict[str, int]) -> None:
        """Let the next iteration go on where :meth:`state` was taken."""
        self._epoch, self._next_batch = int(state["epoch"]), int(state["batch"])

    def __iter__(self) -> Iterator[CropBatch]:
        for batch in self._cut(self._orders()):
            self._next_batch += 1
            yield batch
        self._next_batch = 0

    def every(self, first: int, step: int) -> Iterator[CropBatch]:
        """Every ``step``-th batch from the one numbered ``first``: the share of one of ``step`` processes."""
        yield from self._cut(self._orders()[first::step])

    def _cut(self, orders: list[_Order]) -> Iterator[CropBatch]:
        cut: Any = map(self._cutter, orders) if self.workers == 0 else self._cut_ahead(orders)
        for batch in cut:
            if isinstance(batch, ImageError):
                # The workers end here. Held by the traceback, they would end in the garbage collector, which
                # breaks their queues first and then waits for them for five seconds.
                self._pool = cut = None
                raise batch
            yield batch

    def _orders(self) -> list[_Order]:
        N = len(self._image_index)
        if self.shuffle:
            rows = np.random.default_rng((self.seed, self._epoch)).permutation(N)
        else:
            rows = np.argsort(self._image_index, kind="stable")
        B = self.batch_size
        return [_Order(self._epoch, b, rows[b * B : (b + 1) * B]) for b in range(self._next_batch, len(self))]

    def _cut_ahead(self, orders: list[_Order]) -> Iterator[CropBatch | ImageError]:
        if self._pool is None:
            from torch.utils.data import DataLoader

            self._sampler: list[_Order] = []
            self._pool = DataLoader(
                self._cutter,
                batch_size=None,
                sampler=self._sampler,
                num_workers=self.workers,
                collate_fn=_unchanged,
                worker_init_fn=_start_worker,
                persistent_workers=True,
                # Of its own, so that iterating takes nothing from torch's global generator.
                generator=torch.Generator().manual_seed(self.seed),
            )
        self._sampler[:] = orders
        return iter(self._pool)


def _unchanged(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    # A full garbage collection writes to every Python object, and so copies what the worker shares with its parent.
    gc.freeze()
    if cv2 is not None:
        cv2.setNumThreads(0)


class _Cutter(torch.utils.data.Dataset):
    """Cuts one batch; the part of the loader that runs in workers."""

    def __init__(
        self,
        dataset: Dataset,
        size: tuple[int, int],
        seed: int,
        augmentation: Augmentation | None,
        padding: float,
        protocol: geometry.Protocol,
        boxes: Boxes | None,
        cache_bytes: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.share = share
        self.dataset, self.size, self.seed = dataset, size, seed
        self.image_file = getattr(dataset, "image_file", dataset.image_path)
        self.augmentation, self.padding, self.protocol, self.boxes = augmentation, padding, protocol, boxes
        self.cache: dict[int, np.ndarray] = {}
        self.cache_left = cache_bytes
        self.last: tuple[int, np.ndarray] | None = None

    def __getitem__(self, order: _Order) -> CropBatch | ImageError:
        try:
            return self(order)
        except ImageError as error:
            return error  # raised again in the main process: torch would wrap its one sentence in a traceback

    def __call__(self, order: _Order) -> CropBatch:
        people, rows = self.dataset.people, order.rows
        if self.boxes is None:
            image_index, box = people.image_index[rows], people.box[rows]
            keypoints, visibility = people.keypoints[rows], people.visibility[rows]
        else:
            image_index, box = self.boxes.image_index[rows], self.boxes.box[rows]
            K = people.skeleton.num_keypoints
            keypoints, visibility = np.zeros((len(rows), K, 2)), np.zeros((len(rows), K), np.uint8)
        rotation, flip = np.zeros(len(rows)), np.zeros(len(rows), bool)
        if self.augmentation is None:
            region = geometry.crop_box(box, self.size, padding=self.padding)
        else:
            view = self.augmentation.draw(
                keypoints,
                visibility,
                box,
                size=self.size,
                skeleton=people.skeleton,
                rng=np.random.default_rng((self.seed, order.epoch, 1 + order.batch)),
                padding=self.padding,
            )
            region, rotation, flip = view.box, view.rotation, view.flip
        part, parts = self.share
        mine = slice(len(rows) * part // parts, len(rows) * (part + 1) // parts)
        rows, image_index, keypoints, visibility = rows[mine], image_index[mine], keypoints[mine], visibility[mine]
        region, rotation, flip = region[mine], rotation[mine], flip[mine]
        affine = geometry.crop_affine(region, self.size, rotation=rotation, flip=flip, protocol=self.protocol)
        if self.boxes is None:
            keypoints = geometry.transform_points(affine, keypoints)
            flip_index = people.skeleton.flip_index
            keypoints[flip], visibility[flip] = keypoints[flip][:, flip_index], visibility[flip][:, flip_index]
        return CropBatch(
            images=self._cut(image_index, affine),
            keypoints=torch.from_numpy(keypoints.astype(np.float32)),
            visibility=torch.from_numpy(visibility),
            affine=torch.from_numpy(affine),
            person=torch.from_numpy(rows.astype(np.int64)),
            box=torch.from_numpy(region),
            flip=torch.from_numpy(flip),
        )

    def _cut(self, image_index: np.ndarray, affine: np.ndarray) -> torch.Tensor:
        """(B, 3, H, W) uint8 crops, channels_last in memory."""
        images = np.empty((len(affine), *self.size, 3), np.uint8)
        for crop, matrix, index in zip(images, affine, image_index.tolist()):
            warp(self._picture(index), matrix, crop)
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _picture(self, index: int) -> np.ndarray:
        if self.last is not None and self.last[0] == index:
            return self.last[1]
        picture = self.cache.get(index)
        if picture is None:
            image_id = int(self.dataset.people.image_ids[index])
            picture = read_image(self.image_file(index), image_id=image_id)
            # Pictures stay until the end and none is evicted: an epoch visits each once, so that any other rule
            # would only throw out what is needed sooner.
            if picture.nbytes <= self.cache_left:
                self.cache[index] = picture
                self.cache_left -= picture.nbytes
        self.last = (index, picture)
        return picture
