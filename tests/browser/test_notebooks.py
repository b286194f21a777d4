"""The course's two flagship widgets, in their own notebooks: the slider of 05 and the joint of 03."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posekit.course.widgets import heatmaps

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
COURSE = Path(__file__).parents[2] / "notebooks"
REDRAWN = "([canvas, old]) => canvas.dataset.reading !== old"


def name_of(number: str) -> str:
    found = sorted(COURSE.glob(f"{number}_*.ipynb"))
    if not found:
        pytest.skip(f"notebook {number} is not written yet")
    return found[0].name


class Slider:
    """The heatmap-resolution slider in a cell: its controls by hand, and what its canvas says that it read."""

    def __init__(self, opened, cell) -> None:
        self.page, self.cell = opened.page, cell
        self.canvas = cell.locator("canvas.posekit-heatmaps")
        self.canvas.wait_for()
        cell.scroll_into_view_if_needed()
        self.handles = cell.locator(".noUi-handle")
        assert self.handles.count() == 3  # size, noise, offset

    def changed_by(self, action) -> None:
        """Act, wait until the canvas is drawn again, and compare with what Python reads at the same setting."""
        old, pixels = self.canvas.get_attribute("data-reading"), self.pixels()
        action()
        self.page.wait_for_function(REDRAWN, arg=[self.canvas.element_handle(), old])
        assert self.pixels() != pixels
        state = json.loads(self.canvas.get_attribute("data-reading"))
        found, mean = state.pop("found"), state.pop("mean")
        ours = heatmaps.reading(**state)
        # The page adds 65,536 weights in double precision, Python in float32 in an order that the processor decides.
        # One error of the cloud that float32 rounds to another cell moves the mean by a stride in 300.
        cell = heatmaps.CROP / state["cells"]
        assert found == pytest.approx(ours.found.tolist(), abs=4e-3 * cell), state
        assert mean == pytest.approx(ours.mean, abs=4e-3 * cell), state

    def press(self, handle: int, key: str) -> None:
        self.handles.nth(handle).focus()
        self.changed_by(lambda: self.page.keyboard.press(key))

    def pixels(self) -> str:
        return self.canvas.evaluate("canvas => canvas.toDataURL()")


def test_the_resolution_slider_reads_what_python_reads(notebook):
    opened = notebook("slider.ipynb")
    slider = Slider(opened, opened.cell("heatmap_explorer("))
    menu, box = slider.cell.locator("select"), slider.cell.locator("input[type=checkbox]")
    opened.shot("resolution-slider", slider.cell)
    for handle, keys in ((2, ["End"] + ["ArrowLeft"] * 3 + ["Home", "ArrowRight"]), (0, ["Home"])):
        for key in keys:
            slider.press(handle, key)
    for decoder in (*heatmaps.DECODERS[1:], heatmaps.DECODERS[0]):
        slider.changed_by(lambda decoder=decoder: menu.select_option(label=decoder))
        slider.changed_by(box.click)
        for _ in range(5):
            slider.press(0, "ArrowRight")
        slider.press(1, "End")
        for _ in range(5):
            slider.press(0, "ArrowLeft")
        slider.press(1, "ArrowLeft" if decoder == "argmax" else "Home")
    opened.shot("resolution-slider-last", slider.cell)
    assert not opened.errors, opened.errors


def test_the_slider_of_notebook_05(notebook):
    opened = notebook(name_of("05"))
    slider = Slider(opened, opened.cell("heatmap_explorer(").last)
    for handle in range(3):
        slider.press(handle, "ArrowRight")
    opened.shot("notebook-05-slider", slider.cell)
    assert not opened.errors, opened.errors


def test_the_joint_of_notebook_03(notebook):
    opened = notebook(name_of("03"))
    cell = opened.cell("joint_dragger(").last
    joint = cell.locator("button.joint.chosen")  # one: the widget is shown once, although it is the cell's value
    joint.scroll_into_view_if_needed()
    readout = cell.locator("output")
    before = readout.inner_text()
    box = joint.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x - 30, y + 15, steps=5)  # inward: a joint stops at the edge
    opened.page.mouse.up()
    assert readout.inner_text() != before
    after = readout.inner_text()
    joint.press("ArrowUp")
    assert readout.inner_text() != after
    opened.shot("notebook-03-joint", cell)
    assert not opened.errors, opened.errors
