"""Widgets of the course answer to hand and keyboard in JupyterLab."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
CHANGED = "([e, old]) => e.src !== old && e.complete && e.naturalWidth > 0"


def change(opened, cell, act) -> None:
    """Do something and wait until the cell's picture is another one."""
    picture = cell.locator("img.widget-image").first
    old = picture.get_attribute("src")
    act()
    opened.page.wait_for_function(CHANGED, arg=[picture.element_handle(), old])


def test_sliders_joints_and_errors(notebook):
    opened = notebook("widgets.ipynb")
    page = opened.page

    array = opened.cell("def bump")
    opened.shot("opened")
    array.locator("img.widget-image").wait_for()
    assert array.locator("img").count() == 1  # the picture once, beside its controls
    slider = array.locator(".noUi-handle").first
    slider.focus()
    change(opened, array, lambda: page.keyboard.press("ArrowRight"))
    change(opened, array, lambda: array.locator("input[type=checkbox]").click())
    change(opened, array, lambda: array.locator(".noUi-handle").nth(1).press("ArrowRight"))
    assert array.get_by_label("Inverted").count() or array.get_by_text("Inverted").count()
    opened.shot("explore-array", array)

    figure = opened.cell("def wave")
    handle = figure.locator(".noUi-handle").first
    handle.focus()
    page.keyboard.press("ArrowRight")
    complaint = figure.locator(".jp-OutputArea").get_by_text("seven cycles are too many")
    complaint.wait_for()  # an error is shown, not swallowed
    change(opened, figure, lambda: page.keyboard.press("ArrowRight"))
    complaint.wait_for(state="detached")
    opened.shot("explore-figure", figure)

    drag_a_joint(opened, opened.cell("joint_dragger("))
    assert not opened.errors, opened.errors


def drag_a_joint(opened, cell) -> None:
    """Drag the left wrist with the mouse, move it with the keys; Python must find the same OKS."""
    page = opened.page
    # Python's OKS from the dragged keypoints, beside the one that the page computed.
    both = "(person.oks, python_oks(person.keypoints))"

    def read() -> tuple[float, float]:
        page.wait_for_timeout(150)
        js, python = opened.value(both).strip("()").split(",")
        return float(js), float(python)

    wrist = cell.locator("button[data-joint='left wrist']")
    wrist.scroll_into_view_if_needed()
    start, python = read()
    assert start == pytest.approx(1.0) == python
    box = wrist.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y + 10, steps=4)
    page.mouse.up()
    dragged, python = read()
    assert 0.9 < dragged < 0.999
    assert dragged == pytest.approx(python, abs=1e-12)
    wrist.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    moved, python = read()
    assert moved < dragged
    assert moved == pytest.approx(python, abs=1e-12)
    assert "OKS" in cell.locator("output").inner_text()
    assert "left wrist, x" in wrist.get_attribute("aria-label")
    opened.shot("joint-dragger", cell)
    cell.get_by_role("button", name="Put every joint back").click()
    assert read()[0] == pytest.approx(1.0)
