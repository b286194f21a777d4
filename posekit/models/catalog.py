"""Every network by name."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from posekit.codecs import CodecError
from posekit.models import (
    bottom_up,
    cpn,
    deeppose,
    dpn,
    hourglass,
    hrformer,
    hrnet,
    integral,
    simcc,
    simple_baseline,
    srpose,
    transpose,
)
from posekit.models.base import ModelError, PoseModel, check_size, is_whole, size_text
from posekit.models.checkpoints import load_weights
from posekit.models.own_files import agree

WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "weights"
COMMON = ("num_keypoints", "input_size")  # what every builder takes
BUILDERS: dict[str, Callable[..., PoseModel]] = {
    builder.__name__: builder
    for builder in (
        deeppose.deeppose_r50,
        integral.integral_r50,
        simcc.simcc_r50,
        simcc.simcc_hrnet_w32,
        simple_baseline.simple_baseline_r50,
        simple_baseline.simple_baseline_r101,
        simple_baseline.simple_baseline_r152,
        hourglass.hourglass8,
        cpn.cpn_r50,
        hrnet.hrnet_w32,
        hrnet.hrnet_w48,
        srpose.r50_sr,
        srpose.r50_srpose,
        srpose.hrnet_w32_sr,
        srpose.hrnet_w32_srpose,
        transpose.transpose_r_a4,
        srpose.transpose_r_a4_sr,
        srpose.transpose_r_a4_srpose,
        hrformer.hrformer_s,
        srpose.hrformer_s_sr,
        srpose.hrformer_s_srpose,
        dpn.dpn1_32,
        dpn.dpn2_32,
        dpn.dpn3_32,
        dpn.dpn4_32,
        dpn.dpn1_64,
        dpn.dpn2_64,
        dpn.dpn3_64,
        dpn.dpn4_64,
        dpn.dpn1_64_highres,
        dpn.dpn2_64_highres,
        dpn.dpn3_64_highres,
        dpn.dpn4_64_highres,
        dpn.dpn2_hrnet,
        bottom_up.bottomup_r50,
        bottom_up.bottomup_r50_sr,
        bottom_up.bottomup_hrnet_w32,
        bottom_up.bottomup_hrnet_w32_sr,
        deeppose.tiny_deeppose,
        integral.tiny_integral,
        simcc.tiny_simcc,
        simple_baseline.tiny_simple_baseline,
        hourglass.tiny_hourglass,
        cpn.tiny_cpn,
        hrnet.tiny_hrnet,
        srpose.tiny_sr,
        srpose.tiny_srpose,
        transpose.tiny_transpose,
        hrformer.tiny_hrformer,
        dpn.tiny_dpn,
        dpn.tiny_dpn_hrnet,
        bottom_up.tiny_bottomup,
        bottom_up.tiny_bottomup_sr,
    )
}


def list_models() -> list[str]:
    """All names that :func:`create_model` knows; those for the course start with ``tiny_``."""
    return list(BUILDERS)


def create_model(
    name: str,
    *,
    num_keypoints: int | None = None,
    input_size: Sequence[int] | None = None,
    weights: str | Path | None = None,
    **options: Any,
) -> PoseModel:
    """Build a network.

    Args:
        name: one of :func:`list_models`.
        num_keypoints: keypoints to predict; None is the number in a file of ours that ``weights`` names, else 17.
        input_size: (height, width) in pixels; None is the file's, else the builder's own, the papers' size.
        weights: a file of the whole network that :func:`posekit.load_weights` reads, or "mannequin" for the small
            one trained here. Our own files know the options they were made with, and those are taken over.
        options: the builder's own, such as ``exchange="final"``; ``model_options(name)`` lists them.

    Returns:
        The network in ``train()`` mode, weights channels-last, with ``codec``, ``input_size`` and ``config``.

    Raises:
        ModelError: unknown name or option, a size the strides do not allow, weights that do not fit or lack the head,
            a file of ours that was made with another value of what is asked for.
    """
    given = {"num_keypoints": num_keypoints, "input_size": input_size}
    asked = {key: value for key, value in given.items() if value is not None}
    config = settle(name, {**asked, **options}, weights)
    model = _build(name, config)
    model.name = name
    model.config = {"name": name, **config, "input_size": list(config["input_size"])}
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if weights is not None:
        report = load_weights(model, weights_file(name, weights))
        if report.backbone_only:
            raise ModelError(
                f"{report.source} holds a backbone alone, which leaves the head of {name} at random; fill the backbone "
                f"with posekit.load_weights or train from it with posekit train {name} --init FILE"
            )
    return model


def settle(name: str, asked: Mapping[str, Any], weights: str | Path | None = None) -> dict[str, Any]:
    """All that a network is built with, by name: what is asked, then what a file of ours says, then the defaults.

    Args:
        asked: options, and ``num_keypoints`` and ``input_size`` where they are asked for.

    Raises:
        ModelError: as in :func:`create_model`.
    """
    known = model_options(name)
    for option in asked:
        if option not in known and option not in COMMON:
            what = f"its options are {', '.join(known)}" if known else "it has none"
            raise ModelError(f"{name} has no option {option!r}; {what}")
        check_kind(name, option, known.get(option), asked[option])
    asked = dict(asked)
    if "num_keypoints" in asked:
        if not is_whole(count := asked["num_keypoints"]):
            raise ModelError(f"{name} needs at least one keypoint, a whole number, got num_keypoints={count!r}")
        asked["num_keypoints"] = int(asked["num_keypoints"])
    if "input_size" in asked:
        asked["input_size"] = whole_pixels(name, asked["input_size"])
    defaults = {p.name: p.default for p in inspect.signature(BUILDERS[name]).parameters.values()}
    config = {**defaults, **asked} if weights is None else agree(name, asked, defaults, weights_file(name, weights))
    return {**config, "input_size": whole_pixels(name, config["input_size"])}


def _build(name: str, config: Mapping[str, Any]) -> PoseModel:
    builder, size = BUILDERS[name], config["input_size"]
    try:
        model = builder(**config)
        check_size(size, model.size_multiple, name)
    except CodecError as error:
        options = {key: value for key, value in config.items() if key not in COMMON}
        # The network alone knows its strides, and here only they matter; it may not stand at its own size either.
        with contextlib.suppress(CodecError), torch.device("meta"):
            check_size(size, builder(**options).size_multiple, name)
        raise ModelError(f"{name} cannot be built for {size_text(size)}: {error}") from error
    return model


def weights_file(name: str, weights: str | Path) -> str | Path:
    """The file that ``create_model``'s ``weights`` means."""
    return mannequin_weights(name) if weights == "mannequin" else weights


