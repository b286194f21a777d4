"""The schedule editor of notebook 06: the menu and every slider change the picture."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
CHANGED = "([e, old]) => e.src !== old && e.complete && e.naturalWidth > 0"


def test_the_schedule_editor(notebook):
    opened = notebook("06_receptive_fields.ipynb")
    cell = opened.cell("explore(").last
    cell.scroll_into_view_if_needed()
    picture = cell.locator("img.widget-image").first
    picture.wait_for()

    def changed_by(action) -> None:
        old = picture.get_attribute("src")
        action()
        opened.page.wait_for_function(CHANGED, arg=[picture.element_handle(), old])

    for kind in ("reversed", "your own", "constant"):
        changed_by(lambda kind=kind: cell.locator("select").select_option(label=kind))
    handles = cell.locator(".noUi-handle")
    assert handles.count() == 3  # layers, the constant, the column
    for i in range(3):
        handles.nth(i).focus()
        changed_by(lambda: opened.page.keyboard.press("ArrowRight"))
    assert not opened.errors, opened.errors
    opened.shot("notebook-06-editor", cell)
