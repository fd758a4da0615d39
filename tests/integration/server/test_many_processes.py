"""Several stream processes on one Postgres: a reader's cursor is as good at one as at another."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import sys
from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import pytest

from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store
from tests.bench.streaming import running
from tests.twin import append
from tests.unit.server.readers import Reader, random_reading, sees_node, some_readers, write
from tests.unit.server.world import heard, token_of

PROCESSES = 3
COMMANDS = 40
TIMEOUT_S = 120.0

# Who listens: the connection outside of the pool that asks where the log ends, again and again.
LISTENERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND (query ILIKE 'listen%' OR query LIKE 'SELECT last_event_id FROM log_head%')
"""


@contextlib.asynccontextmanager
async def stream_processes(settings: StoreSettings, count: int) -> AsyncIterator[list[str]]:
    """Their addresses."""
    async with contextlib.AsyncExitStack() as stack:
        started = []
        for number in range(count):
            command = [str(settings.state_dir / str(number)), settings.database_url, settings.app_url]
            module = "tests.integration.server.one_process"
            started.append(await stack.enter_async_context(running(sys.executable, "-m", module, *command)))
        yield [await process.line(60) for process in started]


async def up_to(position: int, reader: Reader, session: aiohttp.ClientSession) -> None:
    await reader.connect(session, lines_max=1 << 30, finished=lambda: reader.position >= position)


@pytest.mark.parametrize("seed", range(2))
async def test_readers_that_hop_between_processes_see_exactly_their_log(
    store: Store, store_settings: StoreSettings, seed: int
) -> None:
    head = await store.log.head()
    chance = random.Random(f"hops {seed}")
    async with stream_processes(store_settings, PROCESSES) as urls, aiohttp.ClientSession() as session:
        anywhere = functools.partial(chance.choice, urls)
        readers = [
            (Reader("", token, head.log_id, query=query, choose_url=anywhere), tells)
            for token, query, tells in some_readers()
        ]
        writing = asyncio.create_task(write(store.log, random.Random(seed), COMMANDS))

        def finished(reader: Reader) -> bool:
            return writing.done() and reader.position == writing.result()

        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(
                writing,
                *(
                    random_reading(
                        reader, session, random.Random(f"{seed}{index}"), functools.partial(finished, reader)
                    )
                    for index, (reader, _) in enumerate(readers)
                ),
            )
    everything = await store.log.read(0, limit=10_000)
    for reader, tells in readers:
        reader.check(everything, tells)
    assert sum(reader.connections for reader, _ in readers) > 10 * len(readers)
    assert sum(len(reader.removals) for reader, _ in readers) > 5


async def test_readers_move_on_while_nobody_can_listen(
    store: Store, store_settings: StoreSettings, superuser_url: str
) -> None:
    """A notification only wakes. Each process loses its listening connection again and again."""
    head = await store.log.head()
    operator = await asyncpg.connect(superuser_url)
    killed = 0
    try:
        async with stream_processes(store_settings, 2) as urls, aiohttp.ClientSession() as session:
            readers = [Reader(url, token_of("node", "node-a"), head.log_id) for url in urls]
            reading = [asyncio.create_task(up_to(30, reader, session)) for reader in readers]
            for number in range(30):
                killed += await operator.fetchval(LISTENERS)
                await append(store.log, f"c-{number}", heard("node-a", number))
                await asyncio.sleep(0.05)
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(*reading)
    finally:
        await operator.close()
    assert killed >= 4
    everything = await store.log.read(0, limit=1000)
    for reader in readers:
        reader.check(everything, sees_node("node-a"))
        assert len(reader.seen) == 30
