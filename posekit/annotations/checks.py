"""Every problem of an annotation file at once: the answer to "why is my AP 0?"."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posekit.annotations.check_people import Table, check_coordinates, check_scoring, tabulate
from posekit.annotations.parsing import OPTIONAL_IN_IMAGES, describe_fault, load_json
from posekit.annotations.reading import find_skeleton
from posekit.annotations.types import AnnotationError
from posekit.skeletons import Skeleton

Severity = Literal["error", "warning"]
# What the last bytes of a whole picture hold.
_ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}


@dataclass(frozen=True)
class Problem:
    """One finding. ``severity`` "error": reading fails or scores are wrong; "warning": worth a look."""

    severity: Severity
    record: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.record}: {self.problem}; {self.remedy}"


@dataclass
class Findings:
    """Problems as they are found; the same problem of many records becomes one with the first records' names."""

    source: str
    rows: dict[tuple[Severity, str, str], list[str]] = field(default_factory=dict)

    def add(self, severity: Severity, record: str, problem: str, remedy: str) -> None:
        self.rows.setdefault((severity, problem, remedy), []).append(record)

    def about_file(self, severity: Severity, problem: str, remedy: str) -> None:
        self.add(severity, self.source, problem, remedy)

    def about_rows(self, severity: Severity, bad: Any, name: Callable[[int], str], problem: str, remedy: str) -> None:
        for n in np.flatnonzero(bad):
            self.add(severity, name(int(n)), problem, remedy)

    @contextmanager
    def guarded(self, step: str) -> Iterator[None]:
        """A file may be broken in ways nobody thought of; a check that trips over it is a finding, not a crash."""
        try:
            yield
        except Exception as error:
            what = f"{step} could not be checked to the end ({type(error).__name__}: {error})"
            self.about_file("error", what, "mend the other problems and check again")

    def problems(self) -> list[Problem]:
        found = []
        for (severity, problem, remedy), records in self.rows.items():
            shown = "; ".join(records[:3]) + (f" and {len(records) - 3} more" if len(records) > 3 else "")
            found.append(Problem(severity, shown, problem, remedy))
        return sorted(found, key=lambda p: p.severity != "error")


def check_annotations(
    path: str | os.PathLike, *, image_dir: str | os.PathLike | None = None, detections: str | os.PathLike | None = None
) -> list[Problem]:
    """List every problem of an annotation file, and of the pictures and detections that go with it.

    It names what makes reading fail and what makes AP 0, -1 or wrong without a word: nobody labelled, areas absent
    or taken from boxes, categories and image ids that do not meet, coordinates normalised, exchanged or left in crop
    pixels, equal scores. It never raises, whatever the files hold.

    Args:
        path: COCO keypoint annotation file.
        image_dir: folder of the pictures: are they there, whole, and of the size the file says.
        detections: COCO result file to be scored against the annotations.

    Returns:
        Problems, errors first; empty when there is nothing to say.
    """
    findings = Findings(str(path))
    try:
        document = load_json(Path(path))
    except AnnotationError as error:
        findings.about_file("error", *_split(error, str(path)))
        return findings.problems()
    except Exception as error:
        findings.about_file("error", f"cannot be read ({type(error).__name__}: {error})", "give an annotation file")
        return findings.problems()
    table = None
    with findings.guarded("the file"):
        table = _check_document(document, findings, None if image_dir is None else Path(image_dir))
    if detections is not None:
        from posekit.annotations.check_detections import check_detections

        about_detections = Findings(str(detections))
        with about_detections.guarded("the detections"):
            check_detections(Path(detections), table, about_detections)
        return sorted(findings.problems() + about_detections.problems(), key=lambda p: p.severity != "error")
    return findings.problems()


def _split(error: AnnotationError, source: str) -> tuple[str, str]:
    """Problem and remedy of a reader's sentence "source: problem; remedy"."""
    problem, _, remedy = str(error).removeprefix(f"{source}: ").partition("; ")
    return problem, remedy or "mend the file"


