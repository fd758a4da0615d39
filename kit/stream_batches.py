"""What belongs together among the lines of the change stream: a snapshot, or the changes of whole commands. Pure.

Used by `kit.follow_changes`, with a `Batching` for each connection. A bookmark says that everything up to its cursor
has come. Without one it is known that a command is whole when a change of another one follows it directly; that bounds
what is held, and lets a reader get on whose connection always breaks before a bookmark comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kit.errors import Refusal

CHANGES_MAX = 1_000
"""Held before what is whole among them is handed on; a single command may be larger."""
ROWS_MAX = 1_000_000
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is, as of `cursor`. `rows`: lines with view, key and doc. `plan`: of a machine, the line that says
    what the rows are part of."""

    cursor: str
    rows: tuple[Line, ...] = ()
    plan: Line | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """`lines`: of type change (with its event) or removal, in the log's order. With them everything up to `cursor` that
    the filter lets through has been handed on; there may be none."""

    cursor: str
    lines: tuple[Line, ...] = ()

    @property
    def events(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(line["event"] for line in self.lines if line["type"] == "change")


Batch = Snapshot | Changes


@dataclass(slots=True)
class Batching:
    """`wants_snapshot`: the lines up to the first bookmark are one. `wants_start`: there was no cursor, so that of the
    greeting is where the reader begins."""

    wants_snapshot: bool = False
    wants_start: bool = False
    _held: list[Line] = field(default_factory=list)
    _rows: list[Line] = field(default_factory=list)
    _plan: Line | None = None

    def take(self, line: Line) -> Batch | None:
        """What is whole with this line."""
        match line["type"]:
            case "hello" if self.wants_start:
                return Changes(line["cursor"])
            case "plan" if self.wants_snapshot:
                self._plan = line
            case "row" if self.wants_snapshot:
                self._row(line)
            case "change" | "removal":
                return self._change(line)
            case "bookmark":
                return self._bookmark(line["cursor"])
        return None

    def left(self) -> Batch | None:
        """The connection is over: what is whole without a bookmark."""
        for end in range(len(self._held) - 1, 0, -1):
            if _apart(self._held[end - 1], self._held[end]):
                return Changes(self._held[end - 1]["cursor"], tuple(self._held[:end]))
        return None

    def _row(self, line: Line) -> None:
        if len(self._rows) == ROWS_MAX:
            why = f"it has more than {ROWS_MAX} rows"
            raise Refusal("read a snapshot", why, fix="narrow it by a filter", code="snapshot_too_large")
        self._rows.append(line)

    def _change(self, line: Line) -> Changes | None:
        if self.wants_snapshot:
            why = "the controller went on without one, so it is of a version that knows none"
            raise Refusal("read a snapshot", why, fix="update the controller", code="snapshot_unknown")
        whole = None
        if len(self._held) >= CHANGES_MAX and _apart(self._held[-1], line):
            whole = Changes(self._held[-1]["cursor"], tuple(self._held))
            self._held = []
        self._held.append(line)
        return whole

    def _bookmark(self, cursor: str) -> Batch:
        if self.wants_snapshot:
            self.wants_snapshot = False
            rows, self._rows = tuple(self._rows), []
            return Snapshot(cursor, rows, self._plan)
        lines, self._held = tuple(self._held), []
        return Changes(cursor, lines)


def _apart(before: Line, after: Line) -> bool:
    """A removal does not say of which command it is, so nothing is cut beside one."""
    if before["type"] != "change" or after["type"] != "change":
        return False
    ids = before["event"].get("command_id"), after["event"].get("command_id")
    return None not in ids and ids[0] != ids[1]
