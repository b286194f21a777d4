"""A borrowed machine: what trains and scores runs where only a few packages are installed.

Every other package of this environment is refused, in the interpreter and in the workers it starts, by a
``sitecustomize`` that comes first on the path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
ENOUGH = {"torch", "numpy", "scipy", "PIL", "pandas", "safetensors", "tqdm"}
# What those need themselves.
THEIRS = {
    "functorch", "torchgen", "triton", "nvidia", "sympy", "isympy", "mpmath", "networkx", "jinja2", "markupsafe",
    "fsspec", "filelock", "typing_extensions", "dateutil", "six", "pytz", "tzdata", "packaging", "setuptools",
    "pkg_resources", "posekit",
}  # fmt: skip
# Rooms of floors 0 to 4 and the command line; the course and its pictures stay at home.
ROOMS = (
    "annotations",
    "codecs",
    "metrics",
    "models",
    "data",
    "analysis",
    "training",
    "inference",
    "experiments",
    "cli",
)
NEVER = {"cv2", "matplotlib", "pycocotools", "papermill", "IPython", "ipywidgets", "nbformat", "seaborn", "anywidget"}

REFUSER = """
import sys
from importlib.machinery import PathFinder
REFUSED = frozenset({names!r})
class Poor(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in REFUSED else super().find_spec(name, path, target)
sys.meta_path[:] = [Poor if finder is PathFinder else finder for finder in sys.meta_path]
"""


def installed() -> set[str]:
    """Top-level modules of this environment."""
    names = {
        entry.name.split(".")[0]
        for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        for entry in Path(folder).iterdir()
        if entry.suffix in ("", ".py", ".so") and "-" not in entry.name
    }
    return {name for name in names if not name.startswith(("__", "_distutils_hack"))}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A function that runs Python as it would run there; its standard output."""
    folder = tmp_path_factory.mktemp("elsewhere")
    refused = installed() - ENOUGH - THEIRS
    assert refused >= NEVER, "the tests' own environment lacks what is to be refused"
    (folder / "sitecustomize.py").write_text(REFUSER.format(names=sorted(refused)))
    data = folder / "data"
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "POSEKIT_DATA": str(data), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=folder, check=False
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    run.data = data
    return run


def test_what_is_refused_is_not_there(elsewhere):
    code = "import scipy, PIL\ntry:\n    import cv2\nexcept ModuleNotFoundError as e:\n    print(e)"
    assert elsewhere("-c", code).strip() == "No module named 'cv2'"


def test_every_module_but_the_course_can_be_imported(elsewhere):
    paths = [ROOT / "posekit" / "geometry.py", ROOT / "posekit" / "skeletons.py"]
    paths += [path for room in ROOMS for path in sorted((ROOT / "posekit" / room).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    names = [name for name in names if not name.endswith("__main__")]
    assert len(names) > 100
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(len(sys.modules))"
    assert int(elsewhere("-c", code)) > len(names)


def test_a_package_that_is_not_there_is_recorded_as_absent():
    from posekit.experiments import environment

    found = environment.versions(("no-such-package", "numpy"))
    assert found["no-such-package"] == "absent" and found["numpy"] == np.__version__


@pytest.mark.timeout(900)  # half a minute of one core, but it starts three interpreters that import torch
def test_an_ablation_runs_and_draws_the_same_pictures(elsewhere, tmp_path):
    """From an empty cache: pictures are written and cut by Pillow, and a worker trains under the same refusal."""
    out = elsewhere(
        "-m", "posekit", "ablate", "hrnet_or_simple_baseline", "--profile", "smoke", "--seeds", "2", "--device", "auto",
        "--budget-minutes", "5", "--out", str(tmp_path / "runs"), "--json",
    )  # fmt: skip
    assert json.loads(out)["open"] == 0
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("result.json"))]
    assert len(results) == 4
    for result in results:
        assert 0 <= result["metrics"]["mean OKS"] <= 100

    from posekit.data import Mannequin

    ours = Mannequin("val", level="bib", view="balanced", scenes=12, root=tmp_path / "ours", progress=False)
    theirs = Mannequin("val", level="bib", view="balanced", scenes=12, root=elsewhere.data, progress=False)
    assert theirs.folder.parent == elsewhere.data and (theirs.folder / "images").is_dir()
    assert np.array_equal(ours.pictures(), theirs.pictures())
    bytes_of = [(data.folder / "images" / "000000.png").read_bytes() for data in (ours, theirs)]
    assert bytes_of[0] != bytes_of[1], "both were written by one library"
    for name in ("keypoints", "visibility", "box", "area"):
        assert np.array_equal(getattr(ours.people, name), getattr(theirs.people, name)), name


def test_masks_are_written_as_pycocotools_writes_them():
    from pycocotools import mask as rle

    from posekit.data.mannequin.records import mask_box, run_lengths

    rng = np.random.default_rng(0)
    for case in range(60):
        mask = np.zeros(rng.integers(1, 200, 2), bool)
        for y, x in rng.integers(0, mask.shape, (4, 2)):
            mask[y : y + rng.integers(1, 90), x : x + rng.integers(1, 90)] ^= True
        mask ^= (case % 3 == 0) & (rng.random(mask.shape) < 0.05)
        mask[0, 0] |= case % 5 == 0 or not mask.any()
        mask |= case == 7
        code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert run_lengths(mask) == code["counts"].decode()
        assert mask_box(mask) == rle.toBbox(code).tolist()
