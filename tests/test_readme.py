"""README.md: its generated blocks are those that the committed times and ledger give."""

from __future__ import annotations

import pytest

from posekit.course import readme
from posekit.course.parameters import project_root


def test_generated_blocks_are_up_to_date():
    text = (project_root() / "README.md").read_text()
    assert readme.regenerated(text, project_root()) == text, "run python -m posekit.course.readme"


def test_a_missing_block_is_named():
    with pytest.raises(ValueError, match="no block 'notebooks'"):
        readme.regenerated("# posekit\n", project_root())


def test_the_summary_counts_what_the_ledger_holds():
    """Each test stands once in the counts and once in its claim's row."""
    from posekit.experiments import claims, lines, verdict_counts

    found, table = lines(claims()), claims()
    text = readme.claims_summary()
    counted = [
        row for row in text.splitlines() if row.startswith("| ") and row.split(" | ")[0][2:] in verdict_counts(table)
    ]
    assert sum(int(cell) for row in counted for cell in row.strip("| ").split("|")[1:] if cell.strip()) == len(found)
    for claim in table:
        (row,) = (row for row in text.splitlines() if row.startswith(f"| {claim.id} |"))
        own = [line for line in found if line.claim.id == claim.id]
        assert row.count("; ") == len(own) - 1 + claim.claim.count("; ")
        assert all(f"{line.kind}: {line.verdict.split(' under ')[0]}" in row for line in own)
