"""Weights from files: our own, and the checkpoints that the papers' authors and toolboxes published.

Networks here keep the published parameter names below ``backbone.`` and ``head.``, so reading a foreign file is a
matter of finding its state dict and putting each name under the right one of the two. Files never run code: torch
reads tensors alone (``weights_only``), and every other class that a pickle names becomes an inert stand-in; what torch
will not fill, subclasses of dict and list, goes through :mod:`posekit.models.containers`, which runs nothing either.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import struct
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from posekit.models.base import ModelError, PoseModel
from posekit.models.containers import Inert, names_in, read_zip
from posekit.models.dpn import DilatedHRNet
from posekit.models.hrnet import ExchangeUnit, HighResolutionNet
from posekit.models.own_files import adopt_codec, read_safetensors
from posekit.models.psa import PolarizedSelfAttention
from posekit.models.transpose import TransPoseNet

WRAPPERS = ("state_dict", "best_state_dict", "model", "model_state_dict")
DAMAGE = (  # what reading a file that was cut short, or that is something else, may raise
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    OverflowError,
    MemoryError,
)
RECOMPUTABLE = re.compile(r"(^|\.)(num_batches_tracked|relative_position_index|pos_embedding|linspace_[xy])$")
CLASSIFIER = re.compile(r"^(fc|classifier|incre_modules|downsamp_modules|final_layer\.\d+)\.")  # of ImageNet files


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's entries.

    Attributes:
        source: the file's name.
        matched: our names that were filled.
        ignored: the file's names that have no place here (ImageNet classifiers, exchange paths that nobody reads).
        missing: our names that the file does not hold: recomputable, read by nobody, or, for a file that holds a
            backbone alone, of the head and of what the network adds to that backbone.
        backbone_only: True where the file was an ImageNet one.
        unread: those of ``missing`` that keep their first values and change no prediction, as no head reads them.
    """

    source: str
    matched: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]
    backbone_only: bool = False
    unread: tuple[str, ...] = ()

    def __str__(self) -> str:
        part = "backbone only, " if self.backbone_only else ""
        counts = f"{len(self.matched)} matched, {len(self.ignored)} ignored, {len(self.missing)} missing"
        unread = f" ({len(self.unread)} of them read by nobody)" if self.unread else ""
        return f"{self.source}: {part}{counts}{unread}"


def load_weights(model: PoseModel, source: str | Path | Mapping[str, Any]) -> LoadReport:
    """Fill a network from a file or a state dict.

    Reads our own safetensors; official HRNet, SimpleBaseline, TransPose and HRFormer files; mmpose 0.x and 1.x and
    SRPose files; ImageNet HRNet and ResNet files, for the backbone alone. A ``module.`` prefix and wrapping under
    ``state_dict`` or ``best_state_dict`` are understood. Buffers that follow from the configuration (batch counts,
    position indices and sine embeddings) may be absent, and so may exchange paths whose outputs no head reads.

    Args:
        source: a path, or a mapping from names to tensors.

    Raises:
        ModelError: the file cannot be read without running code from it, or an entry does not fit the network; then
            the network is left as it was.
    """
    if isinstance(source, Mapping):
        name, entries = "state dict", source
    else:
        name, entries = Path(source).name, read_checkpoint(source)
    state = unwrap(entries, name)
    report = fill(model, state, name)
    if not isinstance(source, Mapping):
        adopt_codec(model, source)
    return report


