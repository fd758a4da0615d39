"""A proxy before Postgres that cuts the connection at COMMIT, or at a call that appends and commits by itself.

It stands on a unix socket of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

PREPARE = re.compile(rb"(__asyncpg_stmt_\w+__)\x00SELECT append_")

Cut = Literal["before_commit", "after_commit", "while_committing"]


@dataclass
class Proxy:
    """`plan`: what to do with the next COMMITs, in order; when it is empty, everything passes."""

    server: Path
    plan: list[Cut] = field(default_factory=list)
    cuts: int = 0
    observe: Callable[[], Awaitable[int]] | None = None
    """Asked at each cut, before the client hears of it; the answers are in `observed`."""
    observed: list[int] = field(default_factory=list)

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_unix_connection(str(self.server))
        drop_answers = asyncio.Event()
        appending: set[bytes] = set()
        answering = asyncio.ensure_future(self._answer(answers, back, drop_answers))
        try:
            while data := await client.read(65536):
                prepared = set(PREPARE.findall(data))
                commits = b"COMMIT;" in data or any(name in data for name in appending)
                appending |= prepared
                if commits and self.plan:
                    self.cuts += 1
                    cut = self.plan.pop(0)
                    if cut != "before_commit":
                        drop_answers.set()
                        server.write(data)
                        await server.drain()
                    if cut == "after_commit":
                        await answering  # returns at the answer, which the client never sees
                    if self.observe is not None:
                        self.observed.append(await self.observe())
                    return
                server.write(data)
                await server.drain()
        except OSError:
            return
        finally:
            answering.cancel()
            for writer in (server, back):
                writer.transport.abort()

    async def _answer(self, answers: asyncio.StreamReader, back: asyncio.StreamWriter, drop: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await answers.read(65536):
                if drop.is_set():
                    return
                back.write(data)
                await back.drain()
            back.close()


@contextlib.asynccontextmanager
async def proxied(server_folder: Path, folder: Path) -> AsyncIterator[Proxy]:
    """The proxy's socket is in `folder`, named as Postgres names it."""
    proxy = Proxy(server_folder / ".s.PGSQL.5432")
    server = await asyncio.start_unix_server(proxy._serve, str(folder / ".s.PGSQL.5432"))
    async with server:
        yield proxy
