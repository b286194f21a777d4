"""The claims table: complete, consistent with the published tables, and made of what the ledger holds."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from ledger_rows import make_row

from posekit.experiments import (
    EXPERIMENTS,
    NOT_RUN,
    Cell,
    Judgement,
    LedgerError,
    Measurement,
    Row,
    Scope,
    claims,
    claims_json,
    environment,
    forest,
    format_claims,
    ledger,
    lines,
    published_rows,
    run,
    summary,
    verdict_counts,
)
from posekit.experiments.summary import NOT_HERE, way


def test_every_claim_of_the_sources_has_a_row():
    found = [claim.id for claim in claims()]
    expected = [
        f"{letter}{i:02d}" for letter, n in (("H", 17), ("D", 11), ("S", 10), ("U", 3)) for i in range(1, n + 1)
    ]
    assert found == expected
    assert all(claim.claim and claim.published and claim.kinds and claim.test for claim in claims())


@pytest.mark.parametrize(
    ("claim", "column", "values"),
    [
        ("H02", "ap", ["70.8", "71.9", "73.4"]),
        ("H05", "ap", ["73.4", "74.4"]),
        ("H07", "gflops", ["8.90", "7.10"]),
        ("H12", "ap", ["77.4", "77.0"]),
        ("H14", "ap", ["68.6", "69.4"]),
        ("D09", "ap", ["69.4", "70.4", "69.9"]),
        ("S06", "ap_post", ["46.7", "48.4", "65.3", "67.1"]),
        ("S08", "ap_hard", ["55.6", "56.2", "55.6"]),
    ],
)
def test_references_select_the_published_numbers(claim, column, values):
    row = next(c for c in claims() if c.id == claim)
    assert [r[column] for r in published_rows(row)] == values


def test_every_reference_resolves():
    for claim in claims():
        assert bool(published_rows(claim)) == bool(claim.published_file)


def test_unrun_claims_say_so(tmp_path):
    """What was not run is "not run yet", what needs the real pictures "not testable here"; both with their commands."""
    table = claims(folder=tmp_path)
    for shown, claim in zip(claims_json(table), table):
        assert {word for words in shown["by_kind"].values() for word in words} <= {NOT_RUN, NOT_HERE}
        words = {entry["kind"]: entry["verdict"] for entry in shown["pending"]}
        assert words == {kind: NOT_HERE if kind == "paper" else NOT_RUN for kind in claim.kinds}
        assert all(entry["commands"] for entry in shown["pending"] if entry["kind"] == "paper")
    assert verdict_counts(table) == {
        NOT_HERE: sum("paper" in claim.kinds for claim in table),
        NOT_RUN: sum(len(claim.kinds) - ("paper" in claim.kinds) for claim in table),
    }
    (s03,) = (shown for shown in claims_json(table) if shown["id"] == "S03")
    assert s03["pending"][0]["commands"] == ["posekit ablate srpose_head --profile quick"]


RUNS = [make_row(seed) for seed in (0, 1)]
RESTS_ON = tuple(row.digest for row in RUNS)


def make_comparison(differences: dict[str, tuple[float, float, float]], **changes) -> Row:
    """A recorded comparison over five seeds: cell -> (mean, low, high), seen where the interval lies above zero."""
    words = {
        name: "seen" if low > 0 else "not seen" if high < 0 else OPEN for name, (_, low, high) in differences.items()
    }
    config = {"ablation": "dpn_table3", "seeds": [1, 2, 3, 4, 5], **changes.pop("config", {})}
    verdict = words[min(words)] if len(set(words.values())) == 1 else OPEN
    return make_row(
        1, test="dpn_table3", claims=("D04",), kind="trained", scope=Scope("Mannequin, face", "quick", "tiny_dpn"),
        config=config, config_hash=ledger.config_hash(config), verdict=verdict, rests_on=RESTS_ON, intervals={},
        reason="All of it at length.", metrics={f"detectable, {name}": 1.5 for name in differences},
        cells=tuple(Cell(n, m, words[n], "+1.3", (low, high)) for n, (m, low, high) in differences.items()), **changes,
    )  # fmt: skip


OPEN = "undecided in reduced form"
DIFFERENCES = {"a": (2.0, 1.0, 3.0), "b": (0.2, -1.0, 1.4), "c": (-2.0, -3.0, -1.0), "d": (0.1, 0.05, 0.15)}


def test_a_comparison_of_many_cells_is_counted_in_the_list_and_taken_apart_on_request(tmp_path):
    controlled = make_row(3, test="a_cue", claims=("D04",), kind="controlled", verdict="mechanism shown", cells=())
    ledger.append(tmp_path, [*RUNS, controlled, make_comparison(DIFFERENCES)])
    (claim,) = (c for c in claims(folder=tmp_path) if c.id == "D04")
    listed, shown = format_claims([claim]), format_claims([claim], detail=True)
    assert "controlled: MECHANISM SHOWN" in listed
    assert "trained: UNDECIDED IN REDUCED FORM [Mannequin, face; quick; network: tiny_dpn; 5 seeds]" in listed
    flat = " ".join(listed.split())
    assert "2 of 4 cells hold, 1 fall the other way; differences from -2.0 to +2.0." in flat
    assert "All of it at length" not in listed
    assert "b: +0.2 [-1, +1.4], published +1.3: undecided in reduced form (1.5 would have been seen)" in shown
    assert "c: -2 [-3, -1], published +1.3: not seen\n" in shown
    assert "$ posekit ablate dpn_table3" in shown
    assert "4 intervals of 95 %" in listed
    (plain,) = claims_json([claim])
    assert plain["by_kind"] == {"controlled": ["mechanism shown"], "trained": [OPEN]}
    trained = next(v for v in plain["verdicts"] if v["kind"] == "trained")
    assert (trained["cells_that_hold"], trained["seeds"], len(trained["cells"])) == (2, [1, 2, 3, 4, 5], 4)
    assert trained["runs"][1:] == [row.digest for row in RUNS]


def test_what_stands_is_the_newest_configuration(tmp_path):
    """Recorded again with another number of cells or seeds, a test speaks once."""
    older = make_comparison({"a": (2.0, 1.0, 3.0)})
    newer = make_comparison({"a": (0.2, -1.0, 1.4)}, config={"again": True}, commit="1" * 40)
    ledger.append(tmp_path, [*RUNS, older, newer])
    (claim,) = (c for c in claims(folder=tmp_path) if c.id == "D04")
    assert [row.digest for row in claim.verdicts] == [newer.digest]
    assert [line.verdict for line in lines([claim]) if line.kind == "trained"] == [OPEN]


def test_seeds_that_disagree_are_listed_apart(tmp_path):
    ledger.append(tmp_path, [make_row(0), make_row(1), make_row(2, verdict="contradicted")])
    (claim,) = (c for c in claims(folder=tmp_path) if c.id == "S10")
    assert [(line.verdict, line.seeds) for line in lines([claim])] == [("reproduced", 2), ("contradicted", 1)]


def test_the_verb_alone_lists_every_claim_with_its_runs(capsys):
    from posekit.cli import main

    assert main(["claims", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main(["claims", "list", "--json"]) == 0
    assert alone == json.loads(capsys.readouterr().out)
    assert len(alone) == 41
    recorded = {row.digest for row in ledger.read(environment.DATA / "ledger")}
    assert all(set(verdict["runs"]) <= recorded for shown in alone for verdict in shown["verdicts"])
    assert any(verdict["scope"]["dataset"] for shown in alone for verdict in shown["verdicts"])


def test_every_word_of_the_ledger_falls_one_way_and_has_a_mark_that_needs_no_colour():
    for word in (*ledger.VERDICTS, NOT_RUN):
        assert way(word) in ("for", "against", "open", "absent") and word in forest.LOOKS
    assert len({(marker, face == "none") for marker, _, face in forest.LOOKS.values()}) == len(forest.LOOKS)
    assert way("reproduced under convention official") == "for"


def test_a_recorded_verdict_reaches_the_table_with_its_scope(tmp_path):
    ledger.append(tmp_path, [make_row(0), make_row(1)])
    claim = next(c for c in claims(folder=tmp_path) if c.id == "S10")
    assert claim.pending == ()
    assert "bound: REPRODUCED [ideal heatmaps; quick; network: none; 2 seeds]" in format_claims([claim])
    (shown,) = claims_json([claim])
    assert json.loads(json.dumps(shown))["verdicts"][0]["runs"] == [make_row(0).digest]


def test_unknown_claim_in_the_ledger_is_refused(tmp_path):
    ledger.append(tmp_path, [make_row(0, claims=("X99",))])
    with pytest.raises(LedgerError, match="X99"):
        claims(folder=tmp_path)


def test_every_test_names_claims_of_its_kind():
    kinds = {claim.id: claim.kinds for claim in claims()}
    for experiment in EXPERIMENTS.values():
        assert all(experiment.kind in kinds[name] for name in experiment.claims), experiment.name
        assert {"smoke", "quick"} <= set(experiment.profiles)


def test_what_was_not_run_is_named_beside_what_was(tmp_path):
    """D02 has two controlled tests on figures; with rows of one, the other is named with its command."""
    row = make_row(3, test="a_cue", claims=("D02",), kind="controlled", verdict="mechanism shown", cells=())
    row = dataclasses.replace(row, test="left_right_reach", scope=Scope("Mannequin, face", "quick", "tiny_dpn"))
    found = summary._unrun_tests(*_one_line("D02", row))
    assert ("controlled", "left_right_bib_reach") in found and ("controlled", "left_right_reach") not in found
    assert all(kind == "controlled" for kind, _ in found)


def _one_line(claim, row):
    claim = next(c for c in claims() if c.id == claim)
    return claim, [summary.Line(claim, "controlled", row.verdict, (row,))]


def test_an_ablation_is_found_by_its_name_and_one_arm_of_it_decides_nothing(tmp_path):
    with pytest.raises(LedgerError, match="hrnet_or_simple_baseline compares seed by seed; give two or more"):
        run("hrnet_or_simple_baseline", profile="smoke", seeds=[101], folder=tmp_path)
    with pytest.raises(LedgerError, match="one arm of an ablation"):
        run("training")


def test_what_each_arm_reached_stands_beside_the_differences():
    """A difference to an arm that learned nothing is to be seen as that."""
    claim = next(claim for claim in claims() if claim.id == "H03")
    (shown,) = (found for found in claims_json([claim])[0]["verdicts"] if found["test"] == "hrnet_branches")
    assert list(shown["arms"]) == ["1/4", "1/8", "1/16"] and {len(ap) for ap in shown["arms"].values()} == {5}
    text = format_claims([claim], detail=True)
    for name, ap in shown["arms"].items():
        assert f"{name} reached AP {np.mean(ap):.1f}, from {min(ap):.1f} to {max(ap):.1f} over seeds" in text
    high, low = (np.mean(shown["arms"][name]) for name in ("1/4", "1/8"))
    cell = next(cell for cell in shown["cells"] if cell["name"] == "AP: 1/4 minus 1/8")
    assert cell["measured"] == pytest.approx(high - low)


def test_a_row_of_an_earlier_definition_says_what_it_lacks(tmp_path):
    (new,) = run("detail_crowded", profile="smoke", seeds=[0])
    before = {name: value for name, value in new.metrics.items() if not name.startswith("growth")}
    old = dataclasses.replace(new, metrics=before)
    ledger.append(tmp_path, [old, dataclasses.replace(old, seed=1)])
    with pytest.raises(
        LedgerError, match=r"detail_crowded\.jsonl, seed 0: the row has no 'growth.*record it again with"
    ):
        lines(claims(folder=tmp_path))


def test_a_damaged_folder_or_a_missing_run_ends_the_table_with_a_sentence(tmp_path):
    with pytest.raises(LedgerError, match="no folder"):
        claims(folder=tmp_path / "nowhere")
    assert ledger.read(tmp_path / "nowhere") == []
    (tmp_path / "file").touch()  # like a folder without permission, it cannot be listed, and is not empty
    with pytest.raises(LedgerError, match=r"/file: the ledger cannot be listed \(Not a directory\); .*name another"):
        ledger.read(tmp_path / "file")
    ledger.append(tmp_path, [make_comparison(DIFFERENCES)])
    with pytest.raises(LedgerError, match=r"dpn_table3\.jsonl, seed 1: a run that this comparison rests on"):
        claims(folder=tmp_path)
    (tmp_path / "dpn_table3.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(LedgerError, match=r"dpn_table3\.jsonl: not text at byte 0"):
        claims(folder=tmp_path)


def test_unknown_tests_and_profiles_are_named():
    with pytest.raises(LedgerError, match="oks_scale"):
        run("nonsense")
    with pytest.raises(LedgerError, match="quick"):
        run("oks_scale", profile="huge")


def test_verdict_comes_from_the_measurement_alone():
    oks_scale = EXPERIMENTS["oks_scale"]
    measured = oks_scale.measure(oks_scale.profiles["smoke"], 0)
    assert oks_scale.judge(measured).verdict == "contradicted"
    a, b = "largest difference, s^2 = area", "largest difference, s = box diagonal"
    swapped = Measurement({**measured.metrics, a: measured.metrics[b], b: measured.metrics[a]})
    judged: Judgement = oks_scale.judge(swapped)
    assert judged.verdict == "reproduced"


@pytest.mark.realdata
def test_ground_truth_through_a_codec_scores_as_the_reference_evaluator_says(realdata, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from posekit.annotations import read_people, write_detections
    from posekit.codecs import GaussianHeatmap
    from posekit.experiments.ground_truth import decode_ground_truth, score

    source = realdata / "coco" / "test_coco.json"
    people = read_people(source)
    codec = GaussianHeatmap((256, 192), stride=16, centre="subpixel", decoder="argmax")
    decoded = decode_ground_truth(people, codec)
    write_detections(tmp_path / "found.json", decoded.detections)
    ground = COCO(str(source))
    evaluator = COCOeval(ground, ground.loadRes(str(tmp_path / "found.json")), "keypoints")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert score(people, codec).stats.tolist() == evaluator.stats.tolist()
    assert 0.3 < evaluator.stats[0] < 0.9
    sharp = GaussianHeatmap((256, 192), stride=4, centre="subpixel", decoder="dark", window=None)
    assert np.abs(decode_ground_truth(people, sharp).errors).max() < 0.05
