"""What commands print: one JSON document, or a page for people. Used by every command.

A page is rich on a terminal and plain aligned text elsewhere, in the same order with the same words, so that a script
that reads the plain form is not surprised. Nothing is cut short. Text from commits and agents is not trusted: control
characters, which could move the cursor or hide a line, are shown as \\xNN.
"""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

_INDENT = "  "
_STYLES: Mapping[str, str] = {
    "converged": "green", "active": "green", "ready": "green", "succeeded": "green", "applied": "green",
    "rolling": "yellow", "waiting": "yellow", "retained": "yellow", "stopping": "yellow", "refused": "yellow",
    "booting": "yellow", "preparing": "yellow", "allocated": "yellow", "unready": "yellow",
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
            self.blocks.append(Block(heading, told, table))


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


def clean(value: Any) -> str:
    """As text on one line, without what a terminal would obey."""
    text = "" if value is None else str(value)
    return "".join(f"\\x{ord(char):02x}" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in text)


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


def _print_rich(page: Page, out: TextIO) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=out, highlight=False, soft_wrap=False)
    for number, block in enumerate(page.blocks):
        if number:
            console.print()
        if block.heading:
            console.print(Text(block.heading, style="bold"))
        indent = (0, 0, 0, len(_INDENT) if block.heading else 0)
        for line in block.lines:
            console.print(Padding(Text(line), indent))
        if block.table:
            grid = RichTable(box=None, pad_edge=False, show_header=any(block.table.columns), header_style="dim")
            for column in block.table.columns:
                grid.add_column(column.upper(), overflow="fold")
            for row in block.table.rows:
                grid.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
            console.print(Padding(grid, indent))
