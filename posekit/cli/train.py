"""The verb that trains a network."""

from __future__ import annotations

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
    print_result,
    read_settings,
    refuse_model,
)


def train(options: Arguments) -> int:
    from posekit import create_model, training

    recipes = {"quick": training.quick, "quick_ce": training.quick_ce, "hrnet_coco": training.hrnet_coco}
    recipe = recipes[options.recipe]()
    settings = read_settings(options.set)
    unknown = sorted(set(settings) - set(recipe.to_dict()))
    if unknown:
        raise UsageError(f"a recipe has no '{unknown[0]}'; it has {', '.join(recipe.to_dict())}")
    if {"epochs", "samples"} & set(settings):  # a run's length is one of the two; naming one drops the other
        settings = {"epochs": None, "samples": None, **settings}
    recipe = training.Recipe.from_dict({**recipe.to_dict(), **settings})
    refuse_model(options)
    people = dataset_of(options, "train", options.scenes)
    held_out = dataset_of(options, "val", options.scenes // 6 or 1)
    model = create_model(options.model, input_size=options.input_size, num_keypoints=people.skeleton.num_keypoints)
    if options.weights:
        from posekit import load_weights

        print(load_weights(model, options.weights), file=sys.stderr)
    result = training.fit(
        model, people, held_out, recipe, out_dir=options.out, seed=options.seed, device=options.device,
        resume=not options.restart,
    )  # fmt: skip
    facts: dict[str, Any] = {
        "steps": result.steps, "samples": result.samples, "seconds": result.seconds, "metrics": result.metrics,
        "weights": str(result.out_dir / training.WEIGHTS),
    }  # fmt: skip
    lines = [f"{name:<20} {value:.4f}" for name, value in result.metrics.items()]
    print_result(options, facts, "\n".join([*lines, facts["weights"]]))
    return 0


def add_verbs(verbs: Any) -> None:
    """``train``."""
    example = "posekit train tiny_hrnet --out build/runs/first --set samples=9000"
    one = add_verb(verbs, "train", train, "train a network", example)
    one.add_argument("model", help=MODEL_HELP)
    one.add_argument("--out", type=Path, required=True, help="folder of the run; an interrupted run goes on")
    one.add_argument("--recipe", default="quick_ce", choices=("quick", "quick_ce", "hrnet_coco"))
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a field of the recipe")
    one.add_argument("--weights", type=Path, help="first weights, ours or a published file")
    one.add_argument("--train-annotations", type=Path, help="COCO file; the embedded dataset when not named")
    one.add_argument("--val-annotations", type=Path)
    one.add_argument("--images", type=Path, help="folder of the pictures")
    one.add_argument("--val-images", type=Path, help="folder of the held-out pictures (--images)")
    one.add_argument("--restart", action="store_true", help="start again instead of going on")
    add_network_options(one)
    add_mannequin_options(one, scenes=3000)
