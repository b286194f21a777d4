"""Start here: the map of the course, the history of the field, and where a pixel is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from posekit.course.parameters import project_root
from posekit.viz.style import COLOURS, GRID, INK, MUTED, PANEL


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course: its file's stem, a short label, and the question it belongs to."""

    stem: str
    label: str
    question: str

    @property
    def written(self) -> bool:
        return (project_root() / "notebooks" / f"{self.stem}.ipynb").is_file()


QUESTIONS = ("What is asked?", "What does a network predict?", "What does it look like inside?", "Does it hold?")
LESSONS = (
    Lesson("00_start_here", "Start\nhere", QUESTIONS[0]),
    Lesson("01_regression_vs_heatmap", "Regression\nvs heatmap", QUESTIONS[1]),
    Lesson("02_coco_annotations", "COCO\nannotations", QUESTIONS[0]),
    Lesson("03_oks_and_ap", "OKS\nand AP", QUESTIONS[0]),
    Lesson("04_gaussian_targets", "Gaussian\ntargets", QUESTIONS[1]),
    Lesson("05_quantization_and_decoding", "Quantization\n& decoding", QUESTIONS[1]),
    Lesson("06_receptive_fields", "Receptive\nfields", QUESTIONS[2]),
    Lesson("07_hrnet", "HRNet", QUESTIONS[2]),
    Lesson("08_resolution_and_input_size", "Resolution\n& input size", QUESTIONS[2]),
    Lesson("09_complexity", "Complexity", QUESTIONS[2]),
    Lesson("10_sr_head_and_srpose", "SR head,\nSRPose", QUESTIONS[1]),
    Lesson("11_top_down_bottom_up", "Top-down,\nbottom-up", QUESTIONS[2]),
    Lesson("12_mpii_and_crowdpose", "MPII,\nCrowdPose", QUESTIONS[0]),
    Lesson("13_benchmark_and_ledger", "Benchmark,\nledger", QUESTIONS[3]),
)


def course_map() -> Any:
    """The notebooks in order, one row per question; a notebook that is not written yet is drawn with a dashed edge."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyBboxPatch

    figure, ax = plt.subplots(figsize=(11.0, 4.0))
    for row, question in enumerate(QUESTIONS):
        colour = list(COLOURS.values())[row]
        ax.axhspan(row - 0.42, row + 0.42, color=colour, alpha=0.07, linewidth=0)
        ax.text(-0.65, row, question.replace(" a network", "\na network").replace(" look", "\nlook"),
                ha="right", va="center", color=INK, fontsize=10)  # fmt: skip
    centres = [(i, QUESTIONS.index(lesson.question)) for i, lesson in enumerate(LESSONS)]
    ax.plot(*zip(*centres), color=GRID, linestyle="-", marker="", linewidth=3, zorder=1)
    for lesson, (x, y) in zip(LESSONS, centres):
        colour = list(COLOURS.values())[y]
        style = {"facecolor": colour, "edgecolor": colour} if lesson.written else {"facecolor": PANEL,
                 "edgecolor": colour, "linestyle": (0, (3, 2))}  # fmt: skip
        ax.add_patch(FancyBboxPatch((x - 0.42, y - 0.3), 0.84, 0.6, boxstyle="round,pad=0.03", zorder=2, **style))
        ax.text(x, y, f"{lesson.stem[:2]}\n{lesson.label}", ha="center", va="center", fontsize=6.5, zorder=3,
                color="white" if lesson.written else INK)  # fmt: skip
    ax.set(xlim=(-2.9, len(LESSONS) - 0.4), ylim=(len(QUESTIONS) - 0.5, -0.55))
    ax.axis("off")
    return figure


@dataclass(frozen=True)
class Milestone:
    """One system of the field's history.

    Args:
        year: of first publication.
        name: as it is called.
        problem: what stood in the way before it.
        answer: what it did about it.
        module: file of ``posekit/models`` that builds it, or "" if it is not built here.
    """

    year: int
    name: str
    problem: str
    answer: str
    module: str = ""


HISTORY = (
    Milestone(1973, "Pictorial structures", "a body has too many poses to match as one template",
              "parts joined by springs: each part matches locally, the springs judge the whole"),
    Milestone(2013, "DeepPose", "hand-made part detectors see too little of the picture",
              "one deep network looks at the whole person and regresses (x, y) of every joint", "deeppose"),
    Milestone(2015, "Tompson et al.", "a coordinate is a hard thing for a convolutional network to output",
              "predict a heatmap per joint: a picture of where it might be"),
    Milestone(2016, "CPM", "a local patch cannot tell a left wrist from a right one",
              "stages that refine the maps, each seeing further than the last"),
    Milestone(2016, "DeeperCut", "several people stand in one picture",
              "detect all joints first, then cut the graph between them into people"),
    Milestone(2016, "Hourglass", "evidence lies at many scales at once",
              "down to 4x4 and up again with skip connections, several times over", "hourglass"),
    Milestone(2018, "CPN", "hidden and ambiguous joints are drowned by easy ones",
              "a coarse GlobalNet, then a RefineNet trained on the hardest joints", "cpn"),
    Milestone(2018, "SimpleBaseline", "pose networks had become intricate; what is really needed?",
              "a ResNet and three deconvolutions", "simple_baseline"),
    Milestone(2019, "HRNet", "resolution that was thrown away has to be guessed back",
              "keep a high-resolution branch throughout, exchange with coarser ones all the time", "hrnet"),
    Milestone(2021, "PSA", "attention modules squeeze away the detail that pixel-wise regression needs",
              "attention that keeps full resolution along one of its axes", "psa"),
    Milestone(2022, "ViTPose", "must a pose network be designed for poses at all?",
              "a plain vision transformer, very large and well pre-trained, with a small decoder"),
)  # fmt: skip


def model_file(milestone: Milestone) -> str:
    """Link to the file that builds it, or ``"not built"``; a file that does not exist (yet) is not linked."""
    path = f"posekit/models/{milestone.module}.py"
    if milestone.module and (project_root() / path).is_file():
        return f"[`{path}`](../{path})"
    return "not built"


def history_table() -> str:
    """The history as a Markdown table."""
    rows = [f"| {m.year} | {m.name} | {m.problem} | {m.answer} | {model_file(m)} |" for m in HISTORY]
    head = "| year | system | the problem | its answer | here |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def timeline() -> Any:
    """The history on a line of equal steps; systems that this package builds are filled, the others hollow."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(11.0, 3.0))
    ax.plot([-0.6, len(HISTORY) - 0.4], [0, 0], color=MUTED, linestyle="-", marker="", linewidth=2, zorder=1)
    for x, milestone in enumerate(HISTORY):
        built = model_file(milestone) != "not built"
        colour = COLOURS["blue"] if built else COLOURS["vermillion"]
        face = colour if built else PANEL
        ax.plot([x], [0], marker="o", markersize=11, markerfacecolor=face, markeredgecolor=colour,
                markeredgewidth=2, linestyle="", zorder=2)  # fmt: skip
        above = x % 2 == 0
        y = 0.34 if above else -0.34
        ax.plot([x, x], [0, y], color=GRID, linestyle="-", marker="", zorder=0)
        ax.text(x, y, f"{milestone.year}\n{milestone.name.replace(' ', chr(10), 1)}", ha="center",
                va="bottom" if above else "top", fontsize=9.5)  # fmt: skip
    for built, words in ((True, "built in posekit/models"), (False, "told here, not built")):
        colour = COLOURS["blue"] if built else COLOURS["vermillion"]
        ax.plot([], [], marker="o", markersize=9, linestyle="", markeredgecolor=colour, markeredgewidth=2,
                markerfacecolor=colour if built else PANEL, label=words)  # fmt: skip
    ax.legend(loc="lower center", ncols=2, bbox_to_anchor=(0.5, -0.06))
    ax.set(xlim=(-0.7, len(HISTORY) - 0.3), ylim=(-1.1, 0.95))
    ax.axis("off")
    return figure


