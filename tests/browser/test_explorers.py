"""Widgets of notebooks 04 (target), 07 (stage explorer) and 09 (conventions): every control changes the picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
CHANGED = "([e, old]) => e.src !== old && e.complete && e.naturalWidth > 0"


def widget(opened: Any) -> tuple[Any, Callable[[Callable[[], Any]], None]]:
    """The cell of a notebook's widget, and a function that waits until something has changed its picture."""
    cell = opened.cell("explore(").last
    cell.scroll_into_view_if_needed()
    picture = cell.locator("img.widget-image").first
    picture.wait_for()

    def changed_by(action: Callable[[], Any]) -> None:
        old = picture.get_attribute("src")
        action()
        opened.page.wait_for_function(CHANGED, arg=[picture.element_handle(), old])

    return cell, changed_by


def choose(cell: Any, label: str, option: str) -> Callable[[], Any]:
    """Choose an option of the menu that carries a label, as a screen reader finds it."""
    return lambda: cell.get_by_label(label).select_option(label=option)


def fully_shown(part: Any) -> bool:
    """Whether an element's text is not cut off at its edge."""
    return part.evaluate("e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight + 1")


def test_the_target(notebook):
    opened = notebook("04_gaussian_targets.ipynb")
    cell, changed_by = widget(opened)
    handles = cell.locator(".noUi-handle")
    assert handles.count() == 3  # sigma, stride, the joint's place
    for i in range(3):
        handles.nth(i).focus()
        changed_by(lambda: opened.page.keyboard.press("ArrowRight"))
    changed_by(cell.locator("input[type=checkbox]").click)
    opened.shot("notebook-04-target", cell)
    assert not opened.errors, opened.errors


def test_the_stage_explorer(notebook):
    opened = notebook("07_hrnet.ipynb")
    cell, changed_by = widget(opened)
    handle = cell.locator(".noUi-handle")
    assert handle.count() == 1  # the junction
    handle.focus()
    changed_by(lambda: opened.page.keyboard.press("ArrowLeft"))
    readout = cell.locator(".widget-readout")
    assert readout.inner_text() == "stage 4, module 1"
    assert fully_shown(readout)
    opened.shot("notebook-07-explorer", cell)
    changed_by(choose(cell, "arrows into branch", "2"))
    changed_by(choose(cell, "beside each arrow", "multiply-adds"))
    changed_by(choose(cell, "exchange units kept", "final"))
    opened.shot("notebook-07-explorer-final", cell)
    assert not opened.errors, opened.errors


def test_the_convention_toggles(notebook):
    opened = notebook("09_complexity.ipynb")
    cell, changed_by = widget(opened)
    changed_by(choose(cell, "One giga is", "1024^3"))
    changed_by(choose(cell, "Transposed convolutions count at", "output cells"))
    assert all(map(fully_shown, cell.locator(".widget-dropdown label").all()))
    boxes = cell.locator("input[type=checkbox]")
    assert boxes.count() == 2  # batch norm, attention
    for i in range(2):
        changed_by(boxes.nth(i).click)
    opened.shot("notebook-09-toggles", cell)
    assert not opened.errors, opened.errors
