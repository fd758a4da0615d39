"""L1: an acknowledged append survives kill -9 of Postgres. Small numbers here; `ROUNDS` is the knob for long runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from kit.errors import Transient
from reconciler.core.commands import Appended
from reconciler.core.events import Event
from reconciler.store import postmaster
from reconciler.store.pool import connect
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from reconciler.store.verify import Verdict, verify
from tests.integration.store.building import command, node_event

ROUNDS = int(os.environ.get("TRUEUP_KILL_ROUNDS", "3"))
WRITERS = 6


@pytest_asyncio.fixture
async def durable() -> AsyncIterator[Store]:
    """A store on an embedded server with the real settings: fsync and synchronous_commit on."""
    folder = Path(tempfile.mkdtemp(prefix="trueup-durable-"))
    try:
        async with opened_store(StoreSettings(folder)) as store:
            yield store
    finally:
        for pid in postmaster.processes(folder / "postgres"):
            postmaster.signal_process(pid, signal.SIGKILL)
        shutil.rmtree(folder)


async def _read_all(store: Store) -> list[Event]:
    """The server may just be starting again after the last kill."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await store.log.read(0, limit=10_000)
            except Transient:
                await asyncio.sleep(0.05)


async def test_L1_every_acknowledged_append_is_there_after_kill_9(durable: Store) -> None:
    """The writers go on through the kills; the store starts its server again by itself. L3 holds all the while."""
    acknowledged: dict[str, Appended] = {}
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            name = f"w{writer}-{number}"
            (result,) = await durable.log.append([command(*[node_event(name)] * (1 + number % 3), command_id=name)])
            assert isinstance(result, Appended)
            assert not result.duplicate
            acknowledged[name] = result

    writers = [asyncio.ensure_future(write(writer)) for writer in range(WRITERS)]
    server = durable._server
    assert server is not None
    for _ in range(ROUNDS):
        so_far = len(acknowledged)
        async with asyncio.timeout(60):
            while len(acknowledged) < so_far + 40:
                await asyncio.sleep(0.01)
        for pid in postmaster.processes(server.data):
            postmaster.signal_process(pid, signal.SIGKILL)
    stop.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*writers)

    events = await _read_all(durable)
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    there: dict[str, list[int]] = {}
    for event in events:
        there.setdefault(event.command_id, []).append(event.event_id)
    assert len(acknowledged) >= ROUNDS * 40
    for name, result in acknowledged.items():
        assert there.pop(name) == list(range(result.first_event_id, result.last_event_id + 1)), name
    assert there == {}, "every writer waited for its answer, so nothing else can be there"
    connection = await connect(durable.access.app_url)
    try:
        assert await verify(connection) == Verdict(len(events), len(events))
    finally:
        await connection.close()
