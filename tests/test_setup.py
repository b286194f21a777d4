"""The build files agree: one list of packages, one torch pin, one range of Pythons."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def conda_sections() -> tuple[list[str], list[str]]:
    """Packages from conda and the lines of the pip section of environment.yml."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with JupyterLab")
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return [d for d in listed if isinstance(d, str)], next(d["pip"] for d in listed if isinstance(d, dict))


def name_of(requirement: str) -> str:
    return re.split(r"[\s<>=!~\[;]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def test_conda_gives_python_and_pip_and_nothing_else():
    conda, pip = conda_sections()
    assert [name_of(d) for d in conda] == ["python", "pip"]
    assert pip == ["-c constraints.txt", "-e .[dev]"]


def test_conda_python_lies_inside_requires_python():
    from packaging.specifiers import SpecifierSet

    conda = SpecifierSet(conda_sections()[0][0].removeprefix("python"))
    project = SpecifierSet(PROJECT["project"]["requires-python"])
    versions = [f"3.{minor}.{patch}" for minor in range(8, 20) for patch in (0, 9)]
    assert [v for v in versions if v in conda] == [v for v in versions if v in project] != []
    assert {"3.11.0", "3.12.0", "3.13.0"} <= set(versions) & {v for v in versions if v in project}


def test_no_package_is_listed_twice():
    extras = PROJECT["project"]["optional-dependencies"]
    listed = [
        name_of(d) for d in [*PROJECT["project"]["dependencies"], *(d for extra in extras.values() for d in extra)]
    ]
    listed = [name for name in listed if name != "posekit"]
    assert len(listed) == len(set(listed))


def test_the_torch_pin_is_one_and_inside_the_bound():
    from packaging.requirements import Requirement

    pins = [
        next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")),
        next(d for d in PROJECT["tool"]["uv"]["constraint-dependencies"] if d.startswith("torch==")),
    ]
    assert len(set(pins)) == 1
    bound = next(Requirement(d) for d in PROJECT["project"]["dependencies"] if name_of(d) == "torch")
    assert pins[0].removeprefix("torch==") in bound.specifier
    assert "2.11.0" in bound.specifier
    assert "2.15.0" not in bound.specifier  # without the upper bound pip takes gigabytes of CUDA on a CPU machine


def test_widget_sources_are_packaged():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["posekit"]
    packaged = {path for pattern in patterns for path in (ROOT / "posekit").glob(pattern)}
    sources = {path for path in (ROOT / "posekit").rglob("*") if path.suffix in (".js", ".css")}
    assert packaged == sources != set()


def test_import_posekit_is_light():
    """Modules that take a tenth of a second or more are loaded on use: `import posekit` must not pull them in."""
    code = (
        "import sys, time; start = time.process_time(); import posekit; used = time.process_time() - start; "
        "heavy = {'torch', 'cv2', 'scipy', 'matplotlib', 'pandas', 'pycocotools', 'papermill', 'IPython', "
        "'ipywidgets', 'PIL', 'seaborn'} & set(sys.modules); print(sorted(heavy), len(sys.modules), used)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("[] "), run.stdout


@pytest.mark.parametrize("name", ["torch", "cv2", "papermill", "matplotlib"])
def test_help_needs_none_of_the_heavy_packages(name):
    code = f"import sys, posekit.cli as c; c.build_parser(); sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_make_has_the_targets_that_people_are_told():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"setup", "course", "lab", "figures", "test", "lint", "bench"} <= targets
    assert ".ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()
    ci = (ROOT / ".ci/run").read_text()
    assert all(re.search(rf"\bmake {target}\b", ci) for target in ("course", "lint", "test"))
    assert (ROOT / ".ci/run").stat().st_mode & 0o111, ".ci/run must be executable"