def fill(model: PoseModel, state: dict[str, Tensor], source: str) -> LoadReport:
    """Match names, check shapes, and only then copy."""
    ours = model.state_dict()
    renamed = {key: our_name(key, ours) for key in state}
    filled = {name for name in renamed.values() if name is not None}
    heads = [name for name in ours if name.startswith("head.")]
    backbone_only = bool(heads) and filled.isdisjoint(heads)
    ignored = [key for key, name in renamed.items() if name is None]
    matched: dict[str, Tensor] = {}
    wrong_shape, unusual = [], []
    for key, name in renamed.items():
        if name is None:
            continue
        if (kind := _unusual(state[key], ours[name])) is not None:
            unusual.append(f"{_shown(key)} is {kind}")
        elif state[key].shape == ours[name].shape:
            matched[name] = state[key]
        elif RECOMPUTABLE.search(name):
            ignored.append(key)
        else:
            wrong_shape.append(f"{_shown(key)} is {_shape(state[key])} there and {_shape(ours[name])} here")
    missing = [name for name in ours if name not in matched]
    unread = tuple(name for name in missing if name.startswith(unread_paths(model)))
    spare = (("head.", *own_parts(model, filled)) if backbone_only else ()) + unread
    needed = [n for n in missing if n not in filled and not RECOMPUTABLE.search(n) and not n.startswith(spare)]
    strangers = [key for key in ignored if not _may_be_left(key, backbone_only, ours)]
    _refuse(model, source, unusual, wrong_shape, needed, strangers)
    with torch.no_grad():
        for name, value in matched.items():
            ours[name].copy_(value)
    return LoadReport(source, tuple(matched), tuple(ignored), tuple(missing), backbone_only, unread)


def unread_paths(model: PoseModel) -> tuple[str, ...]:
    """Prefixes of the last exchange paths whose outputs the head does not read.

    HRFormer's published files hold them or not, by whether the last module was told to compute all outputs.
    """
    index, trunk = getattr(model.head, "index", None), model.backbone
    if index is None or not isinstance(trunk, HighResolutionNet):
        return ()
    stage = f"stage{trunk.stages[-1]}"
    modules = cast(nn.Sequential, trunk.get_submodule(stage))
    last = f"backbone.{stage}.{len(modules) - 1}.fuse_layers"
    outputs = cast(ExchangeUnit, modules[-1].fuse_layers).outputs
    return tuple(f"{last}.{branch}." for branch in outputs if branch != outputs[index])


def own_parts(model: PoseModel, filled: set[str]) -> tuple[str, ...]:
    """Prefixes of what a backbone has beyond the network that ImageNet files hold, unless the file fills any of it."""
    parts: tuple[str, ...] = ()
    if isinstance(model.backbone, DilatedHRNet):
        parts = ("backbone.conv2.", "backbone.bridge.", "backbone.dpm.")
    elif isinstance(model.backbone, TransPoseNet):
        parts = ("backbone.reduce.", "backbone.global_encoder.")
    gates = (name for name, part in model.named_modules() if isinstance(part, PolarizedSelfAttention))
    parts += tuple(f"{name}." for name in gates)
    return () if any(name.startswith(parts) for name in filled) else parts


def our_name(key: str, ours: Mapping[str, Any]) -> str | None:
    """The name here of a foreign entry, or None where it has no place."""
    if key.startswith("module."):
        key = key.removeprefix("module.")
    key = re.sub(r"^keypoint_head\.", "head.", key)
    key = re.sub(r"^head\.(simplebaseline_head|deconv_head)\.", "head.", key)  # mmpose 1.x, inside other heads
    key = re.sub(r"^resnet\.", "backbone.", key)  # CPN
    if key in ours:
        return key
    trunks = ("backbone", "backbone.hrnet")  # the second in DPN on HRNet
    parts = trunks if CLASSIFIER.match(key) and "final_layer" not in key else (*trunks, "head")
    return next((f"{part}.{key}" for part in parts if f"{part}.{key}" in ours), None)


def _may_be_left(key: str, backbone_only: bool, ours: Mapping[str, Any]) -> bool:
    key = key.removeprefix("module.").removeprefix("backbone.")
    if RECOMPUTABLE.search(key):
        return True
    if re.search(r"(^|\.)(stage4\.\d+\.fuse_layers\.[123]|skip_layer)\.", key):
        return True  # exchange paths to branches that the head does not read; Hourglass shortcuts of unchanged width
    if not backbone_only:
        return False
    part = re.match(r"stage\d+\.\d+\.fuse_layers\.\d+\.|layer\d+\.", key)
    if part:  # exchange units and stages that this network does without
        return not any(name.startswith((f"backbone.{part[0]}", f"backbone.hrnet.{part[0]}")) for name in ours)
    return CLASSIFIER.match(key) is not None


