"""Networks as ONNX files, which other runtimes take: any batch size, outputs compared before the file is kept."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.files import check_writable, replacing
from posekit.inference.fusion import fuse_conv_bn
from posekit.inference.runtime import Network, describe_model

OPSET = 20
BATCHES = (1, 3)  # one that could be baked in by mistake, and one that was not seen while exporting
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Export:
    """A written file.

    Attributes:
        path: of the file.
        megabytes: its size, 1e6 bytes.
        outputs: names of the outputs, in the order of the prediction's tensors.
        error: largest difference from torch over the checked batches, as a share of the output's largest value; None
            where it was not checked.
    """

    path: Path
    megabytes: float
    outputs: tuple[str, ...]
    error: float | None


def export_onnx(model: Network, path: str | os.PathLike, *, check: bool = False) -> Export:
    """Write a network as one ONNX file with input "images", (batch, 3, H, W) float32, normalised as in training.

    Batch normalisation is folded. The file's metadata entry "posekit" holds name, codec and input size as JSON, which
    is what a reader needs to turn the outputs into keypoints.

    Args:
        path: written whole or not at all.
        check: run the file in ONNX Runtime at batch 1 and 3 first, and keep it only if it agrees with torch.

    Raises:
        ImportError: the extra is not installed.
        OSError: the file cannot be written; one sentence with the path.
        ValueError: the file's outputs differ from torch's by more than 2e-5 of their largest value.
    """
    _need("onnx", "onnxscript", *(["onnxruntime"] if check else []))
    path = Path(path)
    check_writable(path)  # the exporter takes a minute
    network = fuse_conv_bn(model).cpu().float()
    example = _pictures(network, 2)
    with torch.inference_mode():
        names = output_names(network(example))
    with _quiet():
        program = torch.onnx.export(
            network, (example,), dynamo=True, opset_version=OPSET, input_names=["images"], output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None  # only the exporter without dynamo returns nothing
    program.model.metadata_props["posekit"] = json.dumps(describe_model(model))
    with replacing(path) as temporary:
        program.save(temporary, external_data=False)
        error = difference(network, temporary) if check else None
        if error is not None and error > TOLERANCE:
            raise ValueError(f"{path.name} was not written: ONNX Runtime's outputs differ from torch's by {error:.1e}")
    return Export(path, path.stat().st_size / 1e6, names, error)


@torch.inference_mode()
def difference(network: Network, path: str | os.PathLike, *, batches: Sequence[int] = BATCHES) -> float:
    """Largest difference between a network and its file, as a share of its largest value, on random pictures."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    errors = []
    for count in batches:
        images = _pictures(network, count)
        expected = _tensors(network(images))
        found = session.run(None, {"images": images.numpy()})
        for ours, theirs in zip(expected, found, strict=True):
            if ours.shape != theirs.shape:
                raise ValueError(f"the file gives {theirs.shape} for {count} pictures where torch gives {ours.shape}")
            errors.append(np.abs(ours - theirs).max() / np.abs(ours).max())
    return float(max(errors))


def output_names(prediction: Any) -> tuple[str, ...]:
    """ "prediction" for a single tensor; the field names of a named tuple; otherwise numbered."""
    if isinstance(prediction, torch.Tensor):
        return ("prediction",)
    if hasattr(prediction, "_fields"):
        return tuple(prediction._fields)
    return tuple(f"prediction_{i}" for i in range(len(prediction)))


def _tensors(prediction: Any) -> list[np.ndarray]:
    parts = [prediction] if isinstance(prediction, torch.Tensor) else list(prediction)
    return [part.numpy() for part in parts]


def _pictures(network: Network, count: int) -> torch.Tensor:
    return torch.randn(count, 3, *network.input_size, generator=torch.Generator().manual_seed(count))


def _need(*packages: str) -> None:
    from importlib.util import find_spec

    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ImportError(f"exporting needs {' and '.join(missing)}: pip install 'posekit[onnx]'")


@contextlib.contextmanager
def _quiet():
    """The exporter warns about packages that nobody asked for."""
    import logging

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
