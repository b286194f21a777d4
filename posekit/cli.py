"""The command ``posekit``: one verb for each thing that is done from a shell.

Exit codes: 0 done; 1 done, and the answer is bad (a notebook failed, a file has problems, a row cannot be reproduced);
2 not done, with one sentence why; 130 interrupted. ``--json`` prints one JSON value on stdout and nothing else there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Arguments = argparse.Namespace


class UsageError(ValueError):
    """What was asked cannot be done; one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        ours = type(error).__module__.startswith("posekit.")
        if options.traceback or not (ours or isinstance(error, (ValueError, OSError, KeyError, ImportError))):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"posekit: {message}", file=sys.stderr)
        return 2


# Verbs, in the order of --help


def course(options: Arguments) -> int:
    from posekit.course.report import describe, report, times_entry
    from posekit.course.runner import find_notebooks, run_course

    if options.list:
        for path in find_notebooks(options.notebooks):
            print(path.stem)
        return 0
    parameters = {key: value for key in ("seed", "device") if (value := getattr(options, key)) is not None}
    log = sys.stderr if options.json else sys.stdout
    results = run_course(
        options.notebooks,
        profile=options.profile,
        jobs=options.jobs,
        out=options.out,
        figures=options.figures,
        parameters={**parameters, **_settings(options.set)},
        resume=options.resume,
        on_done=lambda result: print(describe(result), file=log, flush=True),
    )
    _print(options, [times_entry(result) for result in results], "\n" + report(results))
    return 0 if all(result.ok for result in results) else 1


def score(options: Arguments) -> int:
    from posekit import metrics

    result = metrics.evaluate_coco(options.ground_truth, options.detections, area=options.area)
    _print(options, json.loads(result.to_json()), result)
    return 0


def data_mannequin(options: Arguments) -> int:
    dataset = _mannequin(options, options.split, options.scenes)
    facts = {
        "annotations": str(dataset.annotation_file),
        "images": str(dataset.folder / "images"),
        "pictures": len(dataset.people.image_ids),
        "people": len(dataset.people),
    }
    text = f"{facts['pictures']} pictures, {facts['people']} people\n{facts['annotations']}\n{facts['images']}"
    _print(options, facts, text)
    return 0


def data_check(options: Arguments) -> int:
    from posekit.annotations import check_annotations

    problems = check_annotations(options.file, image_dir=options.images, detections=options.detections)
    plain = [{name: getattr(p, name) for name in ("severity", "record", "problem", "remedy")} for p in problems]
    _print(options, plain, "\n".join(map(str, problems)) or f"{options.file}: no problem found")
    return 1 if any(p.severity == "error" for p in problems) else 0


def data_download(options: Arguments) -> int:
    from posekit.data.download import fetch

    folder = fetch(options.dataset, options.root, only=tuple(options.only) or None)
    _print(options, {"folder": str(folder)}, folder)
    return 0


def claims_list(options: Arguments) -> int:
    from posekit.experiments import claims, claims_json, format_claims

    found = claims(folder=options.ledger)
    _print(options, claims_json(found), format_claims(found))
    return 0


def claims_show(options: Arguments) -> int:
    from posekit.experiments import claims, claims_json, format_claims, published_rows

    found = [claim for claim in claims(folder=options.ledger) if claim.id.lower() == options.claim.lower()]
    if not found:
        raise UsageError(f"there is no claim '{options.claim}'; posekit claims list names them")
    rows = published_rows(found[0])
    printed = "\n".join("     " + ", ".join(f"{key} {value}" for key, value in row.items() if value) for row in rows)
    text = format_claims(found).rsplit("\n\n", 1)[0]
    _print(options, {**claims_json(found)[0], "published_rows": rows}, f"{text}\n{printed}".rstrip())
    return 0


