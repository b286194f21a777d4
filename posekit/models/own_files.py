"""Our own weight files: safetensors that say which network they hold, built with which options, read by which codec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from posekit.codecs import Codec
from posekit.files import whole
from posekit.models.base import ModelError, PoseModel


def own_facts(model: PoseModel) -> dict[str, str]:
    """What our weight files say of their network: its configuration and codec, as JSON strings."""
    codec = json.dumps(model.codec.to_dict())
    return {"format": "posekit", "model": json.dumps(model.config), "codec": codec}


def save_weights(model: PoseModel, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's weights as safetensors, with what ``create_model`` needs to build it again inside.

    Args:
        metadata: more strings to keep, such as the run that made the weights.
    """
    write_safetensors(path, model.state_dict(), {**(metadata or {}), **own_facts(model)})


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, sync=True) as temporary:
        temporary.touch()
        readers = temporary.stat().st_mode  # safetensors would leave the file to its owner alone
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, temporary, metadata=dict(metadata))
        temporary.chmod(readers)


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        ModelError: the file is damaged or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: str | Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is no whole safetensors file ({error}): cut short or damaged; copy it again")


def read_facts(path: str | Path) -> dict[str, str]:
    """The metadata alone; nothing for a file that is no safetensors or is not there."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def agree(name: str, asked: Mapping[str, Any], defaults: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """What to build a network with so that a file's weights mean what they meant when they were written.

    Args:
        name: the network.
        asked: what the caller wants by name: options, ``num_keypoints``, ``input_size``.
        defaults: the builder's own, which hold for what neither the caller nor the file says.
        path: the file; one that is not ours says nothing, so the caller is free.

    Raises:
        ModelError: the file is of another network, or of this one with another value of what was asked.
    """
    theirs, file = _config(path), Path(path).name
    if "name" not in theirs:
        return {**defaults, **asked}
    if theirs["name"] != name:
        raise ModelError(f"{file} holds {theirs['name']}, not {name}; ask for {theirs['name']} or take another file")
    made = {**defaults, **{key: value for key, value in theirs.items() if key != "name"}}
    if gone := [key for key in made if key not in defaults]:
        raise ModelError(f"{file} was written with the option {gone[0]!r}, which {name} does not have; train it again")
    other = [key for key, value in asked.items() if _plain(value) != _plain(made[key])]
    if other:
        what = ", ".join(f"{key}={_plain(made[key])!r} and not {_plain(asked[key])!r}" for key in other)
        remedy = f"leave {' and '.join(other)} out, or fill another network on purpose with posekit.load_weights"
        if "num_keypoints" in other:
            remedy = f"take people of {made['num_keypoints']} keypoints or other weights"
        raise ModelError(f"{file} holds {name} with {what}; {remedy}")
    return made


def _config(path: str | Path) -> dict[str, Any]:
    facts = read_facts(path)
    if facts.get("format") != "posekit":
        return {}
    try:
        return dict(json.loads(facts.get("model", "{}")))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{Path(path).name} has a damaged description of its network; write it again") from error


def _plain(value: Any) -> Any:
    """As JSON gives it back: sequences are lists."""
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def adopt_codec(model: PoseModel, path: str | Path) -> None:
    """Let a network decode as it was trained: our own files hold their codec, others leave the network's own.

    Logits of a cross-entropy network read as plain heatmaps would have no positive cell, hence no keypoint.
    """
    facts = read_facts(path)
    if "codec" in facts:
        model.codec = replace(Codec.from_dict(json.loads(facts["codec"])), input_size=model.codec.input_size)
