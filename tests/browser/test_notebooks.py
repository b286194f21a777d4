"""The course's two flagship widgets, in their own notebooks: the slider of 05 and the joint of 03."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
COURSE = Path(__file__).parents[2] / "notebooks"
CHANGED = "([e, old]) => e.src !== old && e.complete && e.naturalWidth > 0"


def name_of(number: str) -> str:
    found = sorted(COURSE.glob(f"{number}_*.ipynb"))
    if not found:
        pytest.skip(f"notebook {number} is not written yet")
    return found[0].name


def move_the_slider(opened, cell) -> None:
    """Every control changes the picture; the picture is no error."""
    cell.locator("img.widget-image").wait_for()
    for i in range(cell.locator(".noUi-handle").count()):
        picture = cell.locator("img.widget-image").first
        old = picture.get_attribute("src")
        cell.locator(".noUi-handle").nth(i).focus()
        opened.page.keyboard.press("ArrowRight")
        opened.page.wait_for_function(CHANGED, arg=[picture.element_handle(), old])
    assert not opened.errors, opened.errors


def test_the_resolution_slider(notebook):
    opened = notebook("slider.ipynb")
    cell = opened.cell("heatmap_explorer(")
    move_the_slider(opened, cell)
    opened.shot("resolution-slider", cell)


def test_the_slider_of_notebook_05(notebook):
    opened = notebook(name_of("05"))
    cell = opened.cell("heatmap_explorer(").last
    cell.scroll_into_view_if_needed()
    move_the_slider(opened, cell)
    opened.shot("notebook-05-slider", cell)


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
