"""How a table fits a terminal. Pure; used by `reconciler.cli.output`.

Three forms, the first that fits: as it is; with the last column, which holds sentences, wrapped; each row as an entry
of "COLUMN value" pairs. Only white space is a place to break a line, so that an id can be taken up with a double click.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

LAST_COLUMN_CHARS_MIN = 28
"""Narrower than this a sentence is a column of words."""
SENTENCES = frozenset({"what", "subject", "reason", "trouble", "value"})
"""Last columns that need no name."""
_GAP = "  "
INDENT = "    "
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9:]{8})(?:\.[0-9]+)?Z")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one style; `word` is the cell's own text, which may have a colour of its own."""

    text: str
    word: str = ""
    style: str = ""


Line = list[Piece]


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[Line]:
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    before_last = sum(widths[:-1]) + len(_GAP) * (len(columns) - 1)
    if before_last + widths[-1] <= width:
        return list(_table(columns, rows, widths))
    longest_word = max((len(word) for row in rows for word in row[-1].split()), default=0)
    if width - before_last >= max(LAST_COLUMN_CHARS_MIN, longest_word):
        return list(_table(columns, rows, [*widths[:-1], width - before_last]))
    return [line for row in rows for line in _entry(columns, row, width)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[Line]:
    if any(columns):
        yield [
            Piece(_GAP.join(name.upper().ljust(size) for name, size in zip(columns, widths, strict=True)), "", "dim")
        ]
    indent = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    for row in rows:
        first, *more = _wrapped(row[-1], widths[-1])
        cells = [Piece(cell.ljust(size) + _GAP, cell) for cell, size in zip(row[:-1], widths, strict=False)]
        yield [*cells, Piece(first, row[-1])]
        for line in more:
            yield [Piece(" " * indent), Piece(line)]


def _entry(columns: Sequence[str], row: Sequence[str], width: int) -> Iterator[Line]:
    """The first cell is what the row is called; a sentence in the last one stands beside it."""
    is_sentence = columns[-1] in SENTENCES
    first, *more = _wrapped(row[-1], width - len(row[0]) - len(_GAP)) if is_sentence else [""]
    yield [Piece(row[0], row[0], "bold"), Piece(_GAP + first if first else "")]
    for text in more:
        yield [Piece(" " * len(row[0] + _GAP)), Piece(text)]
    rest = len(columns) - 1 if is_sentence else len(columns)
    pairs = zip(columns[1:rest], row[1:rest], strict=True)
    yield from _packed([(name.upper(), cell) for name, cell in pairs], width)


def _packed(pairs: Sequence[tuple[str, str]], width: int) -> Iterator[Line]:
    """As many pairs on a line as fit; one that is longer than a line has lines of its own."""
    line: Line = []
    for name, cell in pairs:
        first, *more = _wrapped(cell, width - len(INDENT) - len(name) - 1)
        if line and (more or sum(len(piece.text) for piece in line) + len(f"{name} {cell}") > width):
            yield line
            line = []
        line = line or [Piece(INDENT)]
        line += [Piece(f"{name} ", "", "dim"), Piece(first + _GAP, cell)]
        for text in more:
            yield line
            line = [Piece(INDENT * 2), Piece(text)]
    if line:
        yield line


def packed_lines(parts: Sequence[str], width: int) -> list[str]:
    """Parts of a line, broken only between parts where that is possible."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 2 <= width:
            lines[-1] += f", {part}"
        else:
            lines += textwrap.wrap(part, max(width, 1), break_long_words=False, break_on_hyphens=False)
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]


def with_ages(text: str, now: datetime) -> str:
    """Times of the log in it get shorter and say how long ago they were: 2026-01-31 10:00:00Z (3 min ago)."""

    def told(match: re.Match[str]) -> str:
        try:
            time = datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=UTC)
        except ValueError:
            return match[0]
        return f"{match[1]} {match[2]}Z ({age((now - time).total_seconds())})"

    return _TIME.sub(told, text)


def age(seconds: float) -> str:
    """One number and its unit: at night nobody divides. The end of an act is ahead; so is what a faster clock wrote."""
    if -2 <= seconds < 0:
        return "now"
    return f"{_span(seconds)} ago" if seconds >= 0 else f"in {_span(-seconds)}"


def _span(seconds: float) -> str:
    for unit, size_s, limit in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds / size_s < limit:
            return f"{int(seconds / size_s)} {unit}"
    return f"{int(seconds / 86400)} d"
