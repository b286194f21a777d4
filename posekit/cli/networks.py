"""Verbs on a network: score it, show what it sees, count its cost, export it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from posekit.cli.common import (
    MODEL_HELP,
    WEIGHTS_HELP,
    Arguments,
    UsageError,
    add_builder_options,
    add_mannequin_options,
    add_network_options,
    add_verb,
    dataset_of,
    network_config,
    network_of,
    print_result,
    read_settings,
    refuse_model,
)

BF16_HELP = "weights and maps in bfloat16: about twice as fast where the processor has it, scores a little different"
COMPILE_HELP = "compile the network first: up to a minute, which pays for thousands of people; same scores"


def evaluate(options: Arguments) -> int:
    from posekit import data, inference
    from posekit.annotations import write_detections

    refuse_model(options, read_settings(options.set))
    _refuse_target(options.save)
    processes = inference.join(options.device)
    dataset = dataset_of(options, options.split, options.scenes)
    if processes.first and not options.weights:
        print("no --weights: the network is untrained", file=sys.stderr)
    model = _evaluated(options, dataset.skeleton.num_keypoints)
    boxes = data.read_boxes(options.boxes, dataset.people) if options.boxes else None
    result = inference.evaluate(
        model, dataset, boxes=boxes, flip_test=not options.no_flip_test, device=options.device,
        progress=not options.json, workers=options.workers, processes=processes, **_compiling(options),
    )  # fmt: skip
    if not processes.first:
        return 0
    if options.save:
        write_detections(options.save, result.detections)
    facts = result.summary()
    lines = [str(result.result)]
    lines += [f"    {k:<18} {v:.4f}" for k, v in facts.items() if k.startswith(("mean_oks", "confusion"))]
    if options.head_boxes:
        found = _pckh(dataset, result)
        facts |= {"pckh": found.mean, "pckh@0.1": found.mean_at_01, **{f"pckh_{k}": v for k, v in found.groups.items()}}
        lines.append(str(found))
    print_result(options, facts, "\n".join(lines))
    return 0


def _refuse_target(path: Path | None) -> None:
    """Before a network works for hours: can the file be written?"""
    from posekit.files import check_writable

    if path:
        check_writable(path)


def _evaluated(options: Arguments, num_keypoints: int) -> Any:
    """The network as it predicts fastest, on its device; one that is to be compiled is so at the first batch."""
    from posekit import inference

    model = network_of(options, num_keypoints).to(inference.pick_device(options.device))
    return model if options.compile else inference.for_evaluation(model, bf16=options.bf16)


def _compiling(options: Arguments) -> dict[str, bool]:
    return {"compile": True, "bf16": options.bf16} if options.compile else {}


def _pckh(dataset: Any, result: Any) -> Any:
    from posekit import metrics

    people = result.people
    return metrics.pckh(
        result.predictions.keypoints, people.keypoints, visibility=people.visibility,
        head_box=dataset.with_people(people).head_box,
    )  # fmt: skip


def predict(options: Arguments) -> int:
    from posekit import inference
    from posekit.data import read_image
    from posekit.skeletons import SKELETONS

    refuse_model(options, read_settings(options.set))
    _refuse_target(options.out)
    skeleton = SKELETONS[options.skeleton]
    picture = read_image(options.image)
    found = inference.predict_image(
        _evaluated(options, skeleton.num_keypoints), picture, options.box or None, skeleton=skeleton,
        flip_test=not options.no_flip_test, device=options.device, **_compiling(options),
    )  # fmt: skip
    people = [
        {name: [*map(float, point), float(s)] for name, point, s in zip(skeleton.keypoints, points, scores)}
        for points, scores in zip(found.keypoints, found.scores)
    ]
    if options.out:
        from posekit.course.figures import as_png, write_bytes
        from posekit.viz import draw_people

        drawn = draw_people(picture, found.keypoints, visibility=found.scores > options.threshold, skeleton=skeleton)
        write_bytes(options.out, as_png(drawn))
    lines = [f"{name:<16} {x:8.1f} {y:8.1f}  {s:.2f}" for person in people for name, (x, y, s) in person.items()]
    print_result(options, people, "\n".join(lines))
    return 0


def complexity(options: Arguments) -> int:
    whole = {"published": options.published, "zoo": options.zoo}
    asked = sum(whole.values()) + bool(options.models)
    if asked > 1 or not (asked or options.json):  # JSON of no network is the comparison with the published figures
        raise UsageError("name a network, or ask for --published or --zoo, one of the three")
    if options.zoo:
        from posekit.experiments import zoo

        path = zoo.write_zoo()
        print_result(options, {"file": str(path)}, path)
    elif options.models:
        _network_costs(options)
    else:
        _published_costs(options)
    return 0


def _published_costs(options: Arguments) -> None:
    from posekit.experiments import cost_tables, costs

    compared = costs.compare_all()
    if options.figure:
        from posekit.course.figures import as_png, write_bytes
        from posekit.viz import style

        style(apply=True)
        write_bytes(options.figure, as_png(cost_tables.published_figure(compared)))
    print_result(options, cost_tables.published_json(compared), cost_tables.published_text(compared))


def _network_costs(options: Arguments) -> None:
    from posekit import analysis, create_model
    from posekit.experiments import cost_tables

    settings, layers = read_settings(options.set), (options.convention or "mac") if options.layers else ""
    facts, lines = [], []
    for name in options.models:
        options.model = name
        with analysis.shapes_only():
            model = create_model(name, **network_config(options, settings))
        found = analysis.complexities(model)
        shown = {options.convention: found[options.convention]} if options.convention else found
        facts.append(cost_tables.network_json(name, shown, layers=layers))
        lines.append(cost_tables.network_text(name, shown, layers=layers))
    print_result(options, facts if len(facts) > 1 else facts[0], "\n".join(lines))


def export(options: Arguments) -> int:
    from posekit import inference

    made = inference.export_onnx(network_of(options, options.num_keypoints), options.out, check=options.check)
    facts = {"file": str(made.path), "megabytes": made.megabytes, "outputs": made.outputs, "error": made.error}
    agrees = "" if made.error is None else f"; ONNX Runtime agrees with torch within {made.error:.0e}"
    print_result(options, facts, f"{made.path}: {made.megabytes:.1f} MB, gives {', '.join(made.outputs)}{agrees}")
    return 0


def _box(text: str) -> list[float]:
    numbers = [float(part) for part in text.split(",")]
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"{text}: give x,y,width,height in pixels")
    return numbers


def add_verbs(verbs: Any) -> None:
    """``evaluate``, ``predict``, ``complexity`` and ``export``."""
    example = "posekit evaluate tiny_hrnet --weights mannequin --scenes 100"
    one = add_verb(verbs, "evaluate", evaluate, "score a network on a dataset", example)
    one.add_argument("model", help=MODEL_HELP)
    one.add_argument("--weights", help=f"{WEIGHTS_HELP}; an untrained network without")
    one.add_argument("--annotations", type=Path, help="COCO file; the embedded dataset when not named")
    one.add_argument("--images", type=Path, help="folder of the pictures")
    one.add_argument("--boxes", type=Path, metavar="FILE", help="people as a detector found them, COCO box results")
    one.add_argument("--head-boxes", type=Path, metavar="MAT", help="of MPII's people (mpii_gt_val.mat): also PCKh")
    one.add_argument("--split", default="val", choices=("train", "val", "test"), help="of the embedded dataset")
    one.add_argument("--no-flip-test", action="store_true")
    one.add_argument("--workers", type=int, default=0, help="processes that cut crops, beside each that predicts (0)")
    one.add_argument("--bf16", action="store_true", help=BF16_HELP)
    one.add_argument("--compile", action="store_true", help=COMPILE_HELP)
    one.add_argument("--save", type=Path, metavar="FILE", help="write the detections as a COCO result file")
    add_network_options(one)
    add_builder_options(one)
    add_mannequin_options(one, scenes=500)

    example = "posekit predict hrnet_w32 photo.jpg --weights w32.pth --box 120,40,180,400 --out drawn.png"
    one = add_verb(verbs, "predict", predict, "picture in, skeletons out", example)
    one.add_argument("model", help=MODEL_HELP)
    one.add_argument("image", help="a picture")
    one.add_argument("--weights", required=True, help=WEIGHTS_HELP)
    one.add_argument(
        "--box", action="append", type=_box, metavar="X,Y,W,H", help="a person, in pixels; repeat for more"
    )
    one.add_argument("--out", type=Path, help="write the picture with skeletons")
    one.add_argument("--threshold", type=float, default=0.2, help="least score of a keypoint that is drawn")
    one.add_argument("--skeleton", default="coco17", choices=("coco17", "mpii16", "crowdpose14"))
    one.add_argument("--no-flip-test", action="store_true")
    one.add_argument("--bf16", action="store_true", help=BF16_HELP)
    one.add_argument("--compile", action="store_true", help=COMPILE_HELP)
    add_network_options(one)
    add_builder_options(one)

    one = add_verb(verbs, "complexity", complexity, "parameters and multiply-adds", "posekit complexity hrnet_w32")
    one.add_argument("models", nargs="*", metavar="MODEL", help="names that posekit.list_models() gives")
    one.add_argument("--convention", choices=("mac", "official", "mmcv", "transpose"), help="one alone")
    one.add_argument("--layers", action="store_true", help="one line per module")
    one.add_argument("--published", action="store_true", help="every printed figure of the sources beside ours")
    one.add_argument("--figure", type=Path, metavar="PNG", help="with --published, also draw them")
    one.add_argument("--zoo", action="store_true", help="write the table of all networks, data/zoo.md")
    add_network_options(one, device=False)
    add_builder_options(one)

    example = "posekit export hrnet_w32 w32.onnx --weights w32.pth --check"
    one = add_verb(verbs, "export", export, "write a network as an ONNX file", example)
    one.add_argument("model", help=MODEL_HELP)
    one.add_argument("out", type=Path, metavar="OUT", help="the file")
    one.add_argument("--weights", help=WEIGHTS_HELP)
    one.add_argument("--num-keypoints", type=int, help="as our file of weights says, otherwise 17")
    one.add_argument("--check", action="store_true", help="run it in ONNX Runtime and compare with torch first")
    add_network_options(one, device=False)
    add_builder_options(one)
