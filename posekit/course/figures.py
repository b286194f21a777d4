"""Figures of the course: kept by notebooks, listed in a manifest, compared with the committed ones.

``python -m posekit.course.figures --write`` runs the course and replaces ``figures/``; ``--compare DIR`` compares a
run's figures with them. Nothing else writes ``figures/``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posekit.course.parameters import Setup, project_root
from posekit.files import replacing

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MANIFEST = "manifest.json"
TOLERANCE = 0.02  # mean absolute difference of grey levels, as a share of full scale, on pictures 96 pixels wide
_WIDTH = 96


def write_bytes(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename: the file is whole or not there."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def keep(figure: Any, name: str, *, alt: str, setup: Setup, function: str = "", inputs: Sequence[str] = ()) -> None:
    """Write a figure as ``out_dir/name.png``, show it, and leave its record for the manifest in the cell's output.

    Args:
        figure: matplotlib figure (written at its own size and closed), (H, W, 3) uint8 RGB array, or PNG bytes.
        name: two digits of the notebook and words, ``"05-quantization-bound"``.
        alt: what a reader who cannot see it should know; at least a short sentence.
        setup: of the notebook.
        function: name of the function that drew it, where it is not the cell itself.
        inputs: files or run records that it was drawn from.

    Raises:
        ValueError: a name with other characters, or no alternative text.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"figure name '{name}': use lower-case letters, digits and hyphens, as in '05-error-bound'")
    if len(alt.split()) < 3:
        raise ValueError(f"figure '{name}': alt text {alt!r} says too little; describe what the figure shows")
    png = as_png(figure)
    write_bytes(setup.out_dir / f"{name}.png", png)
    record = {"figure": name, "alt": alt, "function": function, "inputs": list(inputs), "profile": setup.profile}
    show_png(png, alt, record)


def as_png(picture: Any) -> bytes:
    """PNG bytes of a matplotlib figure, an (H, W, 3) uint8 RGB array, or PNG bytes."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, np.ndarray):
        import cv2

        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"picture has shape {picture.shape} and type {picture.dtype}; give (H, W, 3) uint8 RGB")
        flags = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        return cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]), flags)[1].tobytes()
    if not hasattr(picture, "savefig"):
        raise TypeError(f"a drawing function returned {type(picture).__name__}; return a Figure or an RGB array")
    from posekit.viz import figure_png

    return figure_png(picture)


def show_png(png: bytes, alt: str, record: dict[str, Any] | None = None) -> None:
    """Show a PNG as the cell's output, its text twin being the alternative text; outside a notebook do nothing."""
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        return
    import base64

    from IPython.display import display

    bundle = {"image/png": base64.b64encode(png).decode(), "text/plain": f"[figure] {alt}"}
    display(bundle, raw=True, metadata={"image/png": {"alt": alt}, **({"posekit": record} if record else {})})


def manifest(notebooks: Sequence[Path]) -> list[dict[str, Any]]:
    """Records of every figure in executed notebooks, in order, each with its notebook and the id of its cell."""
    records = []
    for path in notebooks:
        for cell in json.loads(path.read_text())["cells"]:
            for output in cell.get("outputs", []):
                record = output.get("metadata", {}).get("posekit")
                if record:
                    records.append({"notebook": f"{path.stem}.ipynb", "cell": cell.get("id", ""), **record})
    names = [record["figure"] for record in records]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"figure name {sorted(twice)[0]!r} is used twice; give each figure its own name")
    return records


def write_manifest(folder: Path, notebooks: Sequence[Path]) -> None:
    """Write ``folder/manifest.json`` for the figures of executed notebooks."""
    content = {"commit": commit(), "figures": manifest(notebooks)}
    write_bytes(folder / MANIFEST, (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def commit() -> str:
    """The checkout's commit, with ``+changes`` when files differ from it; empty outside a checkout."""
    import subprocess

    def git(*words: str) -> str:
        command = ["git", "-C", str(project_root()), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD")
    return head + ("+changes" if head and git("status", "--porcelain", "--", "posekit", "notebooks", "data") else "")


def difference(first: Path, second: Path) -> float:
    """How different two pictures look: 0 for the same, 1 for black against white.

    Both are shrunk to 96 pixels wide, which blurs away what differs between font and library versions, and compared
    by mean absolute difference. Pictures whose proportions differ by over 2 % count as wholly different.
    """
    from PIL import Image

    with Image.open(first) as a, Image.open(second) as b:
        if abs(a.width * b.height / (a.height * b.width) - 1) > 0.02:
            return 1.0
        size = (_WIDTH, max(1, round(_WIDTH * a.height / a.width)))
        small = [np.asarray(p.convert("RGB").resize(size, Image.Resampling.BOX), dtype=np.float32) for p in (a, b)]
    return float(np.abs(small[0] - small[1]).mean() / 255)


def compare(made: Path, committed: Path, *, tolerance: float = TOLERANCE) -> list[str]:
    """One sentence for every figure that is missing, unexpected or looks different; empty if all agree."""
    ours = {p.name for p in made.glob("*.png")}
    theirs = {record["figure"] + ".png" for record in json.loads((committed / MANIFEST).read_text())["figures"]}
    problems = [f"{name} is committed but the course did not make it" for name in sorted(theirs - ours)]
    problems += [f"{name} was made but is not committed; run make figures" for name in sorted(ours - theirs)]
    for name in sorted(ours & theirs):
        if not (committed / name).is_file():
            problems.append(f"{name} stands in the manifest but not in {committed.name}/; run make figures")
            continue
        off = difference(made / name, committed / name)
        if off > tolerance:
            problems.append(f"{name} looks different: mean difference {off:.3f}, tolerance {tolerance:.3f}")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the committed figures from a run of the course, or compare a run with them."""
    parser = argparse.ArgumentParser(prog="python -m posekit.course.figures", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="run the course at quick and replace figures/")
    what.add_argument("--compare", type=Path, metavar="DIR", help="compare DIR's figures with the committed ones")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    options = parser.parse_args(arguments)
    committed = project_root() / "figures"
    if options.write:
        return _write(committed, options.jobs)
    if not (committed / MANIFEST).is_file():
        print("figures/manifest.json is missing; run make figures and commit the result", file=sys.stderr)
        return 1
    problems = compare(options.compare, committed)
    print("\n".join(problems) or f"figures agree ({len(list(options.compare.glob('*.png')))} compared)")
    return bool(problems)


def _write(committed: Path, jobs: int) -> int:
    import shutil

    from posekit.course.report import report
    from posekit.course.runner import run_course

    build = project_root() / "build"
    fresh = build / "figures" / "committed"
    shutil.rmtree(fresh, ignore_errors=True)
    results = run_course(profile="quick", jobs=jobs, out=build / "notebooks" / "figures", figures=fresh)
    print(report(results))
    if not all(result.ok for result in results):
        return 1
    write_manifest(fresh, [result.output for result in results])
    write_bytes(fresh / "times.json", (build / "notebooks" / "figures" / "times.json").read_bytes())
    committed.mkdir(exist_ok=True)
    for stale in {p.name for p in committed.glob("*.png")} - {p.name for p in fresh.glob("*.png")}:
        (committed / stale).unlink()
    for path in fresh.iterdir():
        write_bytes(committed / path.name, path.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