def _check_document(document: Any, findings: Findings, image_dir: Path | None) -> Table | None:
    if not isinstance(document, Mapping):
        results = (
            isinstance(document, list) and document and isinstance(document[0], Mapping) and "score" in document[0]
        )
        kind = "a list of results" if results else f"a {type(document).__name__}"
        findings.about_file("error", f"not an annotation file: it holds {kind}", "give the file of ground truth")
        return None
    sections: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    for key in sections:
        section = document.get(key)
        if not isinstance(section, list):
            findings.about_file("error", f"it has no list '{key}'", "a COCO file has images, annotations, categories")
        elif not section:
            findings.about_file("error", f"the list '{key}' is empty", "fill it")
        else:
            sections[key] = section
    skeleton = None
    with findings.guarded("the categories"):
        skeleton = _check_categories(sections["categories"], findings)
    sizes: dict = {}
    with findings.guarded("the images"):
        sizes = _check_images(sections["images"], findings, image_dir)
    category_ids = frozenset(
        c["id"] for c in sections["categories"] if isinstance(c, Mapping) and isinstance(c.get("id"), int)
    )
    table = tabulate(sections["annotations"], skeleton, category_ids, sizes, findings)
    if len(table.name):
        with findings.guarded("the annotations"):
            check_scoring(table, findings)
        with findings.guarded("the coordinates"), np.errstate(over="ignore", invalid="ignore"):
            check_coordinates(table, findings)
    return table


def _check_categories(categories: list, findings: Findings) -> Skeleton | None:
    if not categories:
        return None
    try:
        return find_skeleton(categories, findings.source, None)[1]
    except AnnotationError as error:
        findings.about_file("error", *_split(error, findings.source))
        return None


def _check_images(images: list, findings: Findings, image_dir: Path | None) -> dict:
    """{id: (width, height)} of the images that have an id; NaN for sizes the file does not give."""
    sizes: dict = {}
    for n, image in enumerate(images):
        name = f"image at index {n}"
        if fault := describe_fault(image, {"id": 0}):
            findings.add("error", name, *fault.split("; ", 1))
            continue
        name = f"image {image['id']}"
        if fault := describe_fault(image, {}, OPTIONAL_IN_IMAGES):
            findings.add("error", name, *fault.split("; ", 1))
        if image["id"] in sizes:
            findings.add("error", name, "the id occurs twice", "give every image its own id")
        given = [image.get(key) for key in ("width", "height")]
        if all(isinstance(v, int | float) and v > 0 for v in given):
            sizes[image["id"]] = tuple(float(v) for v in given)
        else:
            sizes[image["id"]] = (np.nan, np.nan)
            findings.add(
                "warning", name, "has no positive 'width' and 'height'", "add them; cropping needs no other file"
            )
        file_name = image.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            findings.add("warning", name, "has no 'file_name'", "add it, or the picture cannot be found")
        elif image_dir is not None:
            _check_picture(image_dir / file_name, sizes[image["id"]], name, findings)
    return sizes


def _check_picture(path: Path, size: tuple[float, float], name: str, findings: Findings) -> None:
    from PIL import Image

    if not path.is_file():
        findings.add(
            "error", f"{name} ({path.name})", "the picture is not in the folder", "fetch it, or correct its name"
        )
        return
    try:
        with Image.open(path) as picture:
            actual, kind = picture.size, picture.format
        if ending := _ENDINGS.get(kind or ""):
            with path.open("rb") as file:
                file.seek(-min(64, path.stat().st_size), os.SEEK_END)
                if ending not in file.read():
                    findings.add("error", f"{name} ({path.name})", "the picture is cut short", "fetch it again")
    except Exception:
        findings.add("error", f"{name} ({path.name})", "the picture cannot be opened", "fetch it again")
        return
    if not any(np.isnan(size)) and actual != tuple(size):
        problem = f"the picture is {actual[0]} x {actual[1]}, the file says {size[0]:.0f} x {size[1]:.0f}"
        findings.add("error", f"{name} ({path.name})", problem, "correct the size, or annotate this very picture")
