"""Torch files from elsewhere, read without running anything.

A torch file is pickles and numbers. Before any is read, :func:`names_in` walks through its pickles as a machine that
builds nothing, and turns away what no checkpoint needs: other instructions than torch's own reader knows, archives that
unpack to far more than they are, and nested tuples that would take forever to hash. Then torch's reader of tensors
(``weights_only``) does the work. It fills plain dicts and lists alone and stops at their subclasses, which some
toolboxes keep in their metadata; for those files, pickle's machine in Python, cut down to the same instructions,
answers every name from a short list: what rebuilds tensors, and an inert class for all the rest.
"""

from __future__ import annotations

import pickle
import pickletools
import types
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import torch

ATOMS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
ATOMS |= {"BINUNICODE", "SHORT_BINSTRING"}
CONTAINERS = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
CONSUMED = {"APPEND": 1, "BUILD": 1, "SETITEM": 2}  # how many items each takes from the stack
FILLING = {"APPENDS", "SETITEMS"}
STORING = {"BINPUT", "LONG_BINPUT"}
FETCHING = {"BINGET", "LONG_BINGET"}
CALLING = {"REDUCE", "NEWOBJ"}
INSTRUCTIONS = {"PROTO", "STOP", "MARK", "TUPLE", "GLOBAL", "BINPERSID"}.union(
    ATOMS, CONTAINERS, TUPLES, CONSUMED, FILLING, STORING, FETCHING, CALLING
)
CODES = {ord(op.code) for op in pickletools.opcodes if op.name in INSTRUCTIONS}
MAKERS = (
    "collections OrderedDict",
    "collections Counter",
    "collections defaultdict",
    "__builtin__ set",
    "builtins set",
)

LARGEST_TUPLE, DEEPEST_TUPLE = 10_000, 100  # items, nested ones counted wherever they appear
LARGEST_GROWTH = 10  # an archive's contents over its size; torch's own are not compressed at all


class Item(NamedTuple):
    """What the machine of :func:`walk` knows of a value: "name", "maker", "container", "tuple" or "other"."""

    kind: str
    size: int = 1
    depth: int = 0


def names_in(path: Path) -> set[tuple[str, str]]:
    """The (module, name) of everything that the pickles of a torch file ask for.

    Raises:
        pickle.UnpicklingError, and what damaged files raise: it is no torch file, or one that no checkpoint looks like.
    """
    names: set[str] = set()
    for stream, count in _pickles(path):
        with stream:
            for _ in range(count):
                names |= walk(stream)
    return {(module, name) for module, _, name in (pair.partition(" ") for pair in names)}


def _pickles(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Streams and how many pickles lie at their beginning."""
    if not zipfile.is_zipfile(path):
        yield path.open("rb"), 5  # torch's format before 2020: magic number, version, machine, object, storages' keys
        return
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > LARGEST_GROWTH * path.stat().st_size:
            raise pickle.UnpicklingError("an archive that unpacks to far more than its own size")
        for info in archive.infolist():
            if info.filename.endswith("data.pkl"):
                yield archive.open(info), 1


def walk(stream: IO[bytes]) -> set[str]:
    """The names that one pickle asks for, as "module name".

    Raises:
        pickle.UnpicklingError: an instruction that torch's reader does not know, tuples nested without measure (their
            hash visits every path through them), or a container in the place of a function (whose text does).
    """
    names: set[str] = set()
    memo: dict[Any, Item] = {}
    marks: list[list[Item]] = []
    stack: list[Item] = []
    for op, arg, _ in pickletools.genops(stream):
        if op.name not in INSTRUCTIONS:
            raise pickle.UnpicklingError(f"the instruction {op.name}")
        if op.name in ATOMS:
            stack.append(Item("other"))
        elif op.name in CONTAINERS:
            stack.append(Item("container"))
        elif op.name in TUPLES:
            count = TUPLES[op.name]
            parts = [stack.pop() for _ in range(count)]
            stack.append(_tuple(parts))
        elif op.name in STORING:
            memo[arg] = stack[-1]
        elif op.name in FETCHING:
            stack.append(memo[arg])
        elif op.name == "GLOBAL":
            names.add(str(arg))
            stack.append(Item("maker" if arg in MAKERS else "name"))
        elif op.name in CALLING:
            stack.pop()
            function = stack.pop()
            if function.kind in ("container", "tuple"):
                raise pickle.UnpicklingError(f"a call of a {function.kind}")
            stack.append(Item("container" if function.kind == "maker" else "other"))
        elif op.name == "BINPERSID":
            stack[-1] = Item("other")
        elif op.name == "MARK":
            marks.append(stack)
            stack = []
        elif op.name == "TUPLE":
            parts, stack = stack, marks.pop()
            stack.append(_tuple(parts))
        elif op.name in FILLING:
            stack = marks.pop()
        else:
            for _ in range(CONSUMED.get(op.name, 0)):
                stack.pop()
    return names


def _tuple(parts: Sequence[Item]) -> Item:
    size, depth = 1 + sum(part.size for part in parts), 1 + max((part.depth for part in parts), default=0)
    if size > LARGEST_TUPLE or depth > DEEPEST_TUPLE:
        raise pickle.UnpicklingError("tuples nested without measure")
    return Item("tuple", size, depth)


MACHINE: Any = pickle._Unpickler  # type: ignore[attr-defined]


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


class Reader(MACHINE):
    """Pickle's machine with a closed list of names and instructions.

    The one in Python: that in C gives a file's memo as much memory as its largest number says.
    """

    dispatch: ClassVar = {code: load for code, load in MACHINE.dispatch.items() if code in CODES}

    def load_binpersid(self) -> None:
        """A storage by its key, and nothing else."""
        pid = self.stack[-1]
        if not (type(pid) is tuple and pid and pid[0] == "storage"):
            raise pickle.UnpicklingError("a persistent id that is no storage")
        super().load_binpersid()

    dispatch[pickle.BINPERSID[0]] = load_binpersid

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
    torch.serialization.get_unsafe_globals_in_checkpoint(str(path))  # refuses programs
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_reader_module())


def _reader_module() -> types.ModuleType:
    module = types.ModuleType("posekit.models.containers.reader")
    module.Unpickler = Reader  # type: ignore[attr-defined]
    return module
