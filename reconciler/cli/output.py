"""What commands print: one JSON document, or a page for people. Used by every command.

A page on a terminal has colours, says how long ago a time was, and fits its tables to the width; elsewhere it is plain
aligned text in the same order with the same words, so that a script that reads it is not surprised. Times are UTC and
end with Z. Nothing is cut short, and no id is broken where a line ends as long as it fits on a line (see
`reconciler.cli.layout`). Text from commits and agents is not trusted: control
characters, which could move the cursor or hide a line, are shown as \\xNN.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

from kit.plain_text import clean
from reconciler.cli import layout

__all__ = [
    "Block",
    "Page",
    "Table",
    "add_output_option",
    "aligned",
    "clean",
    "plain",
    "print_entry",
    "print_json",
    "print_json_line",
    "print_page",
]

_INDENT = "  "
_STYLES: Mapping[str, str] = {
    "converged": "green", "active": "green", "ready": "green", "succeeded": "green", "applied": "green",
    "held": "yellow", "held_back": "yellow", "draining": "yellow", "disabled": "yellow",
    "rolling": "yellow", "waiting": "yellow", "retained": "yellow", "stopping": "yellow", "refused": "yellow",
    "booting": "yellow", "preparing": "yellow", "allocated": "yellow", "unready": "yellow",
    "recorded": "dim", "superseded": "dim", "seen": "yellow",
    "failing": "bold red", "failed": "bold red", "offline": "bold red", "removed": "dim",
}  # fmt: skip
"""Words that carry a colour on a terminal. Elsewhere the word says it all."""


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, then lines, then a table; each may be missing."""

    heading: str = ""
    lines: tuple[str, ...] = ()
    table: Table | None = None


@dataclass(slots=True)
class Page:
    blocks: list[Block] = field(default_factory=list)

    def add(
        self,
        heading: str = "",
        lines: Iterable[str] = (),
        columns: Sequence[str] = (),
        rows: Iterable[Sequence[Any]] = (),
    ) -> None:
        """A table without rows is left out, and so is a block without anything."""
        made = tuple(tuple(clean(cell) for cell in row) for row in rows)
        table = Table(tuple(columns), made) if made else None
        told = tuple(clean(line) for line in lines)
        if told or table:
            self.blocks.append(Block(clean(heading), told, table))


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """`--output`, unless the command has its own."""
    try:
        parser.add_argument("--output", choices=("table", "json"), default="table", help="for people, or for programs")
    except argparse.ArgumentError:
        return


def print_json(document: Any, *, stream: TextIO | None = None) -> None:
    """One document, keys in a stable order."""
    out = stream or sys.stdout
    out.write(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    out.flush()


def print_json_line(document: Any, *, stream: TextIO | None = None) -> None:
    """One line of NDJSON."""
    out = stream or sys.stdout
    out.write(json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n")
    out.flush()


def print_page(page: Page, *, stream: TextIO | None = None) -> None:
    out = stream or sys.stdout
    if out.isatty():
        _print_rich(page, out)
    else:
        out.write(plain(page))
    out.flush()


def plain(page: Page) -> str:
    """Blocks with an empty line between them."""
    return "\n".join(_plain_block(block) for block in page.blocks)


def _plain_block(block: Block) -> str:
    lines = [block.heading] if block.heading else []
    indent = _INDENT if block.heading else ""
    lines += [indent + line for line in block.lines]
    if block.table:
        lines += [indent + row for row in aligned(block.table)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def aligned(table: Table) -> list[str]:
    """Columns two spaces apart, each as wide as its widest cell. A table without column names has no head."""
    rows = [tuple(column.upper() for column in table.columns), *table.rows] if any(table.columns) else list(table.rows)
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_entry(heading: str, lines: Iterable[Sequence[str]], *, stream: TextIO | None = None) -> None:
    """One of a series on a terminal: a bold heading, then indented lines of parts, and no empty line after it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
    first, *more = layout.packed_lines([clean(heading)], console.width - len(layout.INDENT))
    console.print(Text(first, style="bold"))
    for text in more:
        console.print(Text(layout.INDENT + text, style="bold"))
    for parts in lines:
        told = [layout.with_ages(clean(part), datetime.now(UTC)) for part in parts]
        for line in layout.packed_lines(told, console.width - len(layout.INDENT)):
            console.print(Text(layout.INDENT + line))


def _print_rich(page: Page, out: TextIO) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console, now = Console(file=out, highlight=False, soft_wrap=False), datetime.now(UTC)
    for number, block in enumerate(page.blocks):
        if number:
            console.print()
        if block.heading:
            console.print(Text(block.heading, style="bold"))
        indent = len(_INDENT) if block.heading else 0
        for line in block.lines:
            console.print(Padding(Text(layout.with_ages(line, now)), (0, 0, 0, indent)))
        if block.table:
            rows = [tuple(layout.with_ages(cell, now) for cell in row) for row in block.table.rows]
            for pieces in layout.fitted(block.table.columns, rows, console.width - indent):
                styled = (Text(piece.text, style=_STYLES.get(piece.word, piece.style)) for piece in pieces)
                console.print(Padding(Text.assemble(*styled), (0, 0, 0, indent)))
