"""What the shells need from the world, as Protocols. Implemented in reconciler.store, .git and .vault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler.core.commands import Append, AppendResult
from reconciler.core.event_filter import EventFilter
from reconciler.core.events import Event

__all__ = ["Doc", "EventFilter", "EventLog", "Head", "ViewSnapshot", "Views"]

Doc = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log. `log_id` names this log; it changes when a log is restored from a backup."""

    log_id: str
    last_event_id: int


class EventLog(Protocol):
    async def append(self, batch: Sequence[Append], *, atomic: bool = True) -> list[AppendResult]:
        """One transaction for the whole batch, a result per command in its order. With `atomic`, one conflict means
        that nothing of the batch was appended (the others' results are then not meaningful). An outcome that was lost
        with the connection is looked up by command id before this returns or raises `Transient`."""
        ...

    async def read(
        self, after: int, *, limit: int, only: EventFilter | None = None, upto: int | None = None
    ) -> list[Event]:
        """Events with event_id > after, ascending."""
        ...

    async def head(self) -> Head: ...

    async def wait_past(self, event_id: int, timeout_s: float) -> int:
        """Returns the last event_id as soon as it is > event_id, or after the time-out whatever it is then."""
        ...


@dataclass(frozen=True, slots=True)
class ViewSnapshot:
    """Rows of several views read in one REPEATABLE READ transaction. `event_id`: the lowest of their checkpoints."""

    event_id: int
    log_id: str
    rows: Mapping[str, Mapping[str, Doc]]  # view -> key -> document


class Views(Protocol):
    async def get(self, view: str, key: str) -> Doc | None: ...

    async def snapshot(self, views: Iterable[str]) -> ViewSnapshot: ...

    async def wait_for(self, event_id: int, views: Iterable[str], timeout_s: float) -> None:
        """Read-your-writes: returns when the checkpoints of `views` are >= event_id, else raises `Transient` with code
        "projection_timeout" that names the view, its checkpoint and the event waited for."""
        ...