def claims_verify(options: Arguments) -> int:
    from posekit.experiments import verify

    checked = verify(options.rows, folder=options.ledger)
    plain = [
        {"test": one.row.test, "seed": one.row.seed, "ok": one.ok, "difference": one.difference, "allowed": one.allowed}
        for one in checked
    ]
    lines = [
        f"{'ok' if p['ok'] else 'DIFFERS':<8} {p['test']}, seed {p['seed']}: by {p['difference']:.3g}, "
        f"allowed {p['allowed']:g}"
        for p in plain
    ]
    _print(options, plain, "\n".join(lines) or "the ledger has no rows")
    return 0 if all(one.ok for one in checked) else 1


def claims_run(options: Arguments) -> int:
    from posekit.experiments import run

    rows = run(options.test, profile=options.profile, seeds=options.seeds, record=options.record, folder=options.ledger)
    plain = [{"test": r.test, "seed": r.seed, "verdict": r.verdict, "reason": r.reason} for r in rows]
    _print(options, plain, "\n".join(f"{r.test}, seed {r.seed}: {(r.verdict or '').upper()}. {r.reason}" for r in rows))
    return 0


def train(options: Arguments) -> int:
    from posekit import create_model, training

    recipes = {"quick": training.quick, "quick_ce": training.quick_ce, "hrnet_coco": training.hrnet_coco}
    recipe = recipes[options.recipe]()
    settings = _settings(options.set)
    unknown = sorted(set(settings) - set(recipe.to_dict()))
    if unknown:
        raise UsageError(f"a recipe has no '{unknown[0]}'; it has {', '.join(recipe.to_dict())}")
    if {"epochs", "samples"} & set(settings):  # a run's length is one of the two; naming one drops the other
        settings = {"epochs": None, "samples": None, **settings}
    recipe = training.Recipe.from_dict({**recipe.to_dict(), **settings})
    _refuse_model(options)
    people, held_out = _dataset(options, "train", options.scenes), _dataset(options, "val", options.scenes // 6 or 1)
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
    _print(options, facts, "\n".join([*lines, facts["weights"]]))
    return 0


def evaluate(options: Arguments) -> int:
    from posekit import inference
    from posekit.annotations import write_detections

    _refuse_model(options)
    dataset = _dataset(options, options.split, options.scenes)
    model = _network(options, dataset.skeleton.num_keypoints)
    result = inference.evaluate(
        model, dataset, flip_test=not options.no_flip_test, device=options.device, progress=not options.json
    )
    if options.save:
        write_detections(options.save, result.detections)
    extra = [f"    {k:<18} {v:.4f}" for k, v in result.summary().items() if k.startswith(("mean_oks", "confusion"))]
    _print(options, result.summary(), "\n".join([str(result.result), *extra]))
    return 0


def predict(options: Arguments) -> int:
    from posekit import inference
    from posekit.data import read_image
    from posekit.skeletons import SKELETONS

    skeleton = SKELETONS[options.skeleton]
    picture = read_image(options.image)
    found = inference.predict_image(
        _network(options, skeleton.num_keypoints), picture, options.box or None, skeleton=skeleton,
        flip_test=not options.no_flip_test, device=options.device,
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
    _print(options, people, "\n".join(lines))
    return 0


def complexity(options: Arguments) -> int:
    whole = {"published": options.published, "zoo": options.zoo}
    if sum(whole.values()) + bool(options.models) != 1:
        raise UsageError("name a network, or ask for --published or --zoo, one of the three")
    if options.zoo:
        from posekit.experiments import zoo

        path = zoo.write_zoo()
        _print(options, {"file": str(path)}, path)
    elif options.published:
        _published_costs(options)
    else:
        _network_costs(options)
    return 0


def _published_costs(options: Arguments) -> None:
    from posekit.experiments import cost_tables, costs

    compared = costs.compare_all()
    if options.figure:
        from posekit.course.figures import as_png, write_bytes
        from posekit.viz import style

        style(apply=True)
        write_bytes(options.figure, as_png(cost_tables.published_figure(compared)))
    _print(options, cost_tables.published_json(compared), cost_tables.published_text(compared))


def _network_costs(options: Arguments) -> None:
    from posekit import analysis, create_model
    from posekit.experiments import cost_tables

    chosen = options.convention or "mac"
    facts, lines = [], []
    for name in options.models:
        with analysis.shapes_only():
            model = create_model(name, input_size=options.input_size)
        found = analysis.complexities(model)
        facts.append(cost_tables.network_json(name, found[chosen], layers=options.layers))
        shown = {options.convention: found[options.convention]} if options.convention else found
        lines.append(cost_tables.network_text(name, shown, layers=chosen if options.layers else ""))
    _print(options, facts if len(facts) > 1 else facts[0], "\n".join(lines))


def export(options: Arguments) -> int:
    from posekit import create_model, inference

    model = create_model(
        options.model, input_size=options.input_size, num_keypoints=options.num_keypoints, weights=options.weights
    )
    made = inference.export_onnx(model.eval(), options.out, check=options.check)
    facts = {"file": str(made.path), "megabytes": made.megabytes, "outputs": made.outputs, "error": made.error}
    agrees = "" if made.error is None else f"; ONNX Runtime agrees with torch within {made.error:.0e}"
    _print(options, facts, f"{made.path}: {made.megabytes:.1f} MB, gives {', '.join(made.outputs)}{agrees}")
    return 0


def bench(options: Arguments) -> int:
    import subprocess

    from posekit.course.parameters import project_root

    scripts = sorted((project_root() / "tests" / "benchmarks").glob("bench_*.py"))
    known = {path.stem.removeprefix("bench_"): path for path in scripts}
    unknown = [name for name in options.names if name not in known]
    if unknown or not known:
        raise UsageError(f"there is no benchmark '{''.join(unknown[:1])}'; there are: {', '.join(known) or 'none'}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    failed = []
    for name in options.names or known:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(known[name])], env=environment, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


# What several verbs share


def _print(options: Arguments, plain: Any, text: Any) -> None:
    print(json.dumps(plain, indent=1, allow_nan=False, default=float) if options.json else text)


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
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


def _mannequin(options: Arguments, split: str, scenes: int) -> Any:
    from posekit.data import Mannequin

    return Mannequin(split, level=options.level, view=options.view, scenes=scenes, seed=options.seed)


def _dataset(options: Arguments, split: str, scenes: int) -> Any:
    """The files that were named, otherwise the embedded dataset."""
    annotations = getattr(options, f"{split}_annotations", None) or getattr(options, "annotations", None)
    if annotations is None:
        return _mannequin(options, split, scenes)
    if options.images is None:
        raise UsageError("annotations without pictures: say with --images where the pictures lie")
    from posekit.data import CocoKeypoints

    return CocoKeypoints(annotations, options.images)


def _refuse_model(options: Arguments) -> None:
    """Before a dataset is drawn for minutes: is there such a network, of such a size, and are its weights there?"""
    import torch

    from posekit import create_model
    from posekit.inference import pick_device
    from posekit.models.catalog import mannequin_weights

    pick_device(options.device)
    with torch.device("meta"):
        create_model(options.model, input_size=options.input_size)
    if options.weights == "mannequin":
        mannequin_weights(options.model)
    elif options.weights and not Path(options.weights).is_file():
        raise UsageError(f"{options.weights}: there are no such weights; check the path")


def _network(options: Arguments, num_keypoints: int) -> Any:
    from posekit import create_model

    return create_model(
        options.model, input_size=options.input_size, num_keypoints=num_keypoints, weights=options.weights
    ).eval()


def _box(text: str) -> list[float]:
    numbers = [float(part) for part in text.split(",")]
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"{text}: give x,y,width,height in pixels")
    return numbers


# The parser. Only argparse is needed for it, so --help answers at once.


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every verb's help ends with an example."""
    parser = argparse.ArgumentParser(prog="posekit", description="2D human pose estimation: course, analysis, scores.")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    one = _verb(verbs, "course", course, "run the course's notebooks", "posekit course 05 --profile smoke")
    one.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="number, name or path; all when none is named")
    one.add_argument("--profile", default="quick", help="smoke (does it run?) or quick (as it is meant to be read)")
    one.add_argument("--jobs", type=int, default=2, help="notebooks at a time (2)")
    one.add_argument("--out", type=Path, help="folder of executed notebooks (build/notebooks/PROFILE)")
    one.add_argument("--figures", type=Path, help="folder of figures (build/figures/PROFILE)")
    one.add_argument("--seed", type=int, help="of every notebook (0)")
    one.add_argument("--device", help="auto, cpu or cuda")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a notebook parameter")
    one.add_argument("--resume", action="store_true", help="skip what has been executed from the same source")
    one.add_argument("--list", action="store_true", help="name the notebooks and stop")

    one = _verb(verbs, "score", score, "COCO keypoint scores of a result file", "posekit score gt.json results.json")
    one.add_argument("ground_truth", metavar="GT", help="COCO annotation file")
    one.add_argument("detections", metavar="DETECTIONS", help="COCO result file")
    one.add_argument("--area", default="file", choices=("file", "box"), help="box: 0.53 of it, where areas are absent")

    data = _group(verbs, "data", "make, check or fetch data")
    one = _verb(data, "mannequin", data_mannequin, "render the embedded dataset", "posekit data mannequin --split val")
    one.add_argument("--split", default="train", choices=("train", "val", "test"))
    _add_mannequin(one, scenes=500)
    one = _verb(data, "check", data_check, "list every problem of an annotation file", "posekit data check gt.json")
    one.add_argument("file", metavar="FILE", help="COCO annotation file")
    one.add_argument("--images", metavar="DIR", help="also look for the pictures")
    one.add_argument("--detections", metavar="FILE", help="also look whether these results fit")
    one = _verb(data, "download", data_download, "fetch a real dataset", "posekit data download coco --only val2017")
    one.add_argument("dataset", choices=("coco", "mpii", "crowdpose"))
    one.add_argument("--root", default="data/downloads", help="folder that gets a folder of the dataset's name")
    one.add_argument("--only", action="append", default=[], metavar="PART", help="fetch archives with this in the name")

    claims = _group(verbs, "claims", "what the papers claim and what became of it here")
    one = _verb(claims, "list", claims_list, "every claim with its verdicts", "posekit claims list")
    _add_ledger(one)
    one = _verb(claims, "show", claims_show, "one claim with its published numbers", "posekit claims show H13")
    one.add_argument("claim", help="id, as claims list shows it")
    _add_ledger(one)
    one = _verb(claims, "run", claims_run, "run the test behind claims", "posekit claims run oks_scale --seeds 0 1")
    one.add_argument("test", help="a test's name")
    one.add_argument("--profile", default="quick")
    one.add_argument("--seeds", type=int, nargs="+", default=[0])
    one.add_argument("--record", action="store_true", help="append to the ledger")
    _add_ledger(one)
    one = _verb(claims, "verify", claims_verify, "run recorded rows again", "posekit claims verify --rows 3")
    one.add_argument("--rows", type=int, default=3)
    _add_ledger(one)

    example = "posekit train tiny_hrnet --out build/runs/first --set samples=9000"
    one = _verb(verbs, "train", train, "train a network", example)
    one.add_argument("model", help="a name that posekit.list_models() gives")
    one.add_argument("--out", type=Path, required=True, help="folder of the run; an interrupted run goes on")
    one.add_argument("--recipe", default="quick_ce", choices=("quick", "quick_ce", "hrnet_coco"))
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a field of the recipe")
    one.add_argument("--weights", type=Path, help="first weights, ours or a published file")
    one.add_argument("--train-annotations", type=Path, help="COCO file; the embedded dataset when not named")
    one.add_argument("--val-annotations", type=Path)
    one.add_argument("--images", type=Path, help="folder of the pictures")
    one.add_argument("--restart", action="store_true", help="start again instead of going on")
    _add_network(one)
    _add_mannequin(one, scenes=3000)

    one = _verb(verbs, "evaluate", evaluate, "score a network on a dataset", "posekit evaluate tiny_hrnet --scenes 100")
    one.add_argument("model", help="a name that posekit.list_models() gives")
    one.add_argument("--weights", help="a file, or 'mannequin' for our small trained one")
    one.add_argument("--annotations", type=Path, help="COCO file; the embedded dataset when not named")
    one.add_argument("--images", type=Path, help="folder of the pictures")
    one.add_argument("--split", default="val", choices=("train", "val", "test"), help="of the embedded dataset")
    one.add_argument("--no-flip-test", action="store_true")
    one.add_argument("--save", type=Path, metavar="FILE", help="write the detections as a COCO result file")
    _add_network(one)
    _add_mannequin(one, scenes=500)

    example = "posekit predict hrnet_w32 photo.jpg --weights w32.pth --box 120,40,180,400 --out drawn.png"
    one = _verb(verbs, "predict", predict, "picture in, skeletons out", example)
    one.add_argument("model", help="a name that posekit.list_models() gives")
    one.add_argument("image", help="a picture")
    one.add_argument("--weights", required=True, help="a file, or 'mannequin' for our small trained one")
    one.add_argument(
        "--box", action="append", type=_box, metavar="X,Y,W,H", help="a person, in pixels; repeat for more"
    )
    one.add_argument("--out", type=Path, help="write the picture with skeletons")
    one.add_argument("--threshold", type=float, default=0.2, help="least score of a keypoint that is drawn")
    one.add_argument("--skeleton", default="coco17", choices=("coco17", "mpii16", "crowdpose14"))
    one.add_argument("--no-flip-test", action="store_true")
    _add_network(one)

    one = _verb(verbs, "complexity", complexity, "parameters and multiply-adds", "posekit complexity hrnet_w32")
    one.add_argument("models", nargs="*", metavar="MODEL", help="names that posekit.list_models() gives")
    one.add_argument("--convention", choices=("mac", "official", "mmcv", "transpose"), help="all, in JSON mac")
    one.add_argument("--layers", action="store_true", help="one line per module")
    one.add_argument("--published", action="store_true", help="every printed figure of the sources beside ours")
    one.add_argument("--figure", type=Path, metavar="PNG", help="with --published, also draw them")
    one.add_argument("--zoo", action="store_true", help="write the table of all networks, data/zoo.md")
    _add_network(one, device=False)

    example = "posekit export hrnet_w32 w32.onnx --weights w32.pth --check"
    one = _verb(verbs, "export", export, "write a network as an ONNX file", example)
    one.add_argument("model", help="a name that posekit.list_models() gives")
    one.add_argument("out", type=Path, metavar="OUT", help="the file")
    one.add_argument("--weights", help="a file, or 'mannequin' for our small trained one")
    one.add_argument("--num-keypoints", type=int, default=17)
    one.add_argument("--check", action="store_true", help="run it in ONNX Runtime and compare with torch first")
    _add_network(one, device=False)

    one = _verb(verbs, "bench", bench, "run benchmarks, each beside its peers", "posekit bench codecs", as_json=False)
    one.add_argument("names", nargs="*", metavar="NAME", help="all when none is named")
    return parser


