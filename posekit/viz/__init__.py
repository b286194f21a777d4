"""Pictures: skeletons on photographs, heatmaps, the plots of the course, and the one style they share."""

from posekit.viz.heatmaps import colour_map, show_heatmaps
from posekit.viz.people import draw_people, limb_colours
from posekit.viz.plots import forest, interval_lines, precision_recall
from posekit.viz.style import COLOURS, DASHES, GRID, INK, MARKERS, MUTED, PANEL, figure_png, style

__all__ = [
    "COLOURS",
    "DASHES",
    "GRID",
    "INK",
    "MARKERS",
    "MUTED",
    "PANEL",
    "colour_map",
    "draw_people",
    "figure_png",
    "forest",
    "interval_lines",
    "limb_colours",
    "precision_recall",
    "show_heatmaps",
    "style",
]
