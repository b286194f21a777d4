"""Result files without a JSON parser for every number: records that a program wrote one after the other look alike.

Take the digits out of such a file and one text remains, again and again: that of a record's keys and brackets. Where
this holds, the numbers alone are the content, and NumPy reads them all at once, without a Python object for each.
Where it does not hold (a number with an exponent, another order of keys), the piece goes to the standard library.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from posekit.annotations.parsing import NotInPieces

# Small enough that a piece and all that is made of it stay in the cache and in memory that is used again.
PIECE_BYTES = 1 << 17
_NUMBER = b"0123456789.-"
# Every byte that is no part of a number becomes a blank.
_BLANKS = bytes(byte if byte in _NUMBER else 32 for byte in range(256))
_EXACT = 2**53  # whole numbers below it are exact in float64; larger ones go to the standard library

Columns = dict[str, np.ndarray]


class Shape:
    """How the numbers of a record are laid out in the text.

    Attributes:
        record: the first record, parsed.
        between: what stands between two records.
        spans: key to the place of its numbers among those of a record.
    """

    def __init__(self, text: bytes) -> None:
        """Take the shape from the first two records of ``text``; raises NotInPieces where they have none."""
        end = text.find(b"}") + 1
        start = text.find(b"{", end)
        if not end or start < 0:
            raise NotInPieces
        self.between = text[end:start]
        self.skeleton = text[:end].translate(None, _NUMBER) + self.between
        try:
            self.record = json.loads(text[:end])
        except ValueError as error:
            raise NotInPieces from error
        if self.between.strip() != b"," or not isinstance(self.record, dict):
            raise NotInPieces
        self.spans: dict[str, slice | int] = {}
        self.numbers = 0
        for key, value in self.record.items():
            values = value if isinstance(value, list) else [value]
            if any(type(v) not in (int, float) for v in values) or any(c in key.encode() for c in _NUMBER):
                raise NotInPieces
            at = self.numbers
            self.numbers += len(values)
            self.spans[key] = slice(at, self.numbers) if isinstance(value, list) else at

    def read(self, text: bytes) -> Columns | None:
        """Columns of the records in ``text``, which ends behind ``between``; None where they look otherwise."""
        bare = text.translate(None, _NUMBER)
        count, rest = divmod(len(bare), len(self.skeleton))
        if rest or bare != self.skeleton * count:
            return None
        blank = text.translate(_BLANKS)
        if not _is_json(np.frombuffer(blank, np.uint8)):
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # NumPy's way to say that it stopped before the end
                numbers = np.fromstring(blank, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
        if len(numbers) != count * self.numbers or not np.abs(numbers).max(initial=0) < _EXACT:
            return None
        table = numbers.reshape(count, self.numbers)
        return {key: table[:, span] for key, span in self.spans.items()}


def _is_json(text: np.ndarray) -> bool:
    """Whether the numbers of a blanked text, which begins and ends with a blank, are written as JSON demands."""
    before, byte, after = text[:-2], text[1:-1], text[2:]  # digits are above the dot (46), blanks and signs below
    loose_dot = (byte == 46) & ((before <= 46) | (after <= 46))
    return not (loose_dot | ((byte == 48) & (before < 46) & (after > 46))).any()


def uniform_pieces(file: BinaryIO) -> Iterator[Columns | list[Mapping[str, Any]]]:
    """A JSON list of records piece by piece: columns where the records are alike, else the parsed records.

    Raises:
        NotInPieces: the text is no list of such records.
    """
    block = file.read(PIECE_BYTES).lstrip()
    if not block.startswith(b"["):
        raise NotInPieces
    block = block[1:].lstrip()
    shape = Shape(block)
    end = b"}" + shape.between
    while block:
        following = file.read(PIECE_BYTES)
        if following:
            cut = block.rfind(end) + len(end)
            if cut < len(end):
                block += following
                continue
            piece, block = block[:cut], block[cut:] + following
        else:
            last = block.rstrip()
            if not last.endswith(b"]"):
                raise NotInPieces
            piece, block = last[:-1].rstrip() + shape.between, b""
            if piece == shape.between:
                raise NotInPieces  # a comma at the end of the list
        columns = shape.read(piece)
        yield _parsed(piece[: -len(shape.between)]) if columns is None else columns


def _parsed(text: bytes) -> list[Mapping[str, Any]]:
    try:
        return json.loads(b"[" + text + b"]")
    except ValueError as error:
        raise NotInPieces from error


def integers(columns: Columns, key: str, default: int | None = None) -> np.ndarray:
    """(N,) int64 of a column, ``default`` where there is none; raises KeyError or NotInPieces."""
    if default is not None and key not in columns:
        return np.full(len(next(iter(columns.values()))), default)
    column = floats(columns, key)
    if not (column == np.trunc(column)).all():
        raise NotInPieces
    return column.astype(np.int64)


def floats(columns: Columns, key: str) -> np.ndarray:
    """(N,) float64 of a column of numbers; raises KeyError or NotInPieces."""
    if columns[key].ndim != 1:
        raise NotInPieces
    return columns[key]


def rows(columns: Columns, key: str, width: int) -> np.ndarray:
    """(N, width) float64 of a column of lists; raises KeyError or NotInPieces."""
    if columns[key].shape[1:] != (width,):
        raise NotInPieces
    return columns[key]
