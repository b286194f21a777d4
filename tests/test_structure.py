"""The house stands: imports go downward, notebooks are tidy, and every name that a notebook uses exists."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIXTURES = sorted((ROOT / "tests").glob("**/notebooks/*.ipynb"))
MODULES = sorted((ROOT / "posekit").rglob("*.py"))

# Every room with the rooms it may import from: all of the floors below, plus what an arrow of DESIGN allows.
FLOORS = [
    {"geometry", "skeletons", "files", "annotations"},
    {"codecs", "metrics"},
    {"models", "data", "analysis", "viz"},
    {"training", "inference"},
    {"experiments"},
    {"course"},
    {"cli", "__main__"},
]
ARROWS = {
    ("__main__", "cli"),
    ("training", "inference"),
    ("annotations", "skeletons"),
    ("annotations", "geometry"),
    ("annotations", "files"),
}


def allowed(room: str) -> set[str]:
    floor = next(i for i, rooms in enumerate(FLOORS) if room in rooms)
    below = set().union(*FLOORS[:floor])
    return below | {room} | {to for origin, to in ARROWS if origin == room}


def imported_rooms(path: Path) -> dict[str, int]:
    """Rooms of posekit that a module imports, anywhere in it, with the line."""
    rooms: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by full name"
            module = node.module or ""
            names = [f"posekit.{alias.name}" for alias in node.names] if module == "posekit" else [module]
        for name in names:
            if name.startswith("posekit."):
                rooms[name.split(".")[1]] = node.lineno
    return rooms


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "posekit").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downward(path):
    room = room_of(path)
    if room == "__init__":
        return
    # The package itself offers these from posekit.models, whichever way they are named.
    alias = {"create_model": "models", "list_models": "models", "load_weights": "models"}
    for name, line in imported_rooms(path).items():
        target = alias.get(name, name)
        if target == "__version__":
            continue
        assert target in allowed(room), f"{path.name}:{line}: {room} may not import {target}"


def test_every_room_stands_on_a_floor():
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms <= set().union(*FLOORS)


def test_the_import_check_sees_a_breach(tmp_path):
    """A check that finds nothing must be able to find something."""
    breach = tmp_path / "breach.py"
    breach.write_text("def late():\n    from posekit.training import fit\n    from posekit import course\n")
    assert imported_rooms(breach) == {"training": 2, "course": 3}
    assert "training" not in allowed("models")
    assert "metrics" not in allowed("codecs")
    assert "inference" in allowed("training")
    assert "training" not in allowed("inference")


# Notebooks


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS + FIXTURES, ids=lambda p: p.stem)
def test_notebooks_are_tidy(path):
    import nbformat

    notebook = json.loads(path.read_text())
    nbformat.validate(nbformat.from_dict(notebook))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"] == {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    assert not {"papermill", "widgets"} & set(notebook["metadata"])
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    assert not [i for i in ids if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", i)], "ids are words: nb05-widget"
    for cell in code_cells(path):
        assert cell["outputs"] == [], f"{cell['id']} keeps outputs"
        assert cell["execution_count"] is None, f"{cell['id']} keeps its execution count"
        assert "papermill" not in cell["metadata"]


@pytest.mark.parametrize("path", NOTEBOOKS + FIXTURES, ids=lambda p: p.stem)
def test_notebooks_have_one_parameters_cell(path):
    from posekit.course.parameters import PARAMETERS

    cells = code_cells(path)
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    assert tagged == [0], "exactly one cell tagged parameters, the first with code"
    body = ast.parse("".join(cells[0]["source"])).body
    assert all(isinstance(node, (ast.Assign, ast.AnnAssign)) for node in body), "parameters, nothing computed"
    names = [node.targets[0].id if isinstance(node, ast.Assign) else node.target.id for node in body]
    assert sorted(names) == sorted(PARAMETERS)
    assert all(isinstance(node.value, ast.Constant) for node in body)


def posekit_names(source: str) -> set[str]:
    """Dotted names of posekit that a source uses: imports, and attributes of what it imported."""
    tree = ast.parse("\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))))
    bound: dict[str, str] = {}
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "posekit":
                    bound[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else "posekit"
                    used.add(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "posekit":
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                used.add(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        chain, inner = [], node
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        if chain and isinstance(inner, ast.Name) and inner.id in bound:
            used.add(".".join([bound[inner.id], *reversed(chain)]))
    return used


def resolves(dotted: str) -> bool:
    """Whether a name exists; below a class or function, only as far as attributes of classes are known."""
    parts = dotted.split(".")
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 1):
        if not hasattr(found, part):
            try:
                found = importlib.import_module(".".join(parts[: i + 1]))
                continue
            except ModuleNotFoundError:
                return False
        found = getattr(found, part)
        if not (isinstance(found, type) or hasattr(found, "__path__") or type(found).__name__ == "module"):
            return True  # an object or a function: what hangs below it is known only when it runs
    return True


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_names_that_notebooks_use_exist(path):
    source = "\n".join("".join(cell["source"]) for cell in code_cells(path))
    missing = sorted(name for name in posekit_names(source) if not resolves(name))
    assert missing == []


def test_the_name_check_sees_a_missing_name():
    names = posekit_names("import posekit as pk\nfrom posekit import metrics\npk.codecs.Gone\nmetrics.oks(1)")
    assert names == {"posekit", "posekit.codecs.Gone", "posekit.codecs", "posekit.metrics", "posekit.metrics.oks"}
    assert not resolves("posekit.codecs.Gone")
    assert not resolves("posekit.gone")
    assert resolves("posekit.metrics.oks")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_links_and_figures_of_notebooks_lead_somewhere(path):
    """Relative links must exist; figures must stand in the manifest, once there is one."""
    text = "\n".join(
        "".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown"
    )
    manifest = ROOT / "figures" / "manifest.json"
    known = {f["figure"] for f in json.loads(manifest.read_text())["figures"]} if manifest.is_file() else None
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" in target:
            continue
        if target.startswith("../figures/"):
            assert known is None or Path(target).stem in known, f"{target} is not made by the course"
        else:
            assert (path.parent / target).exists(), f"{target} leads nowhere"
    for alt in re.findall(r"!\[([^\]]*)\]", text):
        assert len(alt.split()) >= 3, f"a picture's alternative text says too little: {alt!r}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_have_three_to_five_sections(path):
    """Numbered without a gap, and sections that the text sends a reader to are there."""
    text = "\n".join(
        "".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown"
    )
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert 3 <= len(numbers) <= 5
    assert {int(number) for number in re.findall(r"[Ss]ection (\d+)", text)} <= set(numbers)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_exercises_of_notebooks_exist(path):
    from posekit.course.exercises import find
    from posekit.course.exercises.framework import judge

    source = "\n".join("".join(cell["source"]) for cell in code_cells(path))
    ids = set(re.findall(r"""(?:check|solution)\(\s*["']([^"']+)["']""", source))
    assert len(ids) >= 3, "three checked exercises"
    for id in ids:
        exercise = find(id)
        assert judge(exercise, exercise.answer), f"{id} refuses its own answer"
        assert len(exercise.wrong) >= 3, f"{id} needs at least three wrong answers to be tested with"
        for wrong, says in exercise.wrong:
            verdict = judge(exercise, wrong)
            assert verdict.state == "off" and says in verdict.message, f"{id}: {wrong!r} got: {verdict.message}"
