"""The commands for claims that need the real datasets: each one runs, shortened, on a miniature of the real format."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import torch

from posekit import create_model
from posekit.cli import build_parser, main
from posekit.data import Mannequin
from posekit.experiments import claims, paper
from posekit.skeletons import COCO17, CROWDPOSE14, MPII16

ALL = [command for commands in paper.COMMANDS.values() for command in commands]
SIBLINGS = {
    "hrnet_w32": "tiny_hrnet",
    "hrnet_w48": "tiny_hrnet",
    "simple_baseline_r50": "tiny_simple_baseline",
    "simcc_hrnet_w32": "tiny_simcc",
    "dpn4_64": "tiny_dpn",
    "r50_srpose": "tiny_srpose",
    "hrnet_w32_srpose": "tiny_srpose",
}


def test_every_claim_that_needs_real_pictures_has_its_commands():
    assert {claim.id for claim in claims() if "paper" in claim.kinds} == set(paper.COMMANDS)


@pytest.mark.parametrize("command", dict.fromkeys(ALL))
def test_commands_are_understood_as_they_stand(command):
    options = build_parser().parse_args(shlex.split(command)[1:])
    with torch.device("meta"):
        model = create_model(options.model, input_size=options.input_size)
    assert list(model.input_size) == options.input_size


def test_training_and_scoring_belong_together():
    for train, score in zip(ALL[::2], ALL[1::2]):
        out = re.search(r"--out (\S+)", train)[1]
        assert train.startswith("posekit train") and score.startswith("posekit evaluate")
        assert f"--weights {out}/weights.safetensors" in score
        assert train.split()[2:6] == score.split()[2:6]  # network and input size


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        ("D11", ("MPII's test half", "HRNet's for MPII is borrowed", "DeeperCut is not built here")),
        ("S08", ("no easy, medium or hard split",)),
        ("H06", ()),
    ],
)
def test_what_the_commands_leave_open_is_said_with_them(claim, says, capsys):
    assert main(["claims", "show", claim]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(words in shown for words in says)
    assert main(["claims", "show", claim, "--json"]) == 0
    pending = json.loads(capsys.readouterr().out)["pending"]
    assert [entry["note"] for entry in pending if entry["kind"] == "paper"] == [paper.NOTES.get(claim, "")]
    assert bool(says) == (claim in paper.NOTES)


def test_pretraining_is_the_only_difference_of_h05():
    scratch, _, pretrained, _ = paper.COMMANDS["H05"]
    differences = set(pretrained.split()) ^ set(scratch.split())
    assert differences == {"--init", paper.IMAGENET["hrnet_w32"], *(c.split()[-1] for c in (scratch, pretrained))}


def as_crowdpose(content):
    """The same people with CrowdPose's 14 keypoints, a crowd index and no areas."""
    from_coco = [COCO17.index(name) if name in COCO17.keypoints else 0 for name in CROWDPOSE14.keypoints]
    for person in content["annotations"]:
        points = np.array(person["keypoints"]).reshape(17, 3)[from_coco]
        person["keypoints"] = points.ravel().tolist()
        person["num_keypoints"] = int((points[:, 2] > 0).sum())
        del person["area"]
    for picture in content["images"]:
        picture["crowdIndex"] = 0.5
    content["categories"][0]["keypoints"] = list(CROWDPOSE14.keypoints)
    return content


def as_mpii(content):
    """The same people as MPII's list, counting pixels from 1, and the corners of their heads."""
    names = {picture["id"]: picture["file_name"] for picture in content["images"]}
    from_coco = [COCO17.index(name) if name in COCO17.keypoints else 0 for name in MPII16.keypoints]
    people = []
    for person in content["annotations"]:
        points = np.array(person["keypoints"]).reshape(17, 3)[from_coco]
        x, y, w, h = person["bbox"]
        scale = max(w, h) / 200
        people.append({
            "joints": (points[:, :2] + 1).tolist(),
            "joints_vis": (points[:, 2] > 0).astype(int).tolist(),
            "center": [x + w / 2 + 1, y + h / 2 + 1 - 15 * scale],
            "scale": scale,
            "image": names[person["image_id"]],
        })  # fmt: skip
    return people


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    """Folders named and filled as downloads are, a dozen people each, and ImageNet weights of the tiny siblings."""
    from scipy.io import savemat

    root = tmp_path_factory.mktemp("paper")
    drawn = Mannequin("val", level="face", scenes=12)
    content = json.loads(drawn.annotation_file.read_text())

    def put(dataset, files, folders, made):
        (root / paper.DATA / dataset / "annotations").mkdir(parents=True)
        for name in files:
            (root / paper.DATA / dataset / "annotations" / name).write_text(json.dumps(made))
        for folder in folders:
            shutil.copytree(drawn.folder / "images", root / paper.DATA / dataset / folder)

    names = {picture["id"]: picture["file_name"].split("/")[-1] for picture in content["images"]}
    for picture in content["images"]:
        picture["file_name"] = names[picture["id"]]
    put("coco", ("person_keypoints_train2017.json", "person_keypoints_val2017.json"), ("train2017", "val2017"), content)
    boxes = [
        {"image_id": p["image_id"], "category_id": 1, "bbox": p["bbox"], "score": 0.9} for p in content["annotations"]
    ]
    (root / paper.DATA / "coco" / paper.BOXES).write_text(json.dumps(boxes))
    people = as_mpii(content)
    put("mpii", ("mpii_train.json", "mpii_val.json"), ("images",), people)
    corners = np.array([[p["center"], np.add(p["center"], 20)] for p in people])  # (N, corner, xy)
    heads = {"headboxes_src": np.moveaxis(corners, 0, 2)}
    savemat(root / paper.DATA / "mpii" / "annotations" / "mpii_gt_val.mat", heads)
    files = ("mmpose_crowdpose_trainval.json", "mmpose_crowdpose_test.json")
    put("crowdpose", files, ("images",), as_crowdpose(json.loads(json.dumps(content))))
    return root


def shortened(command):
    """The same command for a network of minutes: the tiny sibling, a small crop, one epoch of small batches."""
    words = shlex.split(command)
    words[2] = SIBLINGS[words[2]]
    height, width = map(int, words[4:6])
    words[4:6] = ["64", str(64 * width // height)]
    words += ["--device", "cpu"]
    return words[1:] + (
        ["--set", "epochs=1", "--set", "evaluations=1", "--set", "batch_size=8"] if words[1] == "train" else []
    )


PAIRS = {
    tuple(tuple(shortened(command)[:-2]) for command in pair): pair
    for pair in zip(ALL[::2], ALL[1::2])
    if "w48" not in pair[0]  # its sibling is that of W32
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=lambda pair: re.search(r"paper/(\S+)-seed1", pair[0])[1])
def test_commands_run_on_a_miniature(pair, miniature, monkeypatch, capsys):
    monkeypatch.chdir(miniature)
    train, score = map(shortened, pair)
    if "--init" in train:
        source = create_model(train[1], input_size=[64, 48]).state_dict()
        backbone = {name.removeprefix("backbone."): t for name, t in source.items() if name.startswith("backbone.")}
        torch.save(backbone or source, miniature / train[train.index("--init") + 1])
    assert main([*train, "--json"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["steps"] > 0
    assert main([*score, "--json"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    assert -1 <= found["AP"] <= 1
    assert ("pckh" in found) == ("mpii" in pair[0])
    trained = (
        create_model(score[1], input_size=[64, 48], weights=score[score.index("--weights") + 1])
        if "384" in pair[0]
        else None
    )
    assert trained is None or trained.codec.sigma == 3
