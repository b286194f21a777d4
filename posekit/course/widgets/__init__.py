"""Ready widgets: a skeleton whose joints can be dragged (a canvas in the page), and the heatmap-resolution slider."""

from posekit.course.widgets.heatmaps import heatmap_explorer
from posekit.course.widgets.joints import joint_dragger

__all__ = ["heatmap_explorer", "joint_dragger"]
