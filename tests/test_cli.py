"""The command line: examples that parse, one sentence for what cannot be done, exit codes, JSON."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posekit.cli import build_parser, main
from posekit.skeletons import COCO17

NOTEBOOKS = Path(__file__).parent / "notebooks"


def verbs(parser, path=()):
    """Every verb with its parser."""
    groups = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    for group in groups:
        for name, sub in group.items():
            yield from verbs(sub, (*path, name))
    if path and not groups:
        yield " ".join(path), parser


VERBS = dict(verbs(build_parser()))


def test_the_verbs_of_the_design_are_there():
    first = {name.split()[0] for name in VERBS}
    verbs_of_design = "course score data claims train evaluate predict complexity export bench"
    assert set(verbs_of_design.split()) <= first
    assert {"data check", "data mannequin", "data download", "claims list", "claims show"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example_that_parses(verb):
    example = re.search(r"example: posekit (.+)", VERBS[verb].epilog).group(1)
    options = build_parser().parse_args(shlex.split(example))
    assert example.startswith(verb)
    assert callable(options.run)


@pytest.mark.parametrize("group", sorted({name.split()[0] for name in VERBS if " " in name}))
def test_a_group_shows_an_example_of_its_verbs(group, capsys):
    with pytest.raises(SystemExit):
        main([group, "--help"])
    example = re.search(r"example: posekit (.+)", capsys.readouterr().out).group(1)
    assert example.startswith(f"{group} ") and callable(build_parser().parse_args(shlex.split(example)).run)


def test_benchmarks_answer_in_json(tmp_path, monkeypatch, capfd):
    from posekit.course import parameters

    folder = tmp_path / "tests" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "bench_one.py").write_text(
        "import sys; print('a table'); [open(f, 'w').write('{\"ms\": 3}') for f in sys.argv[2:]]"
    )
    (folder / "bench_two.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(parameters, "project_root", lambda: tmp_path)
    assert main(["bench", "--json"]) == 1
    shown = capfd.readouterr()
    assert json.loads(shown.out) == {"one": {"ms": 3}, "two": None}
    assert "a table" in shown.err and "failed: two" in shown.err
    assert main(["bench", "one"]) == 0
    assert "a table" in capfd.readouterr().out


@pytest.fixture
def files(tmp_path):
    """Two people in two pictures, one detection right and one a little off."""
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 180, (2, 17, 2))
    people = [
        {
            "id": i + 1,
            "image_id": i + 1,
            "category_id": 1,
            "iscrowd": 0,
            "num_keypoints": 17,
            "area": 20000.0,
            "bbox": [10.0, 10.0, 180.0, 180.0],
            "keypoints": np.c_[points[i], np.full(17, 2)].ravel().tolist(),
        }
        for i in range(2)
    ]
    truth = {
        "images": [{"id": i, "height": 200, "width": 200, "file_name": f"{i}.png"} for i in (1, 2)],
        "annotations": people,
        "categories": [
            {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []},
        ],
    }
    found = [
        {
            "image_id": i + 1,
            "category_id": 1,
            "score": 0.9 - i / 10,
            "keypoints": np.c_[points[i] + 9 * i, np.ones(17)].ravel().tolist(),
        }
        for i in range(2)
    ]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(found))
    return tmp_path / "gt.json", tmp_path / "dt.json"


def test_score_prints_what_pycocotools_finds(files, capsys):
    assert main(["score", *map(str, files), "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)["stats"]
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(files[0]))
    judge = COCOeval(truth, truth.loadRes(str(files[1])), "keypoints")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert list(ours.values()) == judge.stats.tolist()
    assert 0 < ours["AP"] < 1


def test_score_without_areas_takes_the_share_of_boxes(files, capsys):
    gt, dt = files
    content = json.loads(gt.read_text())
    for person in content["annotations"]:
        person["area"] = 0.53 * person["bbox"][2] * person["bbox"][3]
    gt.write_text(json.dumps(content))
    assert main(["score", str(gt), str(dt), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["stats"]
    for person in content["annotations"]:
        del person["area"]
    gt.write_text(json.dumps(content))
    assert main(["score", str(gt), str(dt), "--json"]) == 2
    assert "area='box'" in capsys.readouterr().err
    assert main(["score", str(gt), str(dt), "--area", "box", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stats"] == expected


def test_a_damaged_run_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POSEKIT_DATA", str(tmp_path / "data"))
    line = ["train", "tiny_deeppose", "--recipe", "quick", "--out", str(tmp_path / "run"), "--scenes", "6"]
    line += ["--set", "batch_size=4", "--set", "samples=8"]
    assert main(line) == 0
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"cut short")
    capsys.readouterr()
    assert main(line) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "posekit: cannot read the checkpoint" in last and "resume=False" in last


def test_check_says_what_is_wrong_and_exits_with_one(files, capsys):
    assert main(["data", "check", str(files[0])]) == 0
    broken = files[0].with_name("broken.json")
    content = json.loads(files[0].read_text())
    content["annotations"][0]["keypoints"] = content["annotations"][0]["keypoints"][:-1]
    broken.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["data", "check", str(broken), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["severity"] == "error"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("score no.json no.json", "no.json"),
        ("course --profile paper", "use 'smoke'"),
        ("course 99", "names no notebook"),
        ("course --set sead=1", "no parameter 'sead'"),
        ("complexity resnext", "no network is called 'resnext'"),
        ("claims verify --rows 0", "ask for at least 1"),
        ("claims show H99", "there is no claim 'H99'"),
        ("ablate dpn_table9", "there is no ablation 'dpn_table9'"),
        ("ablate", "name an ablation, or all"),
        ("ablate dpn_table2 --jobs 0", "--jobs is a number of runs at a time, 1 or more, not 0"),
        ("ablate dpn_table2 --budget-minutes nan", "--budget-minutes is a time above 0, not nan"),
        ("ablate dpn_table2 --budget-minutes -1", "--budget-minutes is a time above 0, not -1"),
        ("ablate --freeze --record --merge nowhere", "--freeze and --merge do not go together"),
        ("ablate dpn_table2 --freeze --bring nowhere", "--freeze and --bring do not go together"),
        ("ablate dpn_table2 --merge nowhere", "leave out names and --seeds"),
        ("ablate --merge nowhere", "nowhere holds no archive runs-1.zip"),
        ("bench nothing", "there is no benchmark 'nothing'"),
        ("evaluate tiny_hrnet --annotations gt.json", "--images"),
        ("train tiny_hrnet --out x --set samplez=1", "a recipe has no 'samplez'"),
        ("train tiny_hrnet --out x --set samples", "write key=value"),
        ("train tiny_hrnet --out x --set lr=fast", "lr is float, not 'fast'"),
        ("train tiny_hrnet --out x --set optimizer=sgd", "optimizer is one of 'adam', 'adamw', not 'sgd'"),
        ("train tiny_hrnet --out x --set milestones=3", "milestones is tuple[int, ...], not 3"),
        ("train tiny_hrnet --out x --set centre=middle", "centre is one of 'rounded', 'subpixel' | None, not 'middle'"),
        ("train tiny_hrnet --out x --set augmentation=0.5", "augmentation is Augmentation | None, not 0.5"),
        ('train tiny_hrnet --out x --set augmentation={"flap":1}', "unknown augmentation key flap"),
        ("train tiny_hrnet --out x --input-size 7 9", "multiples of"),
        ("train tiny_hrnet --out x --device cuda:99", "there is no GPU for device 'cuda:99'"),
        ("evaluate resnext", "no network is called 'resnext'"),
        ("evaluate tiny_hrnet --weights nowhere.pth", "nowhere.pth: there are no such weights"),
        ("evaluate tiny_hrnet --device gpu", "there is no device 'gpu'"),
        ("train tiny_hrnet --out x --init nowhere.pth", "nowhere.pth: there are no such weights"),
        (
            "evaluate tiny_dpn --set dilation=ones",
            "tiny_dpn has no option 'dilation'; its options are dilations, modules",
        ),
        ("evaluate tiny_dpn --weights mannequin --set dilations=ones", "dilations='decreasing' and not 'ones'"),
        ("complexity tiny_hrnet --set weights=mannequin", "tiny_hrnet has no option 'weights'"),
        ("export resnext out.onnx", "no network is called 'resnext'"),
        ("evaluate tiny_hrnet --images pictures", "--images without annotations: say with --annotations who"),
        ("evaluate tiny_hrnet --head-boxes heads.mat", "--head-boxes without annotations"),
        ("train tiny_hrnet --out x --images pictures", "--images without annotations: say with --train-annotations"),
        ("evaluate tiny_hrnet --annotations no.json --images .", "no.json: cannot be read (No such file or directory)"),
        ("evaluate bottomup_r50", "bottomup_r50 finds people in whole pictures (bottom-up)"),
        ("train tiny_bottomup --out x", "take a top-down network"),
        ("evaluate tiny_hrnet --save /dev/null/found.json", "/dev/null/found.json: cannot be written ("),
        ("evaluate tiny_hrnet --save .", ".: cannot be written (it is a folder); name a file in it"),
        ("predict tiny_hrnet no.png --weights mannequin --out /dev/null/a.png", "/dev/null/a.png: cannot be written"),
        ("export tiny_hrnet /dev/null/a.onnx", "/dev/null/a.onnx: cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(line, says, capsys):
    assert main(line.split()) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert shown.out == ""


def test_an_empty_list_is_nobodys_annotations(tmp_path, capsys):
    file = tmp_path / "gt.json"
    for text in ("[]", "\ufeff [ ]\n"):
        file.write_text(text, encoding="utf-8")
        assert main(["evaluate", "tiny_hrnet", "--annotations", str(file), "--images", str(tmp_path)]) == 2
        assert f"{file} is an empty list, so it has nobody in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("unlabelled", "evaluated", "trained"),
    [
        (None, "gt.json: nobody is in it; label people", "gt.json: nobody is in it; label people"),
        (2, "gt.json: of 2 people in it nobody has a labelled keypoint", "gt.json: of 2 people in it nobody has"),
        (1, None, "gt.json: 1 of its 2 people can be trained on, which does not fill one batch of 4"),
    ],
)
def test_a_file_with_nobody_to_crop_is_named(files, unlabelled, evaluated, trained, capsys):
    gt = files[0]
    content = json.loads(gt.read_text())
    content["annotations"] = [] if unlabelled is None else content["annotations"]
    for person in content["annotations"][: unlabelled or 0]:
        person.update(keypoints=[0] * 51, num_keypoints=0)
    gt.write_text(json.dumps(content))
    places = ["--images", str(gt.parent), "--device", "cpu"]
    if evaluated:
        assert main(["evaluate", "tiny_deeppose", "--annotations", str(gt), "--weights", "mannequin", *places]) == 2
        assert evaluated in capsys.readouterr().err
    line = ["train", "tiny_deeppose", "--recipe", "quick", "--set", "batch_size=4", "--out", str(gt.parent / "run")]
    assert main([*line, "--train-annotations", str(gt), "--val-annotations", str(gt), *places]) == 2
    assert trained in capsys.readouterr().err


def test_a_network_without_weights_is_called_untrained(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POSEKIT_DATA", str(tmp_path / "data"))
    line = ["evaluate", "tiny_deeppose", "--scenes", "2", "--json", "--save", str(tmp_path / "new" / "found.json")]
    assert main(line) == 0
    shown = capsys.readouterr()
    assert "no --weights: the network is untrained\n" in shown.err and "AP" in json.loads(shown.out)
    assert main([*line, "--weights", "mannequin"]) == 0
    assert "untrained" not in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["found.json"]


def test_all_among_the_names_is_all_and_another_codes_runs_are_not_used(tmp_path, monkeypatch, capsys):
    """What one code left is used by that code alone, also where nothing is recorded."""
    from posekit.experiments import environment
    from posekit.experiments.ablations import ABLATIONS, run

    seen = []

    def look(ablations, *, runs, **options):
        seen.append(([a.name for a in ablations], runs))
        return run.Outcome([], {}, 0)

    monkeypatch.setattr(run, "run_ablations", look)
    for code in ("a" * 40, "b" * 40, "a" * 40):
        monkeypatch.setattr(environment, "code_id", lambda code=code: code)
        assert main(["ablate", "dpn_table2", "all", "--out", str(tmp_path)]) == 0
    (names, first), (_, other), (_, again) = seen
    assert names == list(ABLATIONS)
    assert first.parent == other.parent == tmp_path and first == again != other


def test_course_runs_a_notebook_and_fails_with_one(tmp_path, capsys):
    places = ["--out", str(tmp_path / "nb"), "--figures", str(tmp_path / "fig"), "--profile", "smoke"]
    line = ["course", str(NOTEBOOKS / "91_widget.ipynb"), str(NOTEBOOKS / "93_error.ipynb"), *places]
    assert main([*line, "--json"]) == 1
    shown = capsys.readouterr()
    assert [(r["notebook"], r["ok"]) for r in json.loads(shown.out)] == [
        ("91_widget.ipynb", True),
        ("93_error.ipynb", False),
    ]
    assert "cell error-wrong: ZeroDivisionError" in shown.err


def test_claims_and_complexity_answer_in_json(capsys):
    assert main(["claims", "list", "--json"]) == 0
    claims = json.loads(capsys.readouterr().out)
    assert len(claims) > 20
    assert main(["complexity", "hrnet_w32", "--convention", "official", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["giga"] == pytest.approx(7.10, abs=0.03)  # HRNet, Table 1
    assert cost["params"] == pytest.approx(28.5e6, rel=2e-3)


def test_options_of_a_network_are_set_and_every_convention_counted(capsys):
    counts = []
    for setting in ("modules=1", "modules=2"):
        assert main(["complexity", "tiny_dpn", "--set", setting, "--set", "dilations=[1,2,4,2,1]", "--json"]) == 0
        cost = json.loads(capsys.readouterr().out)
        assert set(cost["conventions"]) == {"mac", "official", "mmcv", "transpose"}
        assert cost["conventions"][cost["convention"]]["giga"] == cost["giga"]
        counts.append(cost["params"])
    assert counts[0] < counts[1]


def test_a_file_of_ours_is_enough_to_evaluate_and_to_go_on_training(tmp_path, monkeypatch, capsys):
    """Options set in training come back from the weights alone."""
    from posekit import create_model

    monkeypatch.setenv("POSEKIT_DATA", str(tmp_path / "data"))
    line = ["train", "tiny_hrnet", "--recipe", "quick", "--scenes", "6", "--json"]
    line += ["--set", "batch_size=4", "--set", "samples=4", "--input-size", "64", "64"]
    assert main([*line, "--set", "width=8", "--set", "exchange=final", "--out", str(tmp_path / "one")]) == 0
    file = tmp_path / "one" / "weights.safetensors"
    wanted = {"width": 8, "exchange": "final", "input_size": [64, 64]}
    assert wanted.items() <= create_model("tiny_hrnet", weights=file).config.items()
    assert main(["evaluate", "tiny_hrnet", "--weights", str(file), "--scenes", "2", "--json"]) == 0
    assert main([*line[:-3], "--weights", str(file), "--out", str(tmp_path / "two")]) == 0
    again = create_model("tiny_hrnet", weights=tmp_path / "two" / "weights.safetensors")
    assert wanted.items() <= again.config.items()


def test_a_closed_pipe_is_no_error():
    run = subprocess.run(
        f"{sys.executable} -m posekit.cli claims list | head -n 1", shell=True, capture_output=True, text=True
    )
    assert "Traceback" not in run.stderr
    assert run.stdout.strip()


def test_every_recipe_has_a_name_on_the_command_line():
    from posekit import training
    from posekit.cli.train import RECIPES

    built = {
        name
        for name in training.__all__
        if getattr(getattr(training, name), "__annotations__", {}).get("return") == "Recipe"
    }
    assert set(RECIPES) == built
    assert all(getattr(training, name)().name == name for name in RECIPES)


def test_training_starts_from_a_backbone_and_from_nothing_else(tmp_path, monkeypatch, capsys):
    """The head keeps its first weights, which follow from the seed; a whole network is refused."""
    import torch

    from posekit import create_model
    from posekit.training import load_tensors

    monkeypatch.setenv("POSEKIT_DATA", str(tmp_path / "data"))
    torch.manual_seed(9)
    other = create_model("tiny_deeppose").state_dict()
    torch.save(
        {k.removeprefix("backbone."): v for k, v in other.items() if k.startswith("backbone.")}, tmp_path / "b.pth"
    )
    torch.save(other, tmp_path / "whole.pth")
    line = ["train", "tiny_deeppose", "--recipe", "quick", "--scenes", "6", "--json", "--set", "lr=1e-12"]
    line += ["--set", "batch_size=4", "--set", "samples=4", "--set", "weight_decay=0"]
    weights = []
    for name in ("one", "two"):
        assert main([*line, "--out", str(tmp_path / name), "--init", str(tmp_path / "b.pth")]) == 0
        weights.append(load_tensors(tmp_path / name / "weights.safetensors")[0])
    shown = capsys.readouterr()
    assert "b.pth: backbone only" in shown.err
    for key, value in other.items():
        assert torch.equal(weights[0][key], weights[1][key])
        if key.endswith("conv1.weight") or (key.startswith("head.") and key.endswith("weight")):
            assert torch.allclose(weights[0][key], value, atol=1e-6) == key.startswith("backbone."), key
    assert main([*line, "--out", str(tmp_path / "three"), "--init", str(tmp_path / "whole.pth")]) == 2
    assert "start from it with --weights" in capsys.readouterr().err


def test_tensorboard_gets_every_number_or_says_how_to_install_it(tmp_path, monkeypatch):
    import types

    from posekit.training import tensorboard

    written = []
    writer = types.SimpleNamespace(add_scalar=lambda *item: written.append(item), flush=lambda: None)
    opened = lambda folder, purge_step: written.append((folder, purge_step)) or writer  # noqa: E731
    fake = types.SimpleNamespace(SummaryWriter=opened)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    log = tensorboard(tmp_path)
    log({"step": 7, "loss": 0.5, "val": {"AP": 0.25}})
    assert written == [(str(tmp_path / "tensorboard"), 7), ("loss", 0.5, 7), ("val/AP", 0.25, 7)]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'posekit\[tensorboard\]'"):
        tensorboard(tmp_path)
