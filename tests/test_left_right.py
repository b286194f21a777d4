"""Left and right by view: the mechanics of the comparison, what was recorded, and the trained network's promise."""

from __future__ import annotations

import dataclasses

import pytest

from posekit import create_model, inference
from posekit.data import Mannequin
from posekit.experiments import environment, ledger, left_right
from posekit.models.catalog import mannequin_weights
from posekit.models.checkpoints import read_safetensors


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    return left_right.run_arm("face/front", profile="smoke", seed=1, root=str(folder)), folder


def test_an_arm_trains_on_its_own_views_and_is_asked_about_balanced_ones(smoke):
    run, folder = smoke
    made = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert [name.split("-192x256")[0] for name in made] == ["mannequin-train-face-front", "mannequin-val-face-balanced"]
    assert {"AP", "mean_oks", "confusion_front", "confusion_back", "shoulder"} <= set(run.metrics)


def test_the_table_keeps_one_run_per_arm_and_seed(smoke, tmp_path):
    run, table = smoke[0], tmp_path / "table.json"
    other = dataclasses.replace(run, seed=2)
    for one in (run, other, dataclasses.replace(run, seconds=9.0)):
        left_right.keep(one, table)
    assert left_right.read_table(table) == [dataclasses.replace(run, seconds=9.0), other]
    with pytest.raises(ValueError, match="arms are bib/balanced"):
        left_right.run_arm("bib/upside-down")


def test_learned_and_shortcut_are_different_things(smoke):
    def judged(front: float, back: float):
        metrics = {**smoke[0].metrics, "confusion_front": front, "confusion_back": back}
        return dataclasses.replace(smoke[0], metrics=metrics)

    assert judged(0.05, 0.06).learned and not judged(0.05, 0.06).shortcut
    assert judged(0.05, 0.7).shortcut and not judged(0.05, 0.7).learned
    assert not judged(0.3, 0.3).learned and not judged(0.3, 0.3).shortcut


def test_the_trained_network_keeps_its_promise_on_new_scenes(tmp_path):
    """Scenes of another seed: nothing here was seen in training or when the numbers were recorded."""
    digest = read_safetensors(mannequin_weights("tiny_simple_baseline"))[1]["row"]
    rows = ledger.read_file(environment.DATA / "ledger" / "training.jsonl")
    promised = next(row.metrics for row in rows if row.digest == digest)
    net = create_model("tiny_simple_baseline", weights="mannequin")
    found = inference.evaluate(net, Mannequin("test", scenes=40, seed=7, root=tmp_path), device="cpu").summary()
    assert promised["confusion, back"] <= 100 * left_right.LEARNED
    assert 100 * found["mean_oks"] == pytest.approx(promised["mean OKS"], abs=6)
    assert 100 * found["confusion"] < promised["confusion"] + 6
