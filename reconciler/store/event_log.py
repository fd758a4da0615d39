"""The event log in Postgres: `reconciler.ports.EventLog`.

Called by the handlers, the loops and the server. One transaction appends a batch:

    BEGIN; look_before_append (lock of the head row, then all that the batch depends on); place() in Python;
    one statement that writes events, commands, claims, the new head, and notifies; COMMIT.

The lock makes event_id dense and in the order of commit. When the connection is lost, nobody knows whether COMMIT
arrived: the next attempt takes the lock again, which waits until the lost transaction has ended either way, and finds
its command ids, or does not find them and appends. So a retry is never a guess, and a command never has two effects.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import asyncpg

from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Bug, Transient
from reconciler.core.commands import Append, Appended, AppendResult
from reconciler.core.events import Event, NewEvent
from reconciler.ports import EventFilter, Head
from reconciler.store.append_checks import check_batch
from reconciler.store.event_queries import HEAD, look, reading, write
from reconciler.store.limits import APPEND_DEADLINE_S, READ_EVENTS_MAX
from reconciler.store.placement import nothing_appended, place
from reconciler.store.pool import borrowed
from reconciler.store.rows import event_of
from reconciler.store.tail import Tail


class PostgresEventLog:
    """`check_event` raises a Bug when an event does not fit its schema."""

    def __init__(
        self, pool: asyncpg.Pool[Any], tail: Tail, check_event: Callable[[NewEvent], None], clock: Clock
    ) -> None:
        self._pool = pool
        self._tail = tail
        self._check_event = check_event
        self._clock = clock
        self._backoff = Backoff(first_s=0.02, cap_s=1.0)
        self._rng = random.Random()  # noqa: S311  # jitter, no secret

    async def append(self, batch: Sequence[Append], *, atomic: bool = True) -> list[AppendResult]:
        if not batch:
            return []
        payloads = check_batch(batch, self._check_event)
        deadline_s = self._clock.now_s() + APPEND_DEADLINE_S
        placed_before: dict[str, int] = {}  # command id -> first_event_id of an attempt whose outcome was lost
        failures = 0
        while True:
            try:
                return await self._append_once(batch, payloads, atomic, placed_before)
            except Transient as error:
                failures += 1
                delay_s = self._backoff.delay_s(failures, self._rng)
                if self._clock.now_s() + delay_s > deadline_s or error.code == "disk_full":
                    raise
                await self._clock.sleep(delay_s)

    async def read(
        self, after: int, *, limit: int, only: EventFilter | None = None, upto: int | None = None
    ) -> list[Event]:
        if not 1 <= limit <= READ_EVENTS_MAX:
            raise Bug("read the log", f"limit {limit} is not in 1..{READ_EVENTS_MAX}", code="limit_invalid")
        query, arguments = reading(after, limit, only or EventFilter(), upto)
        async with borrowed(self._pool, f"read the log after event {after}") as connection:
            return [event_of(row) for row in await connection.fetch(query, *arguments)]

    async def head(self) -> Head:
        async with borrowed(self._pool, "read the head of the log") as connection:
            row = await connection.fetchrow(HEAD)
        assert row is not None
        return Head(row["log_id"], row["last_event_id"])

    async def wait_past(self, event_id: int, timeout_s: float) -> int:
        return await self._tail.wait_past(event_id, timeout_s)

    async def _append_once(
        self, batch: Sequence[Append], payloads: Sequence[str], atomic: bool, placed_before: dict[str, int]
    ) -> list[AppendResult]:
        earlier = dict(placed_before)
        async with borrowed(self._pool, _attempted(batch)) as connection, connection.transaction():
            placement = place(batch, await look(connection, batch))
            if atomic and placement.conflicts:
                return _own(nothing_appended(placement.results), earlier)
            if placement.commands:
                await write(connection, placement, _texts(batch, payloads))
                placed_before.update({name: recorded.first_event_id for name, recorded in placement.commands.items()})
        self._tail.advance(max((recorded.last_event_id for recorded in placement.commands.values()), default=0))
        return _own(placement.results, earlier)


def _own(results: Sequence[AppendResult], placed_before: Mapping[str, int]) -> list[AppendResult]:
    """A command that an earlier attempt of this very call had placed is no duplicate to the caller (once)."""
    unclaimed = dict(placed_before)
    return [
        replace(result, duplicate=False)
        if isinstance(result, Appended)
        and result.duplicate
        and unclaimed.pop(result.command_id, None) == result.first_event_id
        else result
        for result in results
    ]


def _texts(batch: Sequence[Append], payloads: Sequence[str]) -> dict[int, str]:
    """The JSON text of each event of the batch, by the identity of the event object."""
    events = [event for append in batch for event in append.events]
    return {id(event): text for event, text in zip(events, payloads, strict=True)}


def _attempted(batch: Sequence[Append]) -> str:
    more = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
    return f"append command {batch[0].command_id}{more}"
