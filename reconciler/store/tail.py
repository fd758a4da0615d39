"""How far the log has come, pushed: LISTEN and NOTIFY, with a poll each second under it.

Started by `reconciler.store.store`; read through `PostgresEventLog.wait_past` by the projector and the change streams.
A notification only wakes: a lost one costs a second. What this process appends moves it at once, and the other
processes are told afterwards, outside of the append and at most once in ANNOUNCE_INTERVAL_S: a NOTIFY in the
transaction would make every append wait for it. Its one connection is outside the pool; when it breaks, it is opened
anew with backoff, and the waiters go on waiting until their own time-outs.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import TrueupError
from reconciler.store.limits import ANNOUNCE_INTERVAL_S, TAIL_POLL_S
from reconciler.store.pool import translated

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

CHANNEL = "trueup_log"

LAST = "SELECT last_event_id FROM log_head"

TELL = "SELECT pg_notify($1, $2)"

_log = logs.get("store")


class Tail:
    """`last_event_id` only grows, and never runs ahead of what is committed."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection[Any]]], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._look = asyncio.Event()
        self._appended = self._told = 0
        self._task: asyncio.Task[None] | None = None
        self._backoff = Backoff(first_s=0.1, cap_s=5.0)
        self.last_event_id = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="tail of the log")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def advance(self, event_id: int) -> None:
        """Told by LISTEN and by the poll."""
        if event_id <= self.last_event_id:
            return
        self.last_event_id = event_id
        for waiter, after in self._waiters.items():
            if event_id > after and not waiter.done():
                waiter.set_result(None)

    def announce(self, event_id: int) -> None:
        """This process has appended so far."""
        self.advance(event_id)
        if event_id > self._appended:
            self._appended = event_id
            self._look.set()

    async def wait_past(self, event_id: int, timeout_s: float) -> int:
        if self.last_event_id > event_id:
            return self.last_event_id
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = event_id
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await waiter
        finally:
            del self._waiters[waiter]
        return self.last_event_id

    async def _run(self) -> None:
        failures, rng = 0, random.Random()  # noqa: S311  # jitter, no secret
        while True:
            try:
                with translated("follow the tail of the log"):
                    connection = await self._connect()
                    try:
                        failures = 0
                        await self._follow(connection)
                    finally:
                        connection.terminate()
            except TrueupError as error:
                failures += 1
                _log.warning("the tail is not followed", failures=failures, why=str(error))
            await self._clock.sleep(self._backoff.delay_s(max(failures, 1), rng))

    async def _follow(self, connection: asyncpg.Connection[Any]) -> None:
        """Until the connection breaks. Listening starts before the first look, so nothing falls between."""
        connection.add_termination_listener(lambda _: self._look.set())
        await connection.add_listener(CHANNEL, self._heard)
        while True:
            self._look.clear()
            await self._tell_or_look(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TAIL_POLL_S):
                    await self._look.wait()

    async def _tell_or_look(self, connection: asyncpg.Connection[Any]) -> None:
        """Who has appended the newest event knows where the log ends."""
        if self._told < self._appended:
            self._told = self._appended
            await connection.execute(TELL, CHANNEL, str(self._told))
            await self._clock.sleep(ANNOUNCE_INTERVAL_S)
        else:
            self.advance(await connection.fetchval(LAST))

    def _heard(self, connection: Connection, pid: int, channel: str, payload: object) -> None:
        """The payload is the last event_id of a committed batch; anything else only makes the tail look."""
        if isinstance(payload, str) and payload.isdecimal():
            self.advance(int(payload))
        else:
            self._look.set()
