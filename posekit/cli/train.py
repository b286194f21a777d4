"""The verb that trains a network."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from posekit.cli.common import (
    MODEL_HELP,
    Arguments,
    UsageError,
    add_mannequin_options,
    add_network_options,
    add_verb,
    dataset_of,
    network_config,
    print_result,
    read_settings,
    refuse_model,
)

# Builders of posekit.training; their names stand here so that --help need not load torch.
RECIPES = (
    "quick", "quick_ce", "hrnet_coco", "hrnet_mpii", "simple_baseline_coco", "mmpose_coco", "srpose",
    "srpose_hrformer", "transpose_r", "cpn",
)  # fmt: skip


def train(options: Arguments) -> int:
    from posekit import inference, training

    recipe, settings = _recipe(options)
    refuse_model(options, settings, any_size=True)
    processes = inference.join(options.device)
    on_log = training.tensorboard(options.out) if options.tensorboard and processes.first else None
    people = dataset_of(options, "train", options.scenes)
    held_out = dataset_of(options, "val", options.scenes // 6 or 1)
    model = _fresh_network(options, settings, people.skeleton.num_keypoints, told=processes.first)
    result = training.fit(
        model, people, held_out, recipe, out_dir=options.out, seed=options.seed, device=options.device,
        resume=not options.restart, workers=options.workers, on_log=on_log,
    )  # fmt: skip
    facts: dict[str, Any] = {
        "steps": result.steps, "samples": result.samples, "seconds": result.seconds, "metrics": result.metrics,
        "weights": str(result.out_dir / training.WEIGHTS),
    }  # fmt: skip
    lines = [f"{name:<20} {value:.4f}" for name, value in result.metrics.items()]
    if processes.first:
        print_result(options, facts, "\n".join([*lines, facts["weights"]]))
    return 0


def _recipe(options: Arguments) -> tuple[Any, dict[str, Any]]:
    """The recipe that was named, with the fields that were set, and what was set of the network."""
    from posekit import training
    from posekit.models import model_options

    recipe = getattr(training, options.recipe)()
    settings, known = read_settings(options.set), model_options(options.model)
    fields = list(recipe.to_dict())
    unknown = sorted(set(settings) - set(fields) - set(known))
    if unknown:
        network = f"{options.model} {', '.join(known)}" if known else f"{options.model} no options"
        raise UsageError(f"a recipe has no '{unknown[0]}'; it has {', '.join(fields)}, and {network}")
    of_network = {key: settings.pop(key) for key in known if key in settings}
    if {"epochs", "samples"} & set(settings):  # a run's length is one of the two; naming one drops the other
        settings = {"epochs": None, "samples": None, **settings}
    return training.Recipe.from_dict({**recipe.to_dict(), **settings}), of_network


def _fresh_network(options: Arguments, settings: dict[str, Any], num_keypoints: int, *, told: bool) -> Any:
    """The network that was named, from its first weights."""
    import torch

    from posekit import create_model, load_weights

    torch.manual_seed(options.seed)
    model = create_model(options.model, **network_config(options, settings, num_keypoints, any_size=True))
    fields = read_settings(options.codec)
    known = [field.name for field in dataclasses.fields(model.codec)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise UsageError(f"{type(model.codec).__name__} has no '{unknown[0]}'; it has {', '.join(known)}")
    model.codec = dataclasses.replace(model.codec, **fields)
    source = options.init or options.weights
    if source:
        report = load_weights(model, source)
        if options.init and not report.backbone_only:
            raise UsageError(f"{source} holds a whole network, not a backbone alone; start from it with --weights")
        if told:
            print(report, file=sys.stderr)
    return model


def add_verbs(verbs: Any) -> None:
    """``train``."""
    example = "posekit train tiny_hrnet --out build/runs/first --set samples=9000"
    one = add_verb(verbs, "train", train, "train a network", example)
    one.add_argument("model", help=MODEL_HELP)
    one.add_argument("--out", type=Path, required=True, help="folder of the run; an interrupted run goes on")
    one.add_argument("--recipe", default="quick_ce", choices=RECIPES)
    one.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field of the recipe, or an option of the network",
    )
    one.add_argument("--codec", action="append", default=[], metavar="KEY=VALUE", help="a field of the network's codec")
    first = one.add_mutually_exclusive_group()
    first.add_argument("--init", type=Path, metavar="FILE", help="first weights of the backbone, e.g. from ImageNet")
    first.add_argument("--weights", type=Path, help="first weights of all of it, ours or a published file")
    one.add_argument("--train-annotations", type=Path, help="COCO file; the embedded dataset when not named")
    one.add_argument("--val-annotations", type=Path)
    one.add_argument("--images", type=Path, help="folder of the pictures")
    one.add_argument("--val-images", type=Path, help="folder of the held-out pictures (--images)")
    one.add_argument("--restart", action="store_true", help="start again instead of going on")
    one.add_argument("--workers", type=int, default=0, help="processes that cut crops, beside each that trains (0)")
    one.add_argument("--tensorboard", action="store_true", help="also write what TensorBoard reads, into the folder")
    add_network_options(one)
    add_mannequin_options(one, scenes=3000)
