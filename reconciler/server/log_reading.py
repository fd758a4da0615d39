"""Pieces of the log that end where a command ends. Used by `reconciler.server.hub`, for its ring, for late readers."""

from __future__ import annotations

from kit.errors import Bug, Transient
from reconciler.core.events import Event
from reconciler.ports import EventFilter, EventLog
from reconciler.server.limits import Limits

COMMAND_EVENTS = 32
"""As many as most commands have."""


class LogReading:
    def __init__(self, log: EventLog, limits: Limits) -> None:
        self._log = log
        self._limits = limits

    async def whole_commands(self, after: int, head: int) -> list[Event]:
        """A page of the log that ends where a command ends. A full page may end inside one: that one is left for the
        next page, and if it is the only one the page grows. `head`: there is something up to there."""
        limit = self._limits.page_events
        while True:
            events = await self._log.read(after, limit=limit)
            if not events:
                raise Transient("read the log", f"nothing behind {after}, though its head is {head}")
            if len(events) < limit:
                return events
            whole = [event for event in events if event.command_id != events[-1].command_id]
            if whole:
                return whole
            limit = self._larger(limit, events[-1])

    async def command_end(self, event_id: int, head: int) -> int:
        """The last event of the command that `event_id` is of. `head` is the end of one."""
        limit = COMMAND_EVENTS
        while 0 < event_id < head:
            events = await self._log.read(event_id - 1, limit=limit)
            others = [event.event_id for event in events if event.command_id != events[0].command_id]
            if others or len(events) < limit:
                return others[0] - 1 if others else head
            limit = self._larger(limit, events[0])
        return event_id

    async def scan(self, key: str, after: int, end: int) -> tuple[list[Event], int]:
        """What `key` may see behind `after`, and up to where that was looked at: `end`, unless there is too much."""
        limit = self._limits.command_events_max
        events = await self._log.read(after, limit=limit, only=EventFilter(reader=key), upto=end)
        if len(events) < limit:
            return events, end
        whole = [event for event in events if event.command_id != events[-1].command_id]
        return (whole, whole[-1].event_id) if whole else (events, end)

    def _larger(self, limit: int, event: Event) -> int:
        if limit >= self._limits.command_events_max:
            raise Bug("read the log", f"command {event.command_id} has more than {limit} events")
        return min(limit * 4, self._limits.command_events_max)
