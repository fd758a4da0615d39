"""Exports the head of the log when it has moved. Called by `reconciler.tasks.head_export`, where its lease is held.

The place is often a network share, and a share that hangs keeps whoever touches it for ever. So the files are touched
in a thread of its own, which ends with the process, and never in two at a time.

Before it adds a head it holds the newest one against the log: a controller that signed what a changed log says now
would make the evidence worthless. It never makes the first head: an empty folder is more likely a share that is not
mounted.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from kit.clock import Clock
from kit.errors import Refusal, Transient
from reconciler.store.heads import check_heads, export_head, newest_head, nothing_there, private_key
from reconciler.store.pool import borrowed
from reconciler.store.verify import read_head

T = TypeVar("T")

FILES_TIMEOUT_S = 20.0
"""How long the place may take to answer."""


class HeadExporter:
    def __init__(self, pool: asyncpg.Pool[Any], path: Path, key_file: Path, clock: Clock) -> None:
        self._pool = pool
        self._path = path
        self._key_file = key_file
        self._clock = clock
        self._busy = False

    async def export(self) -> int:
        """Returns the event_id of the newest exported head. `Transient` for what may go by itself, else `Refusal`."""
        key = await self._apart(lambda: private_key(self._key_file))
        last = await self._apart(lambda: newest_head(self._path, key.public_key()))
        if last is None:
            raise nothing_there(self._path)
        async with borrowed(self._pool, "export the head of the log") as connection:
            now = await read_head(connection)
            bad, why = await check_heads(connection, [last], now)
        if bad:
            fix = "follow docs/runbooks/log-verify.md at once"
            raise Refusal(f"export the head of the log, from event {bad}", why, fix=fix, code="log_tampered")
        if now != last:
            at = self._clock.utc()
            await self._apart(lambda: export_head(self._path, key, now, at, begin=False))
        return now.event_id

    async def _apart(self, work: Callable[[], T]) -> T:
        """In the thread. It is not waited for when it hangs, nor when the process ends."""
        if self._busy:
            raise self._hangs("it has not answered the question before this one yet")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result, failed = work(), None
            except Exception as error:  # it belongs to whoever waits
                result, failed = None, error
            self._busy = False
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_answer, answer, result, failed)

        self._busy = True
        threading.Thread(target=run, name="heads", daemon=True).start()
        try:
            async with asyncio.timeout(FILES_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise self._hangs(f"it did not answer within {FILES_TIMEOUT_S:g} s") from None

    def _hangs(self, why: str) -> Transient:
        fix = "see whether the share answers (ls)"
        return Transient(f"export a head to {self._path}", why, fix=fix, code="heads_unreachable")


def _answer(answer: asyncio.Future[Any], result: Any, failed: Exception | None) -> None:
    if answer.done():
        return  # nobody waits any more
    if failed is not None:
        answer.set_exception(failed)
    else:
        answer.set_result(result)
