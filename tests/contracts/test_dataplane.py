"""What every dataplane promises (edge.dataplane.contract.Dataplane): one suite for haproxy and for the fake."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from edge.core.table import Route, RouteTable, Server, table_of
from edge.dataplane.contract import Dataplane, Serving
from edge.dataplane.fake import FakeDataplane, FakeDisk
from kit.errors import Transient
from tests.integration.edge.parts import Backend, connected, free_port, haproxy, master_pid, short_folder, until


class Rig(Protocol):
    """A dataplane and the hands that a test needs on its world."""

    def dataplane(self) -> Dataplane:
        """A new object over the same state: the edge program was restarted."""
        ...

    async def server(self, name: str) -> Server: ...

    async def hold(self, port: int, server: Server) -> None:
        """Opens a connection to a raw port that reaches `server`, and keeps it."""
        ...

    async def let_go(self) -> None: ...

    async def crash(self) -> None: ...

    def take(self, port: int) -> None:
        """Another program listens there."""
        ...


class FakeRig:
    def __init__(self) -> None:
        self.disk = FakeDisk()

    def dataplane(self) -> Dataplane:
        return FakeDataplane(self.disk)

    async def server(self, name: str) -> Server:
        return Server(name, "127.0.0.1", 9, False)

    async def hold(self, port: int, server: Server) -> None:
        self.disk.open[server.name] = 1

    async def let_go(self) -> None:
        self.disk.open.clear()

    async def crash(self) -> None:
        self.disk.running = False

    def take(self, port: int) -> None:
        self.disk.taken_ports[port] = "another program listens there"


class HaproxyRig:
    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._held = AsyncExitStack()

    def dataplane(self) -> Dataplane:
        return haproxy(self._folder)

    async def server(self, name: str) -> Server:
        backend = await Backend(name).start()
        self._stack.push_async_callback(backend.stop)
        return backend.server()

    async def hold(self, port: int, server: Server) -> None:
        client = await self._held.enter_async_context(connected(port))
        assert await client.who() == server.instance_id

    async def let_go(self) -> None:
        await self._held.aclose()

    async def crash(self) -> None:
        os.kill(await master_pid(self._folder), signal.SIGKILL)
        dataplane = self.dataplane()

        async def gone() -> bool:
            return await dataplane.observe() is None

        await until(gone, "haproxy is gone")

    def take(self, port: int) -> None:
        self._stack.enter_context(socket.create_server(("127.0.0.1", port)))


@pytest.fixture(params=["fake", "haproxy"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    with short_folder() as folder:
        async with AsyncExitStack() as stack:
            made = HaproxyRig(folder, stack)
            stack.push_async_callback(made.let_go)
            stack.push_async_callback(made.dataplane().stop)
            yield made


def raw(port: int, *servers: Server) -> Route:
    return Route(f"raw/{port}", "", port, "tcp_raw", tuple(sorted(servers)))


def tls(hostname: str, port: int, *servers: Server) -> Route:
    return Route(f"tls/{hostname}/{port}", hostname, port, "tls_passthrough", tuple(sorted(servers)))


async def _observed(dataplane: Dataplane) -> Serving:
    serving = await dataplane.observe()
    assert serving is not None
    return serving


async def _assert_serves(dataplane: Dataplane, table: RouteTable, generation: int) -> None:
    serving = await _observed(dataplane)
    assert (serving.generation, serving.listeners, serving.served) == (generation, table.listeners, table.served)


async def test_nothing_runs_before_the_first_table(rig: Rig) -> None:
    dataplane = rig.dataplane()
    await dataplane.tend()
    assert await dataplane.observe() is None


async def test_what_is_applied_is_served(rig: Rig) -> None:
    dataplane, port = rig.dataplane(), free_port()
    a, b = await rig.server("a"), await rig.server("b")
    tables = [
        table_of([tls("a.example", port, a)]),
        table_of([tls("a.example", port, a, b), tls("b.example", port, b)]),
        table_of([tls("b.example", port, a), tls("c.example", port)]),
        table_of([tls("b.example", port, b), raw(free_port(), a)]),
        table_of([]),
        table_of([raw(port, a)]),
    ]
    for generation, table in enumerate(tables, start=1):
        await dataplane.apply(table, generation)
        await _assert_serves(dataplane, table, generation)


async def test_the_same_table_again_changes_nothing(rig: Rig) -> None:
    dataplane = rig.dataplane()
    table = table_of([raw(free_port(), await rig.server("a"))])
    await dataplane.apply(table, 1)
    await dataplane.apply(table, 1)
    await _assert_serves(dataplane, table, 1)


async def test_a_server_that_left_drains_until_its_connections_end(rig: Rig) -> None:
    dataplane, port = rig.dataplane(), free_port()
    a, b = await rig.server("a"), await rig.server("b")
    await dataplane.apply(table_of([raw(port, a)]), 1)
    await rig.hold(port, a)
    wanted = table_of([raw(port, b)])
    await dataplane.apply(wanted, 2)
    await dataplane.tend()
    await _assert_serves(dataplane, wanted, 2)
    assert (await _observed(dataplane)).draining == {a.name}
    await rig.let_go()

    async def removed() -> bool:
        await dataplane.tend()
        return not (await _observed(dataplane)).draining

    await until(removed, "the drained server is removed")


async def test_a_server_that_returns_is_served_again(rig: Rig) -> None:
    dataplane, port = rig.dataplane(), free_port()
    a, b = await rig.server("a"), await rig.server("b")
    await dataplane.apply(table_of([raw(port, a)]), 1)
    await rig.hold(port, a)
    await dataplane.apply(table_of([raw(port, b)]), 2)
    both = table_of([raw(port, a, b)])
    await dataplane.apply(both, 3)
    await dataplane.tend()
    await _assert_serves(dataplane, both, 3)
    assert (await _observed(dataplane)).draining == frozenset()


async def test_a_restarted_program_finds_the_table(rig: Rig) -> None:
    table = table_of([raw(free_port(), await rig.server("a"))])
    await rig.dataplane().apply(table, 1)
    restarted = rig.dataplane()
    assert (await _observed(restarted)).served == table.served
    await restarted.apply(table, 1)
    await _assert_serves(restarted, table, 1)


async def test_after_a_crash_the_last_table_comes_back(rig: Rig) -> None:
    dataplane, port = rig.dataplane(), free_port()
    a, b = await rig.server("a"), await rig.server("b")
    await dataplane.apply(table_of([raw(port, a)]), 1)
    table = table_of([raw(port, a, b)])
    await dataplane.apply(table, 2)
    await rig.crash()
    async with asyncio.timeout(10):
        while await dataplane.observe() is None:
            try:
                await dataplane.tend()
            except Transient:
                await asyncio.sleep(0.1)
    await _assert_serves(dataplane, table, 2)


async def test_a_table_that_cannot_be_applied_leaves_the_old_one(rig: Rig) -> None:
    dataplane, port, taken = rig.dataplane(), free_port(), free_port()
    a, b = await rig.server("a"), await rig.server("b")
    before = table_of([raw(port, a)])
    await dataplane.apply(before, 1)
    rig.take(taken)
    assert set(await dataplane.blocked_ports([port, taken])) == {taken}
    with pytest.raises(Transient):
        await dataplane.apply(table_of([raw(port, b), raw(taken, b)]), 2)
    await _assert_serves(dataplane, before, 1)
    after = table_of([raw(port, b)])
    await dataplane.apply(after, 3)
    await _assert_serves(dataplane, after, 3)


async def test_stop_ends_it_and_apply_starts_it(rig: Rig) -> None:
    dataplane = rig.dataplane()
    table = table_of([raw(free_port(), await rig.server("a"))])
    await dataplane.apply(table, 1)
    await dataplane.stop()
    assert await dataplane.observe() is None
    await dataplane.apply(table, 2)
    await _assert_serves(dataplane, table, 2)