def resized(x: float, width: int, new_width: int, convention: str) -> float:
    """Where a point of a row of pixels goes when the row is resized.

    Args:
        x: pixels, 0 at the centre of the first pixel.
        width, new_width: pixels in the row before and after.
        convention: ``"size"`` multiplies by the ratio of the widths; ``"interval"`` by the ratio of the distances
            between the first and the last pixel's centres; ``"centre"`` moves the origin to the row's edge first,
            which is what resizing a picture does.

    Returns:
        Position in the new row, pixels.
    """
    if convention == "size":
        return x * new_width / width
    if convention == "interval":
        return x * (new_width - 1) / (width - 1)
    if convention == "centre":
        return (x + 0.5) * new_width / width - 0.5
    raise ValueError(f"unknown convention {convention!r}; use 'size', 'interval' or 'centre'")


CONVENTIONS = {"size": "size: x·w'/w", "interval": "interval: x·(w'-1)/(w-1)", "centre": "picture: (x+½)·w'/w-½"}


def draw_rows(width: int, new_width: int, position: float) -> Any:
    """Widget: a row of pixels, the same row resized, and where three conventions put one point.

    Args:
        width, new_width: pixels before and after.
        position: of the point along the first row, 0 at the left edge, 1 at the right edge.
    """
    import matplotlib.pyplot as plt

    x = position * width - 0.5
    figure, ax = plt.subplots(figsize=(8.4, 3.4))
    for y, n in ((1.0, width), (0.0, new_width)):
        edges = np.linspace(0, 1, n + 1)
        ax.hlines([y - 0.14, y + 0.14], 0, 1, color=MUTED, linewidth=1)
        ax.vlines(edges, y - 0.14, y + 0.14, color=MUTED, linewidth=1 if n <= 32 else 0.4)
        if n <= 32:
            ax.plot((np.arange(n) + 0.5) / n, np.full(n, y), color=MUTED, marker=".", markersize=3, linestyle="")
        ax.text(-0.02, y, f"{n} px", ha="right", va="center")
    ax.plot([position], [1.0], color=INK, marker="|", markersize=26, markeredgewidth=2.5, linestyle="")
    ax.text(position, 1.24, f"x = {x:.2f}", ha="center")
    for (name, words), colour, marker, lift in zip(
        CONVENTIONS.items(), (COLOURS["blue"], COLOURS["vermillion"], COLOURS["green"]), "osD", (0.3, 0.18, 0.06)
    ):
        moved = resized(x, width, new_width, name)
        ax.plot([(moved + 0.5) / new_width], [lift - 0.18], color=colour, marker=marker, markersize=9, linestyle="",
                label=f"{words} = {moved:.2f}")  # fmt: skip
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, fontsize=8.5, handletextpad=0.2)
    ax.set(xlim=(-0.1, 1.06), ylim=(-0.35, 1.45))
    ax.axis("off")
    return figure
