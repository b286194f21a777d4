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
