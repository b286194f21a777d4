"""Torch files whose metadata holds subclasses of dict and list, or deques, read without running anything.

torch's own reader of tensors (``weights_only``) fills plain dicts and lists alone and stops at their subclasses. Here
pickle's machine reads them, and every name that a file asks for is answered from a short list: what rebuilds tensors,
and an inert class for all the rest.
"""

from __future__ import annotations

import pickle
import types
from pathlib import Path
from typing import Any

import torch


class Inert:
    """Stands in for every class and function that is not known: it takes anything and does nothing."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass


class Entries(dict):  # type: ignore[type-arg]
    """Stands in for an OrderedDict: keeps its entries and no attributes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class Rebuild:
    """One of torch's functions that put a tensor together; a file can call it and not change it."""

    __slots__ = ("_name",)

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *args: Any) -> Any:
        if self._name == "_rebuild_parameter":
            return args[0]
        storage, offset, size, stride = args[:4]
        return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, None)

    def __setstate__(self, state: Any) -> None:
        pass


class Reader(pickle.Unpickler):
    """Pickle's machine with a closed list of names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return Entries
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return Rebuild(name)
        return Inert


def read_zip(path: Path) -> Any:
    """The contents of a torch file in the zip format, foreign objects as :class:`Inert`.

    Raises:
        ValueError: a TorchScript archive, which holds a program.
    """
    torch.serialization.get_unsafe_globals_in_checkpoint(str(path))  # refuses programs and unusual pickles
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_reader_module())


def _reader_module() -> types.ModuleType:
    module = types.ModuleType("posekit.models.containers.reader")
    module.Unpickler = Reader  # type: ignore[attr-defined]
    return module
