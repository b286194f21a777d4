"""Drag a joint and watch the OKS: a skeleton over a picture, its tolerance discs, the score computed in the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from posekit.course import explorer, figures
from posekit.course.parameters import current
from posekit.course.presence import person_present
from posekit.skeletons import COCO17, Skeleton
from posekit.viz import draw_people, limb_colours

_HERE = Path(__file__).parent
RINGS = (0.5, 0.75, 0.95)  # keypoint similarities that get a ring


class JointDragger(anywidget.AnyWidget):
    """The widget's two-way state; :func:`joint_dragger` makes one.

    Attributes:
        keypoints: K pairs of x and y in pixels, as they have been dragged.
        oks: object keypoint similarity of ``keypoints``, computed in the page.
        chosen: index of the keypoint that was touched last.
    """

    _esm = _HERE / "joints.js"
    _css = _HERE / "joints.css"
    picture = traitlets.Bytes().tag(sync=True)
    size: Any = traitlets.List().tag(sync=True)  # height, width in pixels
    zoom = traitlets.Float(1.0).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    names: Any = traitlets.List().tag(sync=True)
    limbs: Any = traitlets.List().tag(sync=True)
    colours: Any = traitlets.List().tag(sync=True)
    sigmas: Any = traitlets.List().tag(sync=True)
    truth: Any = traitlets.List().tag(sync=True)
    visibility: Any = traitlets.List().tag(sync=True)
    area = traitlets.Float().tag(sync=True)
    keypoints: Any = traitlets.List().tag(sync=True)
    chosen = traitlets.Int().tag(sync=True)
    oks = traitlets.Float().tag(sync=True)
    shown_in = 0  # number of the cell run that shows it
    fallback: tuple[bytes, str] = (b"", "")

    def _ipython_display_(self) -> None:
        """Show it, but not a second time where it is the value of the cell that made it."""
        from IPython import get_ipython

        run = get_ipython().execution_count
        if self.shown_in != run:
            self.shown_in = run
            explorer.show_widget(self, *self.fallback)


def joint_dragger(
    image: Any,
    truth: Any,
    *,
    area: float,
    name: str,
    alt: str,
    visibility: Any = None,
    skeleton: Skeleton = COCO17,
    joint: str = "left_wrist",
    width: int = 420,
) -> JointDragger | None:
    """Show a person whose joints can be dragged with the mouse or, once focused, moved with the arrow keys.

    With nobody looking it writes the picture and a contact sheet in which ``joint`` has been moved to each ring.

    Args:
        image: (H, W, 3) uint8 RGB.
        truth: (K, 2) annotated keypoints in pixels, x then y.
        area: the person's ``area`` in the annotation, in square pixels: the OKS scale squared.
        name: of the figure, ``"03-drag-a-joint"``.
        alt: its alternative text.
        visibility: (K,) flags; keypoints at 0 take no part. None means all labelled.
        skeleton: names, limbs and sigmas.
        joint: the keypoint chosen at first.
        width: of the picture on the page, in CSS pixels.

    Returns:
        The widget, whose ``keypoints`` and ``oks`` follow the hand; None when nobody is there.

    Raises:
        ValueError: an area that is not positive, or a wrong number of keypoints.
    """
    truth = np.asarray(truth, dtype=np.float64)
    K = skeleton.num_keypoints
    if truth.shape != (K, 2):
        raise ValueError(f"truth has shape {truth.shape}; skeleton '{skeleton.name}' needs ({K}, 2)")
    if not area > 0:
        raise ValueError(f"area is {area}; OKS needs the person's area in square pixels, which is positive")
    seen = np.full(K, 2) if visibility is None else np.asarray(visibility)
    setup = current()
    chosen = skeleton.index(joint)
    first = _picture(image, truth, truth, seen, area, skeleton, chosen, width)
    if not person_present():
        figures.keep(first, name, alt=alt, setup=setup, function=f"{__name__}.joint_dragger")
        pictures, captions = [first], ["nothing moved"]
        for level in (0.95, 0.75, 0.5, 0.1, 0.01):
            moved = truth.copy()
            inward = 1 if truth[chosen, 0] < image.shape[1] / 2 else -1
            moved[chosen, 0] += inward * tolerance(level, skeleton.sigmas[chosen], area)
            pictures.append(_picture(image, truth, moved, seen, area, skeleton, chosen, width))
            captions.append(
                f"{joint.replace('_', ' ')} at similarity {level}: OKS {_oks(moved, truth, seen, area, skeleton):.3f}"
            )
        sheet = explorer.contact_sheet([figures.as_png(p) for p in pictures], captions)
        told = f"{name}: the same person with {joint} moved step by step; {'; '.join(captions)}."
        figures.keep(sheet, f"{name}-sheet", alt=told, setup=setup, function=f"{__name__}.joint_dragger")
        return None
    widget = JointDragger(
        picture=figures.as_png(np.asarray(image)),
        size=list(image.shape[:2]),
        zoom=width / image.shape[1],
        label=f"{alt} Each joint is a button: drag it, or focus it and use the arrow keys, with shift for 10 pixels.",
        names=[keypoint.replace("_", " ") for keypoint in skeleton.keypoints],
        limbs=[list(limb) for limb in skeleton.limbs],
        colours=["#{:02x}{:02x}{:02x}".format(*colour) for colour in limb_colours(skeleton)],
        sigmas=list(skeleton.sigmas),
        truth=truth.tolist(),
        visibility=[int(v) for v in seen],
        area=float(area),
        keypoints=truth.tolist(),
        chosen=chosen,
        oks=1.0,
    )
    widget.fallback = figures.as_png(first), alt
    widget._ipython_display_()
    return widget


def tolerance(level: float, sigma: float, area: float) -> float:
    """Distance in pixels at which a keypoint's similarity falls to ``level``: 2 sigma sqrt(-2 area ln level)."""
    return float(2 * sigma * np.sqrt(-2 * area * np.log(level)))


def _oks(moved: np.ndarray, truth: np.ndarray, seen: np.ndarray, area: float, skeleton: Skeleton) -> float:
    from posekit.metrics import oks

    return float(np.squeeze(oks(moved, truth, area=area, visibility=seen, sigmas=skeleton.sigmas)))


def _picture(
    image: Any,
    truth: np.ndarray,
    moved: np.ndarray,
    seen: np.ndarray,
    area: float,
    skeleton: Skeleton,
    chosen: int,
    width: int,
) -> np.ndarray:
    """What the canvas shows: discs of similarity 0.5, rings around the chosen joint, the skeleton as moved."""
    import cv2

    zoom = max(1, round(width / image.shape[1]))
    picture = np.repeat(np.repeat(np.asarray(image), zoom, axis=0), zoom, axis=1)
    veil = picture.copy()
    centres = np.rint((truth * zoom + (zoom - 1) / 2) * 16).astype(int).tolist()

    def circle(on: np.ndarray, k: int, level: float, line: int) -> None:
        radius = round(tolerance(level, skeleton.sigmas[k], area) * zoom * 16)
        cv2.circle(on, centres[k], radius, (255, 255, 255), line, cv2.LINE_AA, 4)

    for k in np.flatnonzero(seen):
        circle(veil, int(k), RINGS[0], -1)
    picture = cv2.addWeighted(veil, 0.22, picture, 0.78, 0)
    for level in RINGS:
        circle(picture, chosen, level, 1)
    return draw_people(
        picture, moved * zoom + (zoom - 1) / 2, visibility=(seen > 0) * 2, skeleton=skeleton, thickness=max(2, zoom)
    )
