"""Slider to picture in JupyterLab: from a key press to the changed picture on the screen, in Chromium.

``python tests/benchmarks/bench_widgets.py [--json FILE]``. Wall clock, one notebook, nothing else in the browser. The
flagship slider (notebook 05) draws in the page. Pictures that the kernel draws go through its server and back: the
widget of notebook 04 draws over a kept background, and the floor is a picture that costs next to nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from conftest import NAMES, jupyterlab, opened_page

KEYS = ["ArrowRight", "ArrowLeft"] * 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        sys.exit("no Chromium found")
    rows = {}
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as url:
        for notebook, source, name in (
            ("slider.ipynb", "heatmap_explorer(", "heatmap-resolution slider"),
            ("04_gaussian_targets.ipynb", "explore(", "notebook 04: target and its loss"),
            ("widgets.ipynb", "def bump", "floor: a grey ramp of 256x192"),
        ):
            with opened_page(chromium) as opened:
                opened.open(url, notebook)
                cell = opened.cell(source).last
                cell.locator("canvas.posekit-heatmaps, img.widget-image").wait_for()
                opened.latency(cell, KEYS[:4])
                times = sorted(opened.latency(cell, KEYS))
                rows[name] = {"median_ms": statistics.median(times), "p90_ms": times[int(0.9 * len(times))]}
                print(f"{name:<32} median {rows[name]['median_ms']:6.1f} ms   p90 {rows[name]['p90_ms']:6.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
