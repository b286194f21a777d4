"""The small trained networks of the package: each says where it comes from, and is as good as its ledger row says."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from posekit import create_model
from posekit.data import Mannequin
from posekit.experiments import environment, ledger
from posekit.experiments.ablations.scoring import score_variants
from posekit.experiments.ablations.weights import LIMIT
from posekit.models import save_weights
from posekit.models.catalog import WEIGHTS

FILES = sorted(WEIGHTS.glob("*.safetensors"))


def facts_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_small_and_says_where_it_comes_from(path):
    facts = facts_of(path)
    assert path.stat().st_size <= LIMIT
    assert facts["command"].startswith(("posekit ", "python -m posekit."))
    assert facts["seed"].isdigit() and 0 < json.loads(facts["metrics"])["AP"] < 100


def test_weight_files_can_be_read_by_others_and_leave_nothing_behind(tmp_path):
    save_weights(create_model("tiny_dpn"), tmp_path / "a.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "b.safetensors").mkdir()
    with pytest.raises(OSError):
        save_weights(create_model("tiny_dpn"), tmp_path / "b.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "plain"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recorded_network_is_the_one_of_its_row(path):
    facts = facts_of(path)
    rows = {row.digest: row for row in ledger.read_file(environment.DATA / "ledger" / "training.jsonl")}
    row = rows[facts["row"]]
    assert row.config["network"] == path.stem and str(row.seed) == facts["seed"]
    assert json.loads(facts["metrics"])["AP"] == row.metrics["AP"]
    net = create_model(path.stem, weights="mannequin", input_size=row.config["input_size"], **row.config["options"])
    scenes = Mannequin("test", level=row.config["data"]["level"], view=row.config["data"]["view"], scenes=60)
    found = score_variants(net, scenes).metrics
    # 60 of the 500 scenes of the row: their sampling error, not the network, sets this margin.
    assert found["mean OKS"] == pytest.approx(row.metrics["mean OKS"], abs=6)
