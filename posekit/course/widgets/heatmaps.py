"""The heatmap-resolution slider: one keypoint's map at 8 to 256 cells, how it is read, and how far off that is.

A person's slider computes and draws in the page (``heatmaps.js``), so that the picture follows the hand; what is
written for static pages is drawn here, from the same draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets

from posekit.analysis import quantization_bound
from posekit.codecs import GaussianHeatmap
from posekit.codecs.integral import soft_argmax
from posekit.course import explorer, figures
from posekit.course.explorer import Choice, Control, Slider, Toggle
from posekit.course.parameters import current
from posekit.course.presence import person_present
from posekit.viz import COLOURS, GRID, INK, MUTED, PANEL, colour_map

CROP = 256  # side of the crop, pixels
SIGMA = 2.0  # of the target, cells
BETA = 20.0  # sharpness of the soft-argmax
SIZES = (8, 16, 32, 64, 128, 256)
DECODERS = ("argmax", "quarter", "dark", "soft-argmax")
RANGE = 20.0  # half the width of the error cloud's axes, pixels
SAMPLES = 300

DOWN = 0.2  # cells that the keypoint of the first two panels lies below its cell's centre

_WINDOW = 24  # cells around the keypoint that the cloud is decoded from
_MAGNIFIED = 9  # cells across the magnifier
_SIDE, _GAP, _HEAD, _FOOT = 288, 14, 26, 22
_FEET = (
    "box: what the next panel shows",
    "+ true   o read",
    f"axes to {RANGE:.0f} px; square: a cell; ring: the mean",
)
_UNIT = 1 / 32  # normal draws are kept as bytes in this unit, so that the page has the same ones


def _normal(*shape: int, seed: int) -> torch.Tensor:
    """int8 normal draws in units of 1/32."""
    draws = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (draws / _UNIT).round().clamp(-127, 127).to(torch.int8)


@cache
def _draws(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sub-cell offsets and noise of the cloud: the same for every setting, so that it moves instead of flickering."""
    offsets = torch.rand(samples, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    return offsets, _normal(samples, _WINDOW, _WINDOW, seed=2)


@cache
def _field() -> torch.Tensor:
    """int8 noise of the whole map; smaller maps have its first rows and columns."""
    return _normal(CROP, CROP, seed=1)


def _codec(cells: int, stride: int, decoder: str, rounded: bool) -> GaussianHeatmap:
    read: Any = decoder if decoder != "soft-argmax" else "argmax"
    centre: Any = "rounded" if rounded else "subpixel"
    return GaussianHeatmap((cells * stride, cells * stride), stride=stride, sigma=SIGMA, centre=centre, decoder=read)


def read_off(codec: GaussianHeatmap, maps: torch.Tensor, decoder: str) -> torch.Tensor:
    """(1, N, h, w) maps to (N, 2) pixels with any of ``DECODERS``."""
    if decoder == "soft-argmax":
        return soft_argmax(maps, beta=BETA)[0] * codec.stride
    return codec.decode(maps)[0][0]


def error_cloud(cells: int, decoder: str, noise: float, *, rounded: bool = False, samples: int = SAMPLES) -> np.ndarray:
    """(samples, 2) errors in crop pixels of keypoints spread evenly within a cell, read from noisy maps.

    Args:
        cells: side of the map of a 256-pixel crop; divides 256.
        decoder: one of ``DECODERS``.
        noise: standard deviation added to every cell, as a share of the peak.
        rounded: targets centred on a cell, as HRNet's are, instead of on the keypoint.
        samples: keypoints. Each is read from the 24x24 cells around it.
    """
    stride = CROP // cells
    codec = _codec(_WINDOW, stride, decoder, rounded)
    offsets, field = _draws(samples)
    keypoints = (_WINDOW // 2 + offsets)[None] * stride  # (1, N, 2)
    maps, _ = codec.encode(keypoints, torch.ones(1, samples))
    if noise:
        maps = torch.add(maps, field[None], alpha=noise * _UNIT)
    return (read_off(codec, maps, decoder) - keypoints[0]).numpy()


@dataclass(frozen=True)
class Reading:
    """What one setting of the controls gives.

    Attributes:
        values: (cells, cells) the map.
        true, found: (2,) the keypoint and what is read from the map, crop pixels.
        errors: (N, 2) of :func:`error_cloud`.
        mean: length of ``errors``.
        bound: what ``mean`` is for ideal maps in closed form; None for the soft-argmax.
    """

    values: np.ndarray
    true: np.ndarray
    found: np.ndarray
    errors: np.ndarray
    mean: float
    bound: float | None


def reading(cells: int, decoder: str, noise: float, offset: float, rounded: bool) -> Reading:
    """The map of one keypoint, the keypoint read from it, and the cloud of errors.

    Args:
        offset: where the keypoint lies between cells, -0.5 to 0.5 cells to the right.
        cells, decoder, noise, rounded: as of :func:`error_cloud`.
    """
    stride = CROP // cells
    codec = _codec(cells, stride, decoder, rounded)
    middle = cells // 2
    keypoint = torch.tensor([[[(middle + offset) * stride, (middle + DOWN) * stride]]])
    maps, _ = codec.encode(keypoint, torch.ones(1, 1))
    maps = torch.add(maps, _field()[:cells, :cells], alpha=noise * _UNIT)
    found = read_off(codec, maps, decoder)[0].numpy()
    errors = error_cloud(cells, decoder, noise, rounded=rounded)
    mean = float(np.hypot(*errors.T).mean())
    bound = _bound(decoder, rounded)
    return Reading(
        maps[0, 0].numpy(), keypoint[0, 0].numpy(), found, errors, mean, None if bound is None else bound * stride
    )


def _bound(decoder: str, rounded: bool) -> float | None:
    """Mean error of ideal maps, cells."""
    if decoder == "soft-argmax":
        return None
    return quantization_bound(1, decoder, centre="rounded" if rounded else "subpixel")  # type: ignore[arg-type]


def draw_heatmap(cells: int, decoder: str, noise: float, offset: float, rounded: bool) -> np.ndarray:
    """The widget's picture, (H, W, 3) uint8: the map, its cells around the keypoint, the cloud of errors.

    Args: as of :func:`reading`.
    """
    seen = reading(cells, decoder, noise, offset, rounded)
    stride, middle = CROP // cells, cells // 2
    true, found = seen.true / stride, seen.found / stride
    sheet = _Sheet()
    colours = colour_map(seen.values, low=0.0, high=1.0)
    sheet.cells(0, colours, true, found, first=(0, 0), across=cells, marks=False)
    corner = min(max(middle - _MAGNIFIED // 2, 0), cells - min(cells, _MAGNIFIED))
    across = min(cells, _MAGNIFIED)
    part = colours[corner : corner + across, corner : corner + across]
    sheet.cells(1, part, true, found, first=(corner, corner), across=across, marks=True)
    sheet.cloud(2, seen.errors, stride, seen.mean)
    limit = "" if seen.bound is None else f", bound {seen.bound:.2f} px"
    off = math.hypot(*(seen.found - seen.true))
    heads = (
        f"Map: {cells} x {cells} cells, {stride} px each",
        f"Its middle, read {off:.2f} px off",
        f"Mean error {seen.mean:.2f} px{limit}",
    )
    return sheet.finish(heads=heads, feet=_FEET)


class HeatmapCanvas(anywidget.AnyWidget):
    """The picture in the page; the controls write its first five attributes there, without the kernel.

    Attributes:
        size, decoder: indices into ``SIZES`` and ``DECODERS``.
        noise, offset, rounded: as of :func:`reading`.
    """

    _esm = Path(__file__).parent / "heatmaps.js"
    size = traitlets.Int().tag(sync=True)
    decoder = traitlets.Int().tag(sync=True)
    noise = traitlets.Float().tag(sync=True)
    offset = traitlets.Float().tag(sync=True)
    rounded = traitlets.Bool().tag(sync=True)
    facts: Any = traitlets.Dict().tag(sync=True)
    draws = traitlets.Bytes().tag(sync=True)  # int8
    field = traitlets.Bytes().tag(sync=True)  # int8
    places = traitlets.Bytes().tag(sync=True)  # float32
    colours = traitlets.Bytes().tag(sync=True)  # 256 RGB triples, uint8


def _canvas() -> HeatmapCanvas:
    looks = {"panel": PANEL, "ink": INK, "muted": MUTED, "grid": GRID, "dot": COLOURS["blue"],
             "ring": COLOURS["vermillion"]}  # fmt: skip
    facts = {
        "sizes": SIZES, "decoders": DECODERS, "crop": CROP, "sigma": SIGMA, "beta": BETA, "range": RANGE,
        "down": DOWN, "unit": _UNIT, "window": _WINDOW, "magnified": _MAGNIFIED, "side": _SIDE, "gap": _GAP,
        "head": _HEAD, "foot": _FOOT, "feet": _FEET, "looks": looks,
        "bounds": {d: [_bound(d, False), _bound(d, True)] for d in DECODERS if d != "soft-argmax"},
    }  # fmt: skip
    offsets, noise = _draws(SAMPLES)
    return HeatmapCanvas(
        facts=facts,
        draws=noise.numpy().tobytes(),
        field=_field().numpy().tobytes(),
        places=offsets.numpy().astype("<f4").tobytes(),
        colours=colour_map(np.arange(256), low=0, high=255).tobytes(),
    )


def heatmap_explorer(*, name: str = "05-resolution-slider", alt: str = "") -> None:
    """Show the heatmap-resolution slider: size, decoder, noise, sub-cell offset, rounding of the target.

    Args:
        name: of the figure; the contact sheet is ``NAME-sheet``.
        alt: alternative text in place of the one it comes with.
    """
    alt = alt or (
        "Three panels: a keypoint's heatmap of 64 by 64 cells, its middle cells with the true and the decoded "
        "position, and the cloud of decoding errors inside the square that one cell covers."
    )
    controls: dict[str, Control] = {
        "cells": Choice(SIZES, 64, label="Heatmap size", unit="cells", slide=True),
        "decoder": Choice(DECODERS, "argmax", label="Decoder"),
        "noise": Slider(0.0, 0.3, 0.0, step=0.02, label="Noise", unit="of the peak"),
        "offset": Slider(-0.5, 0.5, 0.3, step=0.05, label="Sub-cell offset", unit="cells"),
        "rounded": Toggle(False, label="Target rounded to a cell"),
    }
    if not person_present():
        explorer.explore(draw_heatmap, name=name, alt=alt, also=(), columns=3, **controls)
        return
    import ipywidgets

    png = explorer.draw_state(draw_heatmap, {key: control.value for key, control in controls.items()})
    figures.write_bytes(current().out_dir / f"{name}.png", png)
    canvas, handles = _canvas(), explorer.handles(controls, continuous=True)
    for key, source, target in (
        ("cells", "index", "size"), ("decoder", "index", "decoder"), ("noise", "value", "noise"),
        ("offset", "value", "offset"), ("rounded", "value", "rounded"),
    ):  # fmt: skip
        setattr(canvas, target, getattr(handles[key], source))
        ipywidgets.jslink((handles[key], source), (canvas, target))
    explorer.show_widget(explorer.panel(*handles.values(), canvas), png, alt)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


class _Sheet:
    """Three square panels side by side, drawn with OpenCV; text with Pillow at the end."""

    def __init__(self) -> None:
        width, height = 3 * _SIDE + 4 * _GAP, _SIDE + _HEAD + _FOOT + 2 * _GAP
        self.pixels = np.empty((height, width, 3), np.uint8)
        self.pixels[:] = _rgb(PANEL)

    def panel(self, n: int) -> np.ndarray:
        left, top = _GAP + n * (_SIDE + _GAP), _GAP + _HEAD
        return self.pixels[top : top + _SIDE, left : left + _SIDE]

    def cells(
        self,
        n: int,
        colours: np.ndarray,
        true: np.ndarray,
        found: np.ndarray,
        *,
        first: tuple[int, int],
        across: int,
        marks: bool,
    ) -> None:
        """A square of cells in panel n; positions in cells, cell i's centre at i."""
        import cv2

        panel = self.panel(n)
        panel[:] = cv2.resize(np.ascontiguousarray(colours), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
        zoom = _SIDE / across

        def at(position: np.ndarray) -> tuple[int, int]:
            return tuple(round(float((p - f + 0.5) * zoom * 16)) for p, f in zip(position, first))  # type: ignore[return-value]

        if not marks:  # the whole map: a box around what the next panel magnifies
            half = _MAGNIFIED / 2 * zoom * 16
            x, y = (across // 2 + 0.5) * zoom * 16, (across // 2 + 0.5) * zoom * 16
            corners = (round(x - half), round(y - half)), (round(x + half), round(y + half))
            cv2.rectangle(panel, *corners, (255, 255, 255), 1, cv2.LINE_AA, 4)
            return
        for i in range(1, across):
            line = round(i * zoom)
            panel[line, :] = panel[line, :] // 2 + 40
            panel[:, line] = panel[:, line] // 2 + 40
        x, y = at(true)
        arm = 11 * 16
        for width, colour in ((5, (0, 0, 0)), (2, (255, 255, 255))):
            cv2.line(panel, (x - arm, y), (x + arm, y), colour, width, cv2.LINE_AA, 4)
            cv2.line(panel, (x, y - arm), (x, y + arm), colour, width, cv2.LINE_AA, 4)
            cv2.circle(panel, at(found), 9 * 16, colour if width == 5 else (255, 150, 60), width, cv2.LINE_AA, 4)

    def cloud(self, n: int, errors: np.ndarray, stride: int, mean: float) -> None:
        """Errors in pixels around the origin, the square of one cell, the circle of the mean error."""
        import cv2

        panel = self.panel(n)
        zoom = _SIDE / (2 * RANGE)
        centre = _SIDE / 2
        panel[round(centre), :] = panel[:, round(centre)] = _rgb(GRID)
        middle = (round(centre * 16), round(centre * 16))
        half = stride / 2 * zoom * 16
        corners = tuple(round(m - half) for m in middle), tuple(round(m + half) for m in middle)
        cv2.rectangle(panel, *corners, _rgb(MUTED), 1, cv2.LINE_AA, 4)
        inside = np.abs(errors).max(axis=1) < RANGE
        for x, y in np.rint((errors[inside] * zoom + centre) * 16).astype(int).tolist():
            cv2.circle(panel, (x, y), 28, _rgb(COLOURS["blue"]), -1, cv2.LINE_AA, 4)
        cv2.circle(panel, middle, round(mean * zoom * 16), _rgb(COLOURS["vermillion"]), 2, cv2.LINE_AA, 4)
        cv2.rectangle(panel, (0, 0), (_SIDE - 1, _SIDE - 1), _rgb(MUTED), 1)

    def finish(self, *, heads: tuple[str, ...], feet: tuple[str, ...]) -> np.ndarray:
        from PIL import Image, ImageDraw

        picture = Image.fromarray(self.pixels)
        pen = ImageDraw.Draw(picture)
        for n, (head, foot) in enumerate(zip(heads, feet)):
            left = _GAP + n * (_SIDE + _GAP)
            pen.text((left, _GAP), head, fill=INK, font=_font(15))
            pen.text((left, _GAP + _HEAD + _SIDE + 4), foot, fill=MUTED, font=_font(13))
        return np.asarray(picture)
