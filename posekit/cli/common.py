"""What several verbs share: errors, output, options that they have in common, and what those options name."""

from __future__ import annotations

import argparse
import codecs
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Arguments = argparse.Namespace
MODEL_HELP = "a name that posekit.list_models() gives"
WEIGHTS_HELP = "a file, or 'mannequin' for our small trained one"


class UsageError(ValueError):
    """What was asked cannot be done; one sentence."""


def print_result(options: Arguments, plain: Any, text: Any) -> None:
    """The answer on stdout: ``plain`` as JSON where that was asked for, otherwise ``text``."""
    if options.json:
        # JSON has no NaN: a number that does not exist (AP of a size that nobody has) is null.
        plain = json.loads(json.dumps(plain, default=float), parse_constant=lambda _: None)
        text = json.dumps(plain, indent=1, allow_nan=False)
    print(text)


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs; a value is read as JSON if it is JSON, otherwise as text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair}: write key=value")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def mannequin(options: Arguments, split: str, scenes: int) -> Any:
    from posekit.data import Mannequin

    return Mannequin(split, level=options.level, view=options.view, scenes=scenes, seed=options.seed)


def dataset_of(options: Arguments, split: str, scenes: int) -> Any:
    """The files that were named, otherwise the embedded dataset."""
    annotations = getattr(options, f"{split}_annotations", None) or getattr(options, "annotations", None)
    if annotations is None:
        _refuse_strays(options)
        return mannequin(options, split, scenes)
    images = getattr(options, f"{split}_images", None) or options.images
    if images is None:
        raise UsageError("annotations without pictures: say with --images where the pictures lie")
    return open_dataset(annotations, images, head_boxes=getattr(options, "head_boxes", None))


def _refuse_strays(options: Arguments) -> None:
    """Files that belong to annotations, of which there are none: the embedded dataset would be scored instead."""
    named = ("annotations", "train_annotations", "val_annotations")
    if any(getattr(options, name, None) for name in named):
        return
    for name in ("images", "val_images", "head_boxes"):
        if getattr(options, name, None):
            option = "--train-annotations and --val-annotations" if hasattr(options, "val_images") else "--annotations"
            raise UsageError(
                f"--{name.replace('_', '-')} without annotations: say with {option} who is in the pictures, or leave "
                "it out for the embedded dataset"
            )


def open_dataset(annotations: Path, images: Path, *, head_boxes: Path | None = None) -> Any:
    """COCO, CrowdPose or MPII, told apart by what the file holds: MPII's is a list, CrowdPose has 14 keypoints.

    CrowdPose writes no areas; 0.53 of the box stands in for them, as in its own scoring.
    """
    from posekit import metrics
    from posekit.data import CocoKeypoints, MpiiKeypoints
    from posekit.data.mpii import read_head_boxes
    from posekit.skeletons import CROWDPOSE14

    if _holds_list(annotations):
        boxes = None if head_boxes is None else read_head_boxes(head_boxes)
        return MpiiKeypoints(annotations, images, head_boxes=boxes)
    if head_boxes is not None:
        raise UsageError(f"{annotations} is not MPII's list of people, and head boxes belong to MPII alone")
    dataset = CocoKeypoints(annotations, images)
    if dataset.skeleton != CROWDPOSE14:
        return dataset
    return dataset.with_people(dataclasses.replace(dataset.people, area=metrics.person_areas(dataset.people, "box")))


def _holds_list(annotations: Path) -> bool:
    """Whether the file is a JSON list, with somebody in it."""
    try:
        with open(annotations, "rb") as file:
            begin = file.read(64).removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError as error:
        raise UsageError(f"{annotations}: cannot be read ({error.strerror}); check the path") from None
    if begin.startswith(b"[") and begin[1:].lstrip().startswith(b"]"):
        raise UsageError(f"{annotations} is an empty list, so it has nobody in it; give a COCO file or MPII's list")
    return begin.startswith(b"[")


def refuse_model(options: Arguments, settings: dict[str, Any], *, any_size: bool = False) -> None:
    """Before a dataset is drawn for minutes: is there such a network, of such a size, and do its weights suit it?

    Bottom-up networks are refused, too: they take whole pictures, and everything here cuts people out.

    Args:
        settings: options of the network's builder.
        any_size: the weights may be of a network for another input size, as where training goes on from them.
    """
    import torch

    from posekit import create_model
    from posekit.codecs.associative_embedding import AssociativeEmbedding
    from posekit.inference import pick_device

    pick_device(options.device)
    file = options.weights or getattr(options, "init", None)
    if file and str(file) != "mannequin" and not Path(file).is_file():
        raise UsageError(f"{file}: there are no such weights; check the path")
    with torch.device("meta"):
        model = create_model(options.model, **network_config(options, settings, any_size=any_size))
    if isinstance(model.codec, AssociativeEmbedding):
        raise UsageError(
            f"{options.model} finds people in whole pictures (bottom-up), and this verb gives crops of one person; "
            "take a top-down network"
        )


def network_config(
    options: Arguments, settings: dict[str, Any], num_keypoints: int | None = None, *, any_size: bool = False
) -> dict[str, Any]:
    """What the network that was named is built with: as the command line says, then as the file of its weights does."""
    from posekit.models.catalog import settle

    size = {"input_size": options.input_size} if options.input_size else {}
    keypoints = {"num_keypoints": num_keypoints} if num_keypoints is not None else {}
    asked = {**settings, **keypoints, **({} if any_size else size)}
    return {**settle(options.model, asked, getattr(options, "weights", None)), **size}


def network_of(options: Arguments, num_keypoints: int | None = None) -> Any:
    """The network that was named, with its weights, ready to predict."""
    from posekit import create_model

    config = network_config(options, read_settings(options.set), num_keypoints)
    return create_model(options.model, weights=options.weights, **config).eval()


def add_verb(
    verbs: Any, name: str, run: Callable[[Arguments], int], does: str, example: str
) -> argparse.ArgumentParser:
    """The parser of a new verb, whose help ends with an example."""
    one = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=f"example: {example}")
    one.set_defaults(run=run)
    one.add_argument("--json", action="store_true", help="print JSON")
    return one


def add_group(
    verbs: Any, name: str, does: str, example: str, *, alone: Callable[[Arguments], int] | None = None
) -> Any:
    """Where verbs of two words, such as ``data check``, are added; ``alone`` is run where the second is left out."""
    group = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=f"example: {example}")
    if alone is not None:
        group.set_defaults(run=alone)
        group.add_argument("--json", action="store_true", help="print JSON")
        add_ledger_option(group)
    return group.add_subparsers(title="verbs", metavar="VERB", required=alone is None)


def add_mannequin_options(one: argparse.ArgumentParser, *, scenes: int) -> None:
    group = one.add_argument_group("embedded dataset")
    group.add_argument("--level", default="face", choices=("bib", "face", "natural"))
    group.add_argument("--view", default="balanced", choices=("balanced", "front"))
    group.add_argument("--scenes", type=int, default=scenes, help=f"pictures ({scenes})")
    group.add_argument("--seed", type=int, default=0, help="of everything that is drawn, in pictures and training (0)")


def add_network_options(one: argparse.ArgumentParser, *, device: bool = True) -> None:
    one.add_argument("--input-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="the network's own")
    if device:
        one.add_argument("--device", default="auto", help="auto, cpu or cuda")


def add_builder_options(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the network, as exchange=final"
    )


def add_ledger_option(one: argparse.ArgumentParser) -> None:
    one.add_argument("--ledger", type=Path, help="folder of recorded runs (data/ledger)")
