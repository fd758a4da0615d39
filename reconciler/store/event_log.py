"""The event log in Postgres: `reconciler.ports.EventLog`.

Called by the handlers, the loops and the server. What they append goes through a `Batcher` to Postgres:

    check (Python) -> queue -> one SQL call that locks the head row, checks, writes and commits -> wake the readers

The next such call waits for that lock already, on a second connection (`batcher`).

When anything speaks against any command of the batch (a duplicate, a conflict, a claim to move), that call changes
nothing, and the batch takes the longer way, on which `placement` decides about each command:

    BEGIN; look_before_append (lock of the head row, then all that the batch depends on); place() in Python;
    write_events; COMMIT

The lock makes event_id dense and in the order of commit. When the connection is lost, nobody knows whether it was
committed: the next attempt takes the longer way, whose lock waits until the lost transaction has ended either way, and
finds its command ids, or does not find them and appends. A command whose statement arrives late, after its second
attempt, finds its own id. So a retry is never a guess, and a command never has two effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import asyncpg

from kit.clock import Clock
from kit.errors import Bug
from reconciler.core.commands import Append, Appended, AppendResult
from reconciler.core.events import Event, NewEvent
from reconciler.ports import EventFilter, Head
from reconciler.store.append_batch import Unit, call_for, results_of
from reconciler.store.append_checks import check_batch
from reconciler.store.append_line import AppendLine
from reconciler.store.append_queries import look, write
from reconciler.store.batcher import Batcher
from reconciler.store.event_queries import HEAD, PLAN_FOR_THESE_VALUES, reading
from reconciler.store.limits import APPEND_DEADLINE_S, LOOP_COMMANDS_MAX, READ_EVENTS_MAX
from reconciler.store.placement import place_units
from reconciler.store.pool import borrowed
from reconciler.store.reached import Reached
from reconciler.store.rows import event_of
from reconciler.store.tail import Tail

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

_P = ParamSpec("_P")
_T = TypeVar("_T")


class PostgresEventLog:
    """`check_event` raises a Bug when an event does not fit its schema."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        tail: Tail,
        check_event: Callable[[NewEvent], None],
        clock: Clock,
        line: AppendLine,
    ) -> None:
        self._pool = pool
        self._tail = tail
        self._check_event = check_event
        self._clock = clock
        self._line = line
        self._reached = Reached()
        self._batcher = Batcher(self._send, clock)

    async def append(self, batch: Sequence[Append], *, atomic: bool = True) -> list[AppendResult]:
        if not batch:
            return []
        payloads = await _aside(len(batch), check_batch, batch, self._check_event)
        answer: asyncio.Future[list[AppendResult]] = asyncio.get_running_loop().create_future()
        deadline_s = self._clock.now_s() + APPEND_DEADLINE_S
        return await self._batcher.submit(Unit(batch, payloads, atomic, answer, deadline_s))

    async def close(self) -> None:
        await self._batcher.close()
        self._line.close()

    async def read(
        self, after: int, *, limit: int, only: EventFilter | None = None, upto: int | None = None
    ) -> list[Event]:
        if not 1 <= limit <= READ_EVENTS_MAX:
            raise Bug("read the log", f"limit {limit} is not in 1..{READ_EVENTS_MAX}", code="limit_invalid")
        wanted = only or EventFilter()
        query, arguments = reading(after, limit, wanted, upto)
        async with borrowed(self._pool, f"read the log after event {after}") as connection:
            if wanted == EventFilter():
                return [event_of(row) for row in await connection.fetch(query, *arguments)]
            async with connection.transaction(readonly=True):
                await connection.execute(PLAN_FOR_THESE_VALUES)
                return [event_of(row) for row in await connection.fetch(query, *arguments)]

    async def head(self) -> Head:
        async with borrowed(self._pool, "read the head of the log") as connection:
            row = await connection.fetchrow(HEAD)
        assert row is not None
        return Head(row["log_id"], row["last_event_id"])

    async def wait_past(self, event_id: int, timeout_s: float) -> int:
        return await self._tail.wait_past(event_id, timeout_s)

    async def _send(self, units: Sequence[Unit]) -> list[list[AppendResult]]:
        async with self._line.use(_attempted(units)) as connection:
            sent_after = [unit.sent_after for unit in units]
            for unit in units:
                if unit.sent_after is None:
                    unit.sent_after = self._tail.last_event_id
            answers = await self._send_at_once(connection, units) if sent_after == [None] * len(units) else None
            if answers is None:
                answers = await self._look_and_write(connection, units)
            return [_own(answer, after) for answer, after in zip(answers, sent_after, strict=True)]

    async def _send_at_once(self, connection: Connection, units: Sequence[Unit]) -> list[list[AppendResult]] | None:
        call = call_for(units, self._reached)
        answer = await connection.fetchval(call.statement, *call.arguments) if call else None
        if call is None or answer is None:
            return None
        first_id, *was_at = answer
        self._reached.learn(call.keys, was_at, call.sizes)
        self._tail.announce(first_id - 1 + sum(call.sizes))
        return results_of(units, first_id)

    async def _look_and_write(self, connection: Connection, units: Sequence[Unit]) -> list[list[AppendResult]]:
        async with connection.transaction():
            known = await look(connection, [append for unit in units for append in unit.batch])
            commands = sum(len(unit.batch) for unit in units)
            asked = [(unit.batch, unit.atomic) for unit in units]
            placement, answers = await _aside(commands, place_units, asked, known)
            if placement.commands:
                await write(connection, placement, _texts(units))
        self._tail.announce(max((recorded.last_event_id for recorded in placement.commands.values()), default=0))
        return answers


async def _aside(commands: int, work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """In a thread when there is much to do: hooks and streams of this process are answered meanwhile."""
    if commands <= LOOP_COMMANDS_MAX:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)


def _own(results: list[AppendResult], sent_after: int | None) -> list[AppendResult]:
    """What an earlier attempt of this very call has appended is no duplicate to its caller (once): it lies after the
    event that was the last one known before that attempt."""
    if sent_after is None:
        return results
    seen: set[str] = set()
    answer: list[AppendResult] = []
    for result in results:
        if isinstance(result, Appended) and result.command_id not in seen and result.first_event_id > sent_after:
            result = replace(result, duplicate=False)
        seen.add(result.command_id)
        answer.append(result)
    return answer


def _texts(units: Sequence[Unit]) -> dict[int, str]:
    """The JSON text of each event, by the identity of the event object."""
    return {
        id(event): text
        for unit in units
        for event, text in zip((e for append in unit.batch for e in append.events), unit.payloads, strict=True)
    }


def _attempted(units: Sequence[Unit]) -> str:
    more = sum(len(unit.batch) for unit in units) - 1
    return f"append command {units[0].batch[0].command_id}" + (f" and {more} more" if more else "")
