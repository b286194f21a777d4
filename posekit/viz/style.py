"""The one plotting style: told apart without colour vision, readable on light and on dark pages.

Figures stand on an opaque near-white panel, so a dark page shows them as a card instead of dark ink on dark ground.
The hues are those of Okabe and Ito (2008), the light ones deepened until a line of each has a contrast of at least
3:1 with the panel (WCAG 2.2, success criterion 1.4.11). Every colour also comes with its own dash and marker.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import Any

PANEL = "#fbfaf7"
INK = "#22252b"
MUTED = "#5f6570"
GRID = "#dcdad3"

COLOURS = {
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#00875f",
    "purple": "#a6417f",
    "sky": "#2a8fc7",
    "ochre": "#a87400",
    "black": "#22252b",
}
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), "-", (0, (5, 2)), (0, (1, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 120


def parameters() -> dict[str, Any]:
    """matplotlib's rc parameters of the style."""
    from cycler import cycler

    cycle = cycler(color=list(COLOURS.values())) + cycler(linestyle=list(DASHES)) + cycler(marker=list(MARKERS))
    return {
        "figure.figsize": (7.0, 4.2),
        "figure.dpi": DPI,
        "figure.facecolor": PANEL,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 0.08,
        "figure.constrained_layout.w_pad": 0.08,
        "savefig.dpi": DPI,
        "savefig.facecolor": PANEL,
        "axes.facecolor": PANEL,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.labelsize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycle,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "font.family": "DejaVu Sans",
        "image.cmap": "viridis",
        "image.interpolation": "nearest",
        "svg.hashsalt": "posekit",
    }


def style(*, apply: bool = False) -> AbstractContextManager[None] | None:
    """The style as a context (``with style(): ...``), or for the rest of the session with ``apply=True``."""
    import matplotlib as mpl

    chosen: Any = parameters()
    if apply:
        mpl.rcParams.update(chosen)
        return None
    return mpl.rc_context(chosen)


def figure_png(figure: Any, *, close: bool = True) -> bytes:
    """The PNG of a matplotlib figure at its own size, without dates or versions: same drawing, same bytes.

    Args:
        figure: a ``matplotlib.figure.Figure``.
        close: close it afterwards, so that the inline backend does not show it a second time.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 3})
    if close:
        import matplotlib.pyplot as plt

        plt.close(figure)
    return buffer.getvalue()
