"""Widgets of the course: a drawing function plus controls.

``explore(draw, ...)`` shows ``draw`` at its defaults first, so the picture is in the notebook's outputs and an error
stops the run. A person then gets controls. Nobody there, every control is swept through its ends and the states are
laid out on a contact sheet, which stands in for the widget on a static page: an error in any state fails the run,
which papermill alone would not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from posekit.course import figures
from posekit.course.parameters import current
from posekit.course.presence import person_present


@dataclass(frozen=True)
class Slider:
    """A number between two ends. Whole numbers stay whole; ``log`` makes equal steps of equal ratios (by factor 2)."""

    low: float
    high: float
    value: float
    step: float | None = None
    label: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high or self.low >= self.high:
            raise ValueError(f"slider '{self.label}': {self.value} does not lie in [{self.low}, {self.high}]")

    @property
    def ends(self) -> tuple[float, ...]:
        return self.low, self.high

    def widget(self, label: str, *, continuous: bool) -> Any:
        import ipywidgets

        whole = all(isinstance(v, int) for v in (self.low, self.high, self.value, self.step or 1))
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        step = self.step or (1 if whole else (self.high - self.low) / 100)
        return kind(
            value=self.value, min=self.low, max=self.high, step=step, continuous_update=continuous, **_described(label)
        )


@dataclass(frozen=True)
class Choice:
    """One of several values: a list, or a slider over them with ``slide=True``."""

    options: Sequence[Any]
    value: Any
    label: str = ""
    unit: str = ""
    slide: bool = False

    def __post_init__(self) -> None:
        if self.value not in self.options:
            raise ValueError(f"choice '{self.label}': {self.value!r} is not one of {list(self.options)}")

    @property
    def ends(self) -> tuple[Any, ...]:
        return (self.options[0], self.options[-1]) if self.slide else tuple(self.options)

    def widget(self, label: str, *, continuous: bool) -> Any:
        import ipywidgets

        options = [(str(option), option) for option in self.options]
        if self.slide:
            return ipywidgets.SelectionSlider(
                options=options, value=self.value, continuous_update=continuous, **_described(label)
            )
        return ipywidgets.Dropdown(options=options, value=self.value, **_described(label))


@dataclass(frozen=True)
class Toggle:
    """On or off."""

    value: bool
    label: str = ""
    unit: str = ""
    ends: tuple[bool, bool] = field(default=(False, True), init=False)

    def widget(self, label: str, *, continuous: bool) -> Any:
        import ipywidgets

        return ipywidgets.Checkbox(value=self.value, indent=False, **_described(label))


Control = Slider | Choice | Toggle


def _described(label: str) -> dict[str, Any]:
    """Text beside a control, which is also what a screen reader calls it."""
    return {
        "description": label,
        "tooltip": label,
        "style": {"description_width": "15em"},
        "layout": {"width": "40em"},
    }


def explore(
    draw: Callable[..., Any],
    *,
    name: str,
    alt: str,
    also: Sequence[dict[str, Any]] = (),
    columns: int = 3,
    **controls: Control,
) -> None:
    """Show a drawing function with a control for each of its arguments.

    Args:
        draw: pure function, called with one keyword argument per control; returns a matplotlib Figure, or an
            (H, W, 3) uint8 RGB array where the picture should follow the hand.
        name: of the figure that shows the defaults, ``"05-resolution-slider"``; the contact sheet is ``NAME-sheet``.
        alt: alternative text of the default picture.
        also: changes of the defaults that belong on the contact sheet too, for a control that does nothing until
            another one is set.
        columns: of the contact sheet, fewer for wide pictures with small print.
        controls: a :class:`Slider`, :class:`Choice` or :class:`Toggle` for each argument of ``draw``.

    Raises:
        whatever ``draw`` raises, with the values that made it fail in a note.
    """
    setup = current()
    defaults = {key: control.value for key, control in controls.items()}
    if not person_present():
        first = draw_state(draw, defaults)
        figures.keep(first, name, alt=alt, setup=setup, function=_name(draw))
        states = sweep(controls, pairs=setup.profile != "smoke", also=also)
        drawn = {first: defaults}
        for state in states[1:]:
            drawn.setdefault(draw_state(draw, state), state)  # a second picture of the same kind would show nothing
        alone = sweep(controls, pairs=False, also=also)
        most = max(12, sum(state in alone for state in drawn.values()))  # what a control does alone is never left out
        captions = [caption(controls, state) for state in drawn.values()][:most]
        sheet = contact_sheet(list(drawn)[:most], captions, columns=columns)
        sheet_alt = f"Contact sheet of the widget at {len(captions)} settings: {'; '.join(captions[:4])}."
        figures.keep(sheet, f"{name}-sheet", alt=sheet_alt, setup=setup, function=_name(draw))
        return
    picture = draw(**defaults)
    live = isinstance(picture, np.ndarray)
    png = figures.as_png(picture)
    figures.write_bytes(setup.out_dir / f"{name}.png", png)
    _show_controls(draw, controls, png, alt=alt, live=live)


def _name(draw: Callable[..., Any]) -> str:
    module = getattr(draw, "__module__", "")
    return f"{module}.{draw.__qualname__}" if module.startswith("posekit") else getattr(draw, "__name__", "")


def sweep(controls: dict[str, Control], *, pairs: bool, also: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """The states to draw.

    The defaults, every control at each end, ``also``, then (``pairs``) neighbouring controls at their ends together.
    """
    defaults = {key: control.value for key, control in controls.items()}
    states = [defaults]
    states += [{**defaults, key: end} for key, control in controls.items() for end in control.ends]
    states += [{**defaults, **changes} for changes in also]
    if pairs:
        for (a, first), (b, second) in pairwise(controls.items()):
            states.append({**defaults, a: first.ends[0], b: second.ends[-1]})
            states.append({**defaults, a: first.ends[-1], b: second.ends[0]})
    return [state for i, state in enumerate(states) if state not in states[:i]]


def draw_state(draw: Callable[..., Any], state: dict[str, Any]) -> bytes:
    """The PNG of one state; an error names the state that made it."""
    try:
        return figures.as_png(draw(**state))
    except Exception as error:
        error.add_note(f"while drawing {', '.join(f'{k}={v!r}' for k, v in state.items())}")
        raise


def caption(controls: dict[str, Control], state: dict[str, Any]) -> str:
    """What differs from the defaults in a state, in the controls' own words."""
    changed = [
        f"{controls[key].label or key} {_written(value)}{' ' + controls[key].unit if controls[key].unit else ''}"
        for key, value in state.items()
        if value != controls[key].value
    ]
    return ", ".join(changed) or "defaults"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def contact_sheet(pictures: Sequence[bytes], captions: Sequence[str], *, columns: int = 3, width: int = 1110) -> bytes:
    """PNG of the pictures in rows with their captions, on the panel colour of the style.

    ``width`` is the room for ``columns`` pictures, pixels.
    """
    import io

    from PIL import Image, ImageDraw, ImageFont

    from posekit.viz import INK, PANEL

    tiles = []
    gap, line = 10, 17
    width = width // columns - gap
    for picture in pictures:
        tile = Image.open(io.BytesIO(picture)).convert("RGB")
        tiles.append(tile.resize((width, round(width * tile.height / tile.width)), Image.Resampling.LANCZOS))
    font = ImageFont.load_default(size=13)
    texts = [_wrapped(text, font, width) for text in captions]
    rows = -(-len(tiles) // columns)
    across = min(columns, len(tiles))
    strip = 5 + line * max(text.count("\n") + 1 for text in texts)
    height = max(tile.height for tile in tiles) + strip
    sheet = Image.new("RGB", (across * (width + gap) + gap, rows * (height + gap) + gap), PANEL)
    pen = ImageDraw.Draw(sheet)
    for n, (tile, text) in enumerate(zip(tiles, texts)):
        x, y = gap + n % columns * (width + gap), gap + n // columns * (height + gap)
        for k, words in enumerate(text.split("\n")):
            pen.text((x, y + k * line), words, fill=INK, font=font)
        sheet.paste(tile, (x, y + strip))
    buffer = io.BytesIO()
    sheet.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _wrapped(text: str, font: Any, width: int) -> str:
    """The text with line breaks where a line would grow wider than ``width`` pixels; a longer word stays whole."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _show_controls(draw: Callable[..., Any], controls: dict[str, Control], png: bytes, *, alt: str, live: bool) -> None:
    """Picture, controls and a line for errors. Fast pictures follow the hand; figures wait until it lets go."""
    import html

    import ipywidgets

    image = ipywidgets.Image(value=png, format="png", layout={"max_width": "100%"})
    # An Image widget takes no alternative text; a screen reader finds it in a line that is not drawn.
    unseen = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"
    spoken = ipywidgets.HTML(f'<span style="{unseen}">{html.escape(alt)}</span>', layout={"height": "0px"})
    message = ipywidgets.HTML()
    inputs = handles(controls, continuous=live)

    def redraw(_: Any = None) -> None:
        state = {key: handle.value for key, handle in inputs.items()}
        try:
            image.value = figures.as_png(draw(**state))
            message.value = ""
        except Exception as error:
            message.value = f"<b>{html.escape(type(error).__name__)}</b>: {html.escape(str(error))}"

    for handle in inputs.values():
        handle.observe(redraw, names="value")
    show_widget(panel(*inputs.values(), message, image, spoken), png, alt)


def handles(controls: dict[str, Control], *, continuous: bool) -> dict[str, Any]:
    """An ipywidget for each control, its text beside it; ``continuous`` reports while the hand still moves."""
    labels = {key: control.label or key for key, control in controls.items()}
    labels |= {key: f"{labels[key]} ({control.unit})" for key, control in controls.items() if control.unit}
    found = {key: control.widget(labels[key], continuous=continuous) for key, control in controls.items()}
    beside = [len(labels[key]) for key, control in controls.items() if not isinstance(control, Toggle)]
    for key, control in controls.items():
        if not isinstance(control, Toggle):
            found[key].style.description_width = f"{max(8.0, 0.62 * max(beside)):.1f}em"
    return found


def panel(*parts: Any) -> Any:
    """Controls and picture one below the other; what a slider says beside it is not cut off."""
    import ipywidgets

    rule = ".posekit-panel .widget-readout { max-width: none; white-space: nowrap; }"
    box = ipywidgets.VBox([*parts, ipywidgets.HTML(f"<style>{rule}</style>", layout={"display": "none"})])
    box.add_class("posekit-panel")
    return box


def show_widget(widget: Any, png: bytes, alt: str) -> None:
    """One output with two faces: JupyterLab shows the widget, a viewer without widgets the picture of the defaults."""
    import base64

    from IPython.display import display

    bundle = {
        "application/vnd.jupyter.widget-view+json": {
            "version_major": 2,
            "version_minor": 0,
            "model_id": widget.model_id,
        },
        "image/png": base64.b64encode(png).decode(),
        "text/plain": f"[widget] {alt}",
    }
    display(bundle, raw=True, metadata={"image/png": {"alt": alt}})
