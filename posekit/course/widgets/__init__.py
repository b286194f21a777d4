"""Widgets that draw on a canvas in the page, so that the picture follows the hand without asking the kernel."""

from posekit.course.widgets.joints import joint_dragger

__all__ = ["joint_dragger"]
