"""Group commit: what queued while the last transaction ran goes into the next one.

Called by `PostgresEventLog.append`. There is no timer: a single command is sent at once, and under load the batches
grow by themselves, so that many commands share one flush to disk. One batch is under way at a time. It promises that
a unit is never split, that the units keep their order, and that nobody else's trouble becomes a unit's error: when a
batch fails for a reason that nobody foresaw, each of its units is sent again by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Transient
from reconciler.core.commands import AppendResult
from reconciler.store.append_batch import Unit, part_of
from reconciler.store.limits import BATCH_COMMANDS_MAX, BATCH_EVENTS_MAX, QUEUE_COMMANDS_MAX, QUEUE_TIMEOUT_S

Send = Callable[[Sequence[Unit]], Awaitable[list[list[AppendResult]]]]


class Batcher:
    """`send` appends the units in one transaction and gives the results of each; its `Transient` is tried again."""

    def __init__(self, send: Send, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._queue: deque[Unit] = deque()
        self._queued_commands = 0
        self._sending = False  # by the task, or by a caller that found nobody at it
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._backoff = Backoff(first_s=0.02, cap_s=1.0)
        self._rng = random.Random()  # noqa: S311  # jitter, no secret

    async def submit(self, unit: Unit) -> list[AppendResult]:
        if self._queued_commands + len(unit.batch) > QUEUE_COMMANDS_MAX and self._queue:
            await self._wait_for_room(unit)
        if self._closed:
            raise _closed()
        if not self._sending:
            await self._send_own(unit)
            return unit.answer.result()
        unit.part = part_of(unit.batch)  # now, while nothing waits for it
        self._queue.append(unit)
        self._queued_commands += len(unit.batch)
        return await unit.answer

    async def _send_own(self, unit: Unit) -> None:
        """Nothing else is under way, so the caller sends its unit itself, which spares it two turns of the event loop.
        What queues meanwhile is left to the task."""
        self._sending = True
        try:
            await self._settle([unit])
        finally:
            if self._queue and not self._closed:
                if self._task is None:
                    self._task = asyncio.create_task(self._run(), name="append to the log")
                self._filled.set()
            else:
                self._sending = False

    async def close(self) -> None:
        """What is still queued, or under way, is answered with `Transient`."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._room.set()
        for unit in self._queue:
            _fail(unit, _closed())
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

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            units = self._take()
            if units:
                try:
                    await self._settle(units)
                except asyncio.CancelledError:
                    for unit in units:
                        _fail(unit, _closed())
                    raise
            else:
                self._filled.clear()
                self._sending = False

    def _take(self) -> list[Unit]:
        """The next batch. It ends before a unit that would stand against one in it: the same command, or the version of
        the same aggregate."""
        taken: list[Unit] = []
        commands: set[str] = set()
        expected: set[tuple[str, str]] = set()
        size = events = 0
        while self._queue and (
            not taken
            or (
                size + len(self._queue[0].batch) <= BATCH_COMMANDS_MAX
                and events + len(self._queue[0].payloads) <= BATCH_EVENTS_MAX
            )
        ):
            unit = self._queue[0]
            if not unit.answer.done():  # its caller has gone
                if any(a.command_id in commands or not expected.isdisjoint(a.expected) for a in unit.batch):
                    break
                for append in unit.batch:
                    commands.add(append.command_id)
                    expected.update(append.expected)
                taken.append(unit)
                size += len(unit.batch)
                events += len(unit.payloads)
            self._queue.popleft()
            self._queued_commands -= len(unit.batch)
        self._room.set()
        return taken

    async def _settle(self, units: list[Unit]) -> None:
        """Until each has its answer."""
        failures = 0
        while units:
            try:
                answers = await self._send(units)
            except Transient as error:
                failures += 1
                units = await self._postpone(units, error, self._backoff.delay_s(failures, self._rng))
            except Exception as error:
                if len(units) > 1:
                    for unit in units:
                        await self._settle([unit])
                else:
                    _fail(units[0], error)
                return
            else:
                for unit, answer in zip(units, answers, strict=True):
                    if not unit.answer.done():
                        unit.answer.set_result(answer)
                return

    async def _postpone(self, units: list[Unit], error: Transient, delay_s: float) -> list[Unit]:
        """Those that have time left, after the delay; the others hear of the error."""
        again_s = self._clock.now_s() + delay_s
        hopeless = self._closed or error.code == "disk_full"
        late = [unit for unit in units if hopeless or again_s > unit.deadline_s]
        for unit in late:
            _fail(unit, error)
        left = [unit for unit in units if unit not in late and not unit.answer.done()]
        if left:
            await self._clock.sleep(delay_s)
        return left


def _fail(unit: Unit, error: Exception) -> None:
    if not unit.answer.done():
        unit.answer.set_exception(error)


def _closed() -> Transient:
    return Transient("append to the log", "the store is being closed", code="store_closed")
