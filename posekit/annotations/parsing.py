"""JSON to columns of numbers: simdjson where it is installed, the standard library otherwise, the same values.

Both parsers hand out *records*, mappings with ``record[key]``. A column is taken from all records at once; when that
fails, :func:`complain` walks the records again, slowly, to name the one that is wrong.
"""

from __future__ import annotations

import gc
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from posekit.annotations.types import AnnotationError

# Pieces of a result file: small enough that text and parse stay in the cache, large enough to cost no calls.
PIECE_BYTES = 1 << 20
# Fields that a record may leave out.
OPTIONAL_IN_IMAGES = ("height", "width", "file_name")
OPTIONAL_IN_ANNOTATIONS = ("area", "iscrowd", "num_keypoints", "category_id")
# Fields that are counted or looked up; every other single number may have a fraction.
_WHOLE = frozenset({"id", "image_id", "category_id", "iscrowd", "num_keypoints", "height", "width"})


class NotInPieces(ValueError):
    """The fast reader does not understand the file; the careful one will read it or say what is wrong."""


def simdjson_or_none() -> Any:
    """The module ``simdjson``, or None where the package pysimdjson is not installed."""
    try:
        import simdjson
    except ImportError:
        return None
    return simdjson


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector: it would walk millions of young floats again and again, for half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def load_json(path: Path) -> Any:
    """Parse a file with the standard library.

    Raises:
        AnnotationError: the file cannot be opened, or is not JSON.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    try:
        with collector_paused():
            return json.loads(text)
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: not JSON: byte {error.start} is not UTF-8; is it another kind of file?"
        ) from None
    except RecursionError:
        raise AnnotationError(
            f"{path}: nested too deeply to be an annotation file; is it another kind of file?"
        ) from None
    except json.JSONDecodeError as error:
        hint = "the file is empty or cut short; write it again" if error.pos >= len(text.rstrip()) else "mend that line"
        raise AnnotationError(
            f"{path}: not JSON at line {error.lineno}, column {error.colno} ({error.msg}); {hint}"
        ) from None
    except ValueError:
        raise AnnotationError(
            f"{path}: holds a number of thousands of digits; write numbers that fit a float"
        ) from None


def record_pieces(file: BinaryIO, parser: Any) -> Iterator[list[Any]]:
    """Parse a JSON array of objects piece by piece with simdjson, each piece a list of records.

    The text is cut behind a ``},``. Wherever such a cut falls, a piece that parses as an array is balanced, so the
    pieces together are the array's elements; a cut inside a string or a nested object fails to parse.
    The records of a piece must be dropped before the next one is asked for.

    Raises:
        NotInPieces: the text is no array, or a cut fell badly.
    """
    block = file.read(PIECE_BYTES).lstrip()
    if not block.startswith(b"["):
        raise NotInPieces
    block, rest, first = block[1:], [b"["], True
    while block:
        following = file.read(PIECE_BYTES)
        if following:
            cut = block.rfind(b"},") + 1
            if not cut:
                rest.append(block)
                block = following
                continue
            piece, rest = [*rest, block[:cut], b"]"], [b"[", block[cut + 1 :]]
        else:
            piece = [*rest, block]
        try:
            records = list(parser.parse(b"".join(piece)))
        except (ValueError, RuntimeError) as error:
            raise NotInPieces from error
        if not records and not (first and not following):
            raise NotInPieces  # a comma at the end of the list
        yield records
        del records
        block, first = following, False


def integers(records: Sequence[Any], key: str, default: int | None = None) -> np.ndarray:
    """(N,) int64 of ``record[key]``; ``default`` where it is absent. Raises KeyError, TypeError or ValueError."""
    if default is None:
        values = [record[key] for record in records]
    else:
        values = [record.get(key, default) for record in records]
    column = np.array(values) if values else np.zeros(0, np.int64)
    if column.dtype.kind == "f" and not ((np.abs(column) < 2.0**53) & (column == np.trunc(column))).all():
        raise ValueError(key)
    if column.dtype.kind not in "iubf" or column.ndim != 1:
        raise TypeError(key)
    return column.astype(np.int64)


def floats(records: Sequence[Any], key: str, default: float | None = None) -> np.ndarray:
    """(N,) float64 of ``record[key]``; ``default`` where absent or null. Raises KeyError, TypeError or ValueError."""
    if default is None:
        values = [record[key] for record in records]
    else:
        values = [default if (value := record.get(key)) is None else value for record in records]
    column = np.array(values) if values else np.zeros(0)
    if column.dtype.kind not in "iufb" or column.ndim != 1:
        raise TypeError(key)
    return column.astype(np.float64)


def rows(records: Sequence[Any], key: str, width: int) -> np.ndarray:
    """(N, width) float64 of the lists ``record[key]``. Raises KeyError, TypeError or ValueError.

    simdjson flattens what is nested: it reads ``[1, [2]]`` as ``[1, 2]``, which the standard library's way refuses.
    """
    values = [record[key] for record in records]
    if set(map(len, values)) - {width}:
        raise ValueError(key)
    if values and hasattr(values[0], "as_buffer"):
        flat = np.frombuffer(b"".join([value.as_buffer(of_type="d") for value in values]))
    else:
        flat = np.fromiter(chain.from_iterable(values), np.float64, len(values) * width)
    return flat.reshape(len(values), width)


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return isinstance(value, float) and math.isfinite(value)


def _fault_of_number(key: str, value: Any) -> str | None:
    if not _is_number(value):
        return f"has '{key}': {_short(value)}; write a finite number"
    if key in _WHOLE and (value != int(value) or abs(value) >= 2**63):
        return f"has '{key}': {_short(value)}; write a whole number of at most 18 digits"
    return None


def _short(value: Any) -> str:
    return f"a number of {value.bit_length()} bits" if _is_long(value) else f"{value!r:.40}"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > 100


def describe_fault(record: Any, fields: Mapping[str, int], optional: Sequence[str] = ()) -> str | None:
    """What is wrong with a record that should have ``fields``: key -> length of its list, 0 for one number.

    ``optional`` fields are one number, or text for a file's name; they may be missing, ``area`` also null.
    """
    if not isinstance(record, Mapping):
        return "is not an object; each record must be {...}"
    for key, width in fields.items():
        if key not in record:
            return f"has no '{key}'; write it"
        value = record[key]
        if not width:
            if fault := _fault_of_number(key, value):
                return fault
        elif not isinstance(value, list):
            return f"has '{key}': {_short(value)}; write a list of {width} numbers"
        elif len(value) != width:
            meaning = f" (x, y, v of {width // 3} keypoints)" if key == "keypoints" else ""
            return f"has {len(value)} numbers in '{key}' where {width} are needed{meaning}; correct the record"
        elif bad := [v for v in value if not _is_number(v)]:
            return f"has {_short(bad[0])} in '{key}'; write finite numbers"
    for key in optional:
        value = record.get(key)
        if key == "file_name":
            if key in record and not (isinstance(value, str) and _is_unicode(value)):
                return f"has 'file_name': {_short(value)}; write the name of the picture's file as text"
            continue
        absent = key not in record or (key == "area" and (value is None or value != value))
        if not absent and (fault := _fault_of_number(key, value)):
            return fault
    return None


def complain(
    source: str, noun: str, records: Sequence[Any], fields: Mapping[str, int], optional: Sequence[str] = ()
) -> NoReturn:
    """Raise the :class:`AnnotationError` of the first record at fault; ``noun`` says what a record is."""
    for index, record in enumerate(records):
        if fault := describe_fault(record, fields, optional):
            raise AnnotationError(f"{source}: {record_name(noun, record, index)} {fault}")
    raise AnnotationError(f"{source}: the {noun}s could not be read as numbers; write integers for ids")


def record_name(noun: str, record: Any, index: int) -> str:
    """ "annotation 17 (image 4)", or "annotation at index 3" where a record has no id."""
    if not isinstance(record, Mapping):
        return f"{noun} at index {index}"
    name = f"{noun} {record['id']}" if noun != "detection" and "id" in record else f"{noun} at index {index}"
    return f"{name} (image {record['image_id']})" if "image_id" in record else name