def _verb(
    verbs: Any, name: str, run: Callable[[Arguments], int], does: str, example: str, *, as_json: bool = True
) -> argparse.ArgumentParser:
    one = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=f"example: {example}")
    one.set_defaults(run=run)
    if as_json:
        one.add_argument("--json", action="store_true", help="print JSON")
    return one


def _group(verbs: Any, name: str, does: str) -> Any:
    group = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    return group.add_subparsers(title="verbs", metavar="VERB", required=True)


def _add_mannequin(one: argparse.ArgumentParser, *, scenes: int) -> None:
    group = one.add_argument_group("embedded dataset")
    group.add_argument("--level", default="face", choices=("bib", "face", "natural"))
    group.add_argument("--view", default="balanced", choices=("balanced", "front"))
    group.add_argument("--scenes", type=int, default=scenes, help=f"pictures ({scenes})")
    group.add_argument("--seed", type=int, default=0)


def _add_network(one: argparse.ArgumentParser, *, device: bool = True) -> None:
    one.add_argument("--input-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="the network's own")
    if device:
        one.add_argument("--device", default="auto", help="auto, cpu or cuda")


def _add_ledger(one: argparse.ArgumentParser) -> None:
    one.add_argument("--ledger", type=Path, help="folder of recorded runs (data/ledger)")


if __name__ == "__main__":
    sys.exit(main())
