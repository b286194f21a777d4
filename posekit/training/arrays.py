"""Training straight from memory: the smallest loader that :func:`posekit.training.fit` accepts.

A loader is anything with ``len`` (batches an epoch), ``resume({"epoch": n, "batch": m})`` and iteration over batches
that carry ``images``, ``keypoints`` and ``visibility``. An epoch's batches must follow from its number alone; that is
what lets a killed run go on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch


class Batch(Protocol):
    """What training reads of a batch; :class:`posekit.data.CropBatch` has it and more."""

    images: torch.Tensor  # (B, 3, H, W) uint8, or (B, C, H, W) float that the network takes as it is
    keypoints: torch.Tensor  # (B, K, 2) float32, pixels of the image, x then y
    visibility: torch.Tensor  # (B, K) uint8, 0 where there is no label


class Loader(Protocol):
    """What training asks of a loader."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def resume(self, state: dict[str, int]) -> None:
        """The next iteration is that of epoch ``state["epoch"]``, from its batch ``state["batch"]`` on."""


class ArrayBatch(NamedTuple):
    """One batch of an :class:`ArrayLoader`; the image is its own crop, so ``affine`` is the identity."""

    images: torch.Tensor  # (B, C, H, W) as given
    keypoints: torch.Tensor  # (B, K, 2) float32
    visibility: torch.Tensor  # (B, K) uint8
    affine: torch.Tensor  # (B, 2, 3) float64
    person: torch.Tensor  # (B,) int64, index into the arrays
    box: torch.Tensor  # (B, 4) float64 xywh, the whole image


class ArrayLoader:
    """Batches from arrays in memory (or on a GPU: batches stay on the images' device).

    Args:
        images: (N, 3, H, W) uint8, or (N, C, H, W) float that the network takes as it is.
        keypoints: (N, K, 2) pixels of the images, x then y.
        visibility: (N, K), 0 where there is no label; None: everything is labelled.
        batch_size: images a batch.
        seed: of the order; epoch n is shuffled by (seed, n).
        shuffle: False keeps the order and the last short batch, as evaluation needs.

    Raises:
        ValueError: lengths that differ, or fewer images than one batch when shuffling.
    """

    def __init__(
        self,
        images: torch.Tensor | np.ndarray,
        keypoints: torch.Tensor | np.ndarray,
        visibility: torch.Tensor | np.ndarray | None = None,
        *,
        batch_size: int = 32,
        seed: int = 0,
        shuffle: bool = True,
    ):
        self.images = torch.as_tensor(images)
        device = self.images.device
        self.keypoints = torch.as_tensor(keypoints, dtype=torch.float32, device=device)
        if visibility is None:
            visibility = torch.full(self.keypoints.shape[:2], 2)
        self.visibility = torch.as_tensor(visibility, dtype=torch.uint8, device=device)
        if not len(self.images) == len(self.keypoints) == len(self.visibility):
            raise ValueError(
                f"{len(self.images)} images, {len(self.keypoints)} keypoints and {len(self.visibility)} visibility "
                "rows: the arrays must be equally long"
            )
        if shuffle and len(self.images) < batch_size:
            raise ValueError(f"{len(self.images)} images do not fill one batch of {batch_size}; use a smaller one")
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self._epoch = self._first = 0

    @classmethod
    def of(cls, loader: Loader, *, batch_size: int = 32, seed: int = 0, shuffle: bool = True) -> ArrayLoader:
        """Keep one pass of another loader (crops of a dataset, say) in memory."""
        batches = list(loader)
        parts = [torch.cat([getattr(batch, key) for batch in batches]) for key in ("images", "keypoints", "visibility")]
        return cls(*parts, batch_size=batch_size, seed=seed, shuffle=shuffle)

    def resume(self, state: dict[str, int]) -> None:
        self._epoch, self._first = state["epoch"], state["batch"]

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole if self.shuffle else whole + bool(rest)

    def __iter__(self) -> Iterator[ArrayBatch]:
        count, device = len(self.images), self.images.device
        order = torch.arange(count)
        if self.shuffle:
            order = torch.as_tensor(np.random.default_rng([self.seed, self._epoch]).permutation(count))
        height, width = self.images.shape[-2:]
        batches = order.split(self.batch_size)[self._first : len(self)]
        self._first = 0
        for index in batches:
            where = index.to(device)
            yield ArrayBatch(
                images=self.images[where],
                keypoints=self.keypoints[where],
                visibility=self.visibility[where],
                affine=torch.eye(2, 3, dtype=torch.float64).expand(len(index), 2, 3),
                person=index,
                box=torch.tensor([0.0, 0.0, width, height], dtype=torch.float64).expand(len(index), 4),
            )