def _unusual(theirs: Tensor, ours: Tensor) -> str | None:
    """What keeps an entry's numbers from being copied, if anything does."""
    if theirs.is_nested or theirs.layout != torch.strided:
        return "sparse or nested"
    if theirs.is_quantized or theirs.is_complex():
        return "quantized or complex"
    return "without numbers" if theirs.is_meta and not ours.is_meta else None


def _refuse(
    model: PoseModel,
    source: str,
    unusual: list[str],
    wrong_shape: list[str],
    needed: list[str],
    strangers: list[str],
) -> None:
    reasons = []
    if unusual:
        reasons.append(_first(unusual, "is no plain tensor", "are no plain tensors"))
    if wrong_shape:
        reasons.append(_first(wrong_shape, "has another shape", "have another shape"))
    if needed:
        reasons.append(_first(needed, "is missing from the file", "are missing from the file"))
    if strangers:
        reasons.append(
            _first([_shown(key) for key in strangers], "has no place in the network", "have no place in the network")
        )
    if reasons:
        raise ModelError(f"{source} does not fit {model.name or 'the network'}: {'; '.join(reasons)}")


def _shown(name: str) -> str:
    """A name from a file, on one line and not without end."""
    line = name if name.isprintable() else ascii(name)[1:-1]
    return line if len(line) <= 80 else f"{line[:77]}..."


def _first(items: list[str], one: str, many: str, shown: int = 3) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    count = f"1 entry {one}" if len(items) == 1 else f"{len(items)} entries {many}"
    return f"{count} ({', '.join(items[:shown])}{more})"


def _shape(tensor: Tensor) -> str:
    return "x".join(str(n) for n in tensor.shape) or "a number"


def unwrap(entries: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The state dict inside a checkpoint."""
    seen: list[Mapping[str, Any]] = []  # a file's dict may hold itself
    inner: Mapping[str, Any] | None = entries
    while inner is not None and not any(inner is one for one in seen):
        seen.append(inner)
        wrapped = (inner.get(wrapper) for wrapper in WRAPPERS)
        inner = next((w for w in wrapped if isinstance(w, Mapping) and _holds_tensors(w)), None)
    state = {key: value for key, value in seen[-1].items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        there = ", ".join(_shown(key) if isinstance(key, str) else type(key).__name__ for key in list(entries)[:5])
        raise ModelError(f"{source} holds no state dict; it has {there or 'nothing'}")
    return state


def _holds_tensors(entries: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in entries.values())


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """The contents of a .safetensors or torch file, without running anything that the file asks for.

    Raises:
        ModelError: no such file, or one that is neither format.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        entries = _tensors_of(path)
    except DAMAGE as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            raise ModelError(f"{path.name} is damaged or not a torch file; download it again") from error
        raise ModelError(
            f"{path.name} cannot be read as tensors without running code from it: it asks for {_shown(asked[1])}"
        ) from error
    if not isinstance(entries, Mapping):
        raise ModelError(f"{path.name} holds a {type(entries).__name__}, not a state dict")
    return entries


def _tensors_of(path: Path) -> Any:
    try:
        with inert_globals(path):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not (zipfile.is_zipfile(path) and re.search(r"Can only (append|extend|SETITEM|build)", str(error))):
            raise
    return read_zip(path)


@contextlib.contextmanager
def inert_globals(path: Path) -> Iterator[None]:
    """Lets torch read a file whose metadata holds foreign objects; each becomes an ``Inert``.

    Names are given in the spellings of Python 2 and 3: torch looks some up under one, some under the other.
    """
    names = names_in(path)
    modern = {NAME_MAPPING.get(pair, (IMPORT_MAPPING.get(pair[0], pair[0]), pair[1])) for pair in names}
    spelt = sorted(f"{module}.{name}" for module, name in names | modern)
    stand_ins: list[Any] = [(empty_dict if name == "collections.defaultdict" else Inert, name) for name in spelt]
    with torch.serialization.safe_globals(stand_ins):
        yield


def empty_dict(*args: Any) -> dict[Any, Any]:
    """Stands in for a defaultdict, which torch would not fill."""
    return {}
