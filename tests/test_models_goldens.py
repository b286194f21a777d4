"""Networks against code that others wrote, where POSEKIT_PARITY holds no outputs.

goldens/networks.json has sampled outputs of their networks, in float64, under the weights of goldens/fill.py; its
README says where each network comes from. Here ours gets the same weights, through a checkpoint's names.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from posekit.models import create_model, load_weights
from posekit.models.hrformer import DropPath
from posekit.models.transpose import EncoderLayer

GOLDENS = Path(__file__).parent / "goldens"
sys.path.insert(0, str(GOLDENS))
from fill import fill, pictures  # noqa: E402

CASES: dict[str, dict[str, Any]] = json.loads((GOLDENS / "networks.json").read_text())
TOLERANCE = 2e-5  # times the largest value of the original
COMPUTED = ("num_batches_tracked", "relative_position_index")


def original_name(key: str, case: dict[str, Any]) -> str:
    """What a file of the reference calls an entry of ours."""
    source, model = case["source"], case["model"]
    if model in ("transpose_r_a4", "hourglass8"):
        return key.partition(".")[2]
    if model == "cpn_r50":
        return re.sub("^head.", "", re.sub("^backbone.", "resnet.", key))
    if model == "integral_r50":
        return re.sub("^head.", "head.simplebaseline_head.", key)
    if model == "simcc_r50":
        return re.sub("^head.(?!mlp)", "head.deconv_head.", key)
    return key if source.startswith("mmpose 1") else re.sub("^head.", "keypoint_head.", key)


def digest(shapes: dict[str, tuple[int, ...]]) -> str:
    return hashlib.sha256(repr(sorted(shapes.items())).encode()).hexdigest()[:16]


def blank(case: dict[str, Any]) -> nn.Module:
    """Our network, without the time that drawing first weights takes where nothing computed is kept of them."""
    with torch.device("cpu" if "transpose" in case["model"] else "meta"):
        model = create_model(case["model"], input_size=case["size"], **case["options"])
    return model.to_empty(device="cpu") if "transpose" not in case["model"] else model


def without_chance(model: nn.Module) -> nn.Module:
    """Dropout and dropped paths off, for outputs in ``train()`` to be compared."""
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        elif isinstance(layer, DropPath):
            layer.rate = 0.0
        elif isinstance(layer, EncoderLayer):
            layer.self_attn.dropout = 0.0
    return model


def outputs_of(model: nn.Module, case: dict[str, Any]) -> list[torch.Tensor]:
    """In ``train()`` in float64: batch norm over two small pictures makes rounding a thousand times larger."""
    dtype = torch.float64 if case["train"] else torch.float32
    batch = 2 if case["train"] else 1
    with torch.no_grad():
        output = model.to(dtype).train(case["train"])(pictures((batch, 3, *case["size"])).to(dtype))
    read = case.get("read")
    if read == "integral":  # theirs are the mean cell over the map's size, and the softmax
        size = torch.tensor(case["size"][::-1])
        return [model.codec.decode(output)[0] / size, output.flatten(2).softmax(2).view(output.shape)]
    if read == "tags":
        return [torch.cat(list(output), dim=1)]
    return list(output) if isinstance(output, list | tuple) else [output]


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_the_originals(name: str):
    case = CASES[name]
    model = without_chance(blank(case))
    kept = re.compile(case.get("keep", "^$"))
    shapes = {
        original_name(key, case): tuple(value.shape)
        for key, value in model.state_dict().items()
        if not key.endswith(COMPUTED) and not kept.search(key)
    }
    named = {key: shape for key, shape in shapes.items() if "bias_table" not in key}  # HRFormer's is never read
    assert (len(named), digest(named)) == (case["entries"], case["digest"])
    report = load_weights(model, fill(shapes))
    assert report.ignored == () and all(key.endswith((*COMPUTED, "pos_embedding")) for key in report.missing)
    outputs = outputs_of(model, case)
    assert len(outputs) == len(case["outputs"])
    for output, theirs in zip(outputs, case["outputs"]):
        assert list(output.shape) == theirs["shape"]
        output = output.double()
        found = [*output.flatten()[theirs["places"]], output.abs().max(), output.mean(), output.std(correction=0)]
        expected = [*theirs["values"], theirs["max"], theirs["mean"], theirs["std"]]
        error = (torch.stack(found) - torch.tensor(expected, dtype=torch.float64)).abs().max()
        assert error <= TOLERANCE * theirs["max"]