def check_kind(name: str, option: str, default: Any, value: Any) -> None:
    """Refuse what is no switch or number where the default is one; other kinds, and ranges, are the builder's to check.

    Raises:
        ModelError: another kind of value, or a number that is not finite.
    """
    if isinstance(default, bool):
        right, kind = isinstance(value, bool), "True or False"
    elif isinstance(default, float):
        right, kind = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value), "a number"
    else:
        return
    if not right:
        raise ModelError(f"{option} of {name} is {kind}, not {value!r}")


def whole_pixels(name: str, size: Any) -> tuple[int, int]:
    """(height, width) as integers.

    Raises:
        ModelError: not two whole numbers.
    """
    try:
        height, width = size
        whole = int(height), int(width)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or isinstance(size, str) or whole != (height, width) or min(whole) < 1:
        raise ModelError(
            f"{name} takes input_size as (height, width) in whole pixels, such as (256, 192), not {size!r}"
        )
    return whole


def mannequin_weights(name: str) -> Path:
    """The file of our own small trained weights for a network.

    Raises:
        ModelError: there is none.
    """
    path = WEIGHTS / f"{name}.safetensors"
    if path.is_file():
        return path
    there = sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))
    which = f"there are some for {', '.join(there)}" if there else "there are none yet; train with posekit train"
    raise ModelError(f"no mannequin weights for {name} in data/weights; {which}")


def model_options(name: str) -> dict[str, Any]:
    """The options that a network takes beyond keypoints and input size, with their defaults.

    Raises:
        ModelError: no network is called so.
    """
    if not isinstance(name, str) or name not in BUILDERS:
        raise ModelError(f"no network is called {name!r}; {_close(name, BUILDERS)}")
    parameters = inspect.signature(BUILDERS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in COMMON}


def _close(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else "posekit.list_models() gives all names"
