"""Group commit: what queued while transactions ran goes into the next one.

Called by `PostgresEventLog.append`. There is no timer: a single command is sent at once, and under load the batches
grow by themselves, so that many commands share one flush to disk. Two batches are under way at a time: while the first
holds the head row, the second waits for it in Postgres, all made ready, and follows without a pause.

It promises that a unit is never split, and that units with a command, an aggregate or a claim in common keep their
order: they are never under way at the same time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from kit.clock import Clock
from kit.errors import Transient
from reconciler.core.commands import AppendResult
from reconciler.store.append_batch import Unit, part_of
from reconciler.store.limits import (
    BATCH_COMMANDS_MAX,
    BATCH_EVENTS_MAX,
    BATCHES_UNDER_WAY_MAX,
    QUEUE_COMMANDS_MAX,
    QUEUE_TIMEOUT_S,
)
from reconciler.store.settling import Send, Settler, fail


class Batcher:
    """`send`: as of `Settler`; it is called for `BATCHES_UNDER_WAY_MAX` batches at once."""

    def __init__(self, send: Send, clock: Clock) -> None:
        self._settler = Settler(send, clock)
        self._queue: deque[Unit] = deque()
        self._queued_commands = 0
        self._queued_events = 0
        self._under_way: list[Sequence[Unit]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._looks_soon = False
        self._closed = False

    async def submit(self, unit: Unit) -> list[AppendResult]:
        if self._queued_commands + len(unit.batch) > QUEUE_COMMANDS_MAX and self._queue:
            await self._wait_for_room(unit)
        if self._closed:
            raise _closed()
        if not self._under_way and not self._queue:  # its caller sends it, which spares it two turns of the event loop
            self._under_way.append([unit])
            await self._carry([unit])
            return unit.answer.result()
        unit.part = part_of(unit.batch)  # now, while nothing waits for it
        self._queue.append(unit)
        self._queued_commands += len(unit.batch)
        self._queued_events += len(unit.payloads)
        self._look_soon()
        return await unit.answer

    async def close(self) -> None:
        """What is still queued, or under way, is answered with `Transient`."""
        self._closed = self._settler.closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._room.set()
        for unit in self._queue:
            fail(unit, _closed())
        self._queue.clear()

    async def _wait_for_room(self, unit: Unit) -> None:
        try:
            async with asyncio.timeout(QUEUE_TIMEOUT_S):
                while self._queue and self._queued_commands + len(unit.batch) > QUEUE_COMMANDS_MAX:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise Transient(
                f"append command {unit.batch[0].command_id}",
                f"{self._queued_commands} commands wait to be appended, and none went in {QUEUE_TIMEOUT_S:g} s",
                fix="see that Postgres keeps up, and send it again",
                code="append_queue_full",
            ) from None

    def _look_soon(self) -> None:
        """After this turn of the event loop: by then, those who have just been answered have queued what they send
        next."""
        if self._queue and not self._looks_soon and len(self._under_way) < BATCHES_UNDER_WAY_MAX:
            self._looks_soon = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._looks_soon = False
        while len(self._under_way) < BATCHES_UNDER_WAY_MAX and not self._closed and (units := self._take()):
            self._under_way.append(units)
            task = asyncio.create_task(self._carry(units), name="append to the log")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, units: Sequence[Unit]) -> None:
        try:
            await self._settler.settle(units)
        except asyncio.CancelledError:
            for unit in units:
                fail(unit, _closed())
            raise
        finally:
            self._under_way.remove(units)
            self._look_soon()

    def _take(self) -> list[Unit]:
        """The next batch. It ends before a unit that would stand against one in it, or against one under way. With
        nothing under way it is the first half, so that the other half can follow it; one much smaller than what is
        under way waits, and grows."""
        under_way = [unit for units in self._under_way for unit in units]
        if 2 * (self._queued_commands + self._queued_events) < sum(map(_weight, under_way)):
            return []
        commands_max = min(BATCH_COMMANDS_MAX, self._queued_commands if under_way else self._queued_commands // 2)
        busy = {key for unit in under_way for key in unit.touches()}
        taken: list[Unit] = []
        alone: set[object] = set()
        commands = events = 0
        while self._queue:
            unit = self._queue[0]
            if not unit.answer.done():  # else its caller has gone
                commands += len(unit.batch)
                events += len(unit.payloads)
                full = commands > commands_max or events > BATCH_EVENTS_MAX
                single = unit.alone()
                if (full and taken) or not alone.isdisjoint(single) or not busy.isdisjoint(unit.touches()):
                    break
                alone.update(single)
                taken.append(unit)
            self._queue.popleft()
            self._queued_commands -= len(unit.batch)
            self._queued_events -= len(unit.payloads)
        self._room.set()
        return taken


def _weight(unit: Unit) -> int:
    return len(unit.batch) + len(unit.payloads)


def _closed() -> Transient:
    return Transient("append to the log", "the store is being closed", code="store_closed")
