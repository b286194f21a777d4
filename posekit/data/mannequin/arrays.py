"""The renderer's array operations in two dialects: NumPy for a CPU, torch for a GPU (or any device).

The renderer is written once, in operators that both share and in the functions here. Single precision arithmetic is
exactly rounded in both, so they draw the same pictures on a CPU; NumPy's calls cost a fifth of torch's there, which
is what a picture of many small arrays is made of. Sums whose order or fused multiply-add shows in the last bit go
through torch's kernels in either dialect, on the same memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from posekit.data.images import cv2

Array = Any  # np.ndarray or torch.Tensor


class Runs:
    """Things that repeat: thing i makes ``counts[i]`` pieces, one after the other."""

    def __init__(self, xp: Numpy | Torch, counts: Array) -> None:
        self.xp = xp
        self.starts = xp.int32(xp.cumsum(counts) - counts)
        self.owner = xp.repeat(xp.int64(xp.arange(len(counts))), counts)

    def spread(self, columns: Array) -> Array:
        """(things,) or (C, things) -> (pieces,) or (C, pieces)."""
        return (self.xp.take if columns.ndim == 1 else self.xp.columns)(columns, self.owner)


class Numpy:
    """NumPy on a CPU."""

    alone = True  # one picture at a time stays in the caches
    floor: Any = staticmethod(np.floor)
    ceil: Any = staticmethod(np.ceil)
    minimum: Any = staticmethod(np.minimum)
    maximum: Any = staticmethod(np.maximum)
    cumsum: Any = staticmethod(np.cumsum)
    stack: Any = staticmethod(np.stack)
    where: Any = staticmethod(np.where)

    def sqrt(self, a: Array) -> Array:
        """In place; by torch, whose square root is not always the exactly rounded one."""
        torch.from_numpy(a).sqrt_()
        return a

    def put(self, a: np.ndarray | list[int], dtype: type = np.float32) -> Array:
        return np.ascontiguousarray(a, dtype=dtype)

    def host(self, a: Array) -> np.ndarray:
        return a

    def int32(self, a: Array) -> Array:
        return a.astype(np.int32)

    def int64(self, a: Array) -> Array:
        return a.astype(np.int64)

    def float32(self, a: Array) -> Array:
        return a.astype(np.float32)

    def uint8(self, a: Array) -> Array:
        return a.astype(np.uint8)

    def bits(self, a: Array) -> Array:
        """The bits of floats as int32."""
        return a.view(np.int32)

    def as_float(self, a: Array) -> Array:
        """int32 whose bits travel among floats."""
        return a.astype(np.int32).view(np.float32)

    def arange(self, n: int) -> Array:
        return np.arange(n, dtype=np.int32)

    def full(self, shape, value, dtype=np.float32) -> Array:
        return np.full(shape, value, dtype)

    def concat(self, parts, axis: int = -1) -> Array:
        return np.concatenate(parts, axis)

    def clip(self, a: Array, low: float | None, high: float | None = None) -> Array:
        """In place."""
        if low is not None:
            np.maximum(a, low, out=a)
        return a if high is None else np.minimum(a, high, out=a)

    def take(self, a: Array, index: Array) -> Array:
        """Along the last axis; indices are known to be in range."""
        return a.take(index, axis=-1, mode="clip")

    def columns(self, table: Array, index: Array) -> Array:
        """(C, N), (S,) -> (C, S); of many columns, whole rows at once, turned, come cheaper."""
        if len(table) < 8 or not len(index):  # OpenCV turns nothing into None
            return torch.from_numpy(table).index_select(1, torch.from_numpy(index)).numpy()
        turn: Any = cv2.transpose if cv2 is not None else _turned
        return turn(turn(table).take(index, axis=0, mode="clip"))

    def repeat(self, a: Array, counts) -> Array:
        return a.repeat(counts, axis=-1)

    def runs(self, counts: Array) -> Runs:
        return Runs(self, counts)

    def groups(self, a: Array) -> tuple[Array, Runs]:
        """Ascending (S,) -> its different values and how often each comes."""
        first = np.concatenate([[True], a[1:] != a[:-1]]).nonzero()[0] if len(a) else np.zeros(0, np.int64)
        return a[first], Runs(self, np.diff(first, append=len(a)))

    def nonzero(self, mask: Array) -> Array:
        return mask.nonzero()[0]

    def scatter(self, out: Array, index: Array, values: Array) -> None:
        torch.from_numpy(out).scatter_(0, torch.from_numpy(index), torch.from_numpy(values))

    def scatter_max(self, out: Array, index: Array, values: Array) -> None:
        torch.from_numpy(out).scatter_reduce_(0, torch.from_numpy(index), torch.from_numpy(values), "amax")

    def scatter_add(self, out: Array, index: Array, values: Array) -> None:
        torch.from_numpy(out).scatter_add_(0, torch.from_numpy(index), torch.from_numpy(values))

    def fused(self, a: Array, b: Array, c: Array) -> Array:
        """a += b * c."""
        torch.from_numpy(a).addcmul_(torch.from_numpy(b), torch.from_numpy(c))
        return a

    def mm(self, a: Array, b: Array) -> Array:
        return torch.mm(torch.from_numpy(a), torch.from_numpy(b)).numpy()

    def tensor(self, a: Array) -> torch.Tensor:
        return torch.from_numpy(a)

    def of_tensor(self, a: torch.Tensor) -> Array:
        return a.numpy()

    def interleave(self, planes: Array) -> np.ndarray:
        """(3, H, W) whole numbers 0 to 255 -> (H, W, 3) uint8."""
        small = planes.astype(np.uint8)
        return cv2.merge(small) if cv2 is not None else np.ascontiguousarray(small.transpose(1, 2, 0))


def _turned(table: Array) -> Array:
    return np.ascontiguousarray(table.T)


class Torch:
    """torch on a device; pictures go through in batches."""

    alone = False
    floor: Any = staticmethod(torch.floor)
    ceil: Any = staticmethod(torch.ceil)
    sqrt: Any = staticmethod(torch.sqrt_)
    minimum: Any = staticmethod(torch.minimum)
    maximum: Any = staticmethod(torch.maximum)
    stack: Any = staticmethod(torch.stack)
    where: Any = staticmethod(torch.where)

    def __init__(self, device: str) -> None:
        self.device = device

    def put(self, a: np.ndarray | list[int], dtype: type = np.float32) -> Array:
        return torch.as_tensor(np.ascontiguousarray(a, dtype=dtype), device=self.device)

    def host(self, a: Array) -> np.ndarray:
        return a.cpu().numpy()

    def int32(self, a: Array) -> Array:
        return a.int()

    def int64(self, a: Array) -> Array:
        return a.long()

    def float32(self, a: Array) -> Array:
        return a.float()

    def uint8(self, a: Array) -> Array:
        return a.to(torch.uint8)

    def bits(self, a: Array) -> Array:
        return a.view(torch.int32)

    def as_float(self, a: Array) -> Array:
        return a.int().view(torch.float32)

    def arange(self, n: int) -> Array:
        return torch.arange(n, dtype=torch.int32, device=self.device)

    def full(self, shape, value, dtype=np.float32) -> Array:
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.full(shape if isinstance(shape, tuple) else (shape,), value, dtype=kind, device=self.device)

    def concat(self, parts, axis: int = -1) -> Array:
        return torch.cat(list(parts), axis)

    def cumsum(self, a: Array) -> Array:
        return torch.cumsum(a, 0)

    def clip(self, a: Array, low: float | None, high: float | None = None) -> Array:
        return a.clamp_(low, high)

    def take(self, a: Array, index: Array) -> Array:
        return a.index_select(a.dim() - 1, index)

    def columns(self, table: Array, index: Array) -> Array:
        return table.index_select(1, index)

    def repeat(self, a: Array, counts) -> Array:
        return torch.repeat_interleave(a, counts, dim=a.dim() - 1)

    def runs(self, counts: Array) -> Runs:
        return Runs(self, counts)

    def groups(self, a: Array) -> tuple[Array, Runs]:
        values, counts = torch.unique_consecutive(a, return_counts=True)
        return values, Runs(self, counts)

    def nonzero(self, mask: Array) -> Array:
        return mask.nonzero()[:, 0]

    def scatter(self, out: Array, index: Array, values: Array) -> None:
        out.scatter_(0, index, values)

    def scatter_max(self, out: Array, index: Array, values: Array) -> None:
        out.scatter_reduce_(0, index, values, "amax")

    def scatter_add(self, out: Array, index: Array, values: Array) -> None:
        out.scatter_add_(0, index, values)

    def fused(self, a: Array, b: Array, c: Array) -> Array:
        return a.addcmul_(b, c)

    def mm(self, a: Array, b: Array) -> Array:
        return torch.mm(a, b)

    def tensor(self, a: Array) -> torch.Tensor:
        return a

    def of_tensor(self, a: torch.Tensor) -> Array:
        return a

    def interleave(self, planes: Array) -> np.ndarray:
        return planes.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


Arrays = Numpy | Torch


@lru_cache(maxsize=8)
def arrays(device: str) -> Arrays:
    """The dialect for a device; "torch:cpu" is torch's on a CPU, there to be compared with."""
    return Numpy() if device == "cpu" else Torch(device.removeprefix("torch:"))
