"""Changes under traffic: what a client notices of them, which is nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge.core.config import MAP_FILE
from edge.core.table import Server
from edge.dataplane.haproxy import HaproxyDataplane
from edge.dataplane.runtime import conversation
from tests.integration.edge.conftest import StartBackend
from tests.integration.edge.parts import (
    Backend,
    connected,
    free_port,
    haproxy,
    route,
    table,
    until,
    who_answers,
    worker_pid,
)


@dataclass
class Traffic:
    answers: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        return self.answers.count("")

    async def more(self, count: int = 20) -> None:
        """Waits for so many more answers."""
        wanted = len(self.answers) + count

        async def enough() -> bool:
            return len(self.answers) >= wanted

        await until(enough, f"{count} more answers")


@asynccontextmanager
async def traffic(port: int, hostname: str = "", *, clients: int = 3) -> AsyncIterator[Traffic]:
    """Clients that make a new connection for each request, all the time."""
    seen = Traffic()
    stop = asyncio.Event()

    async def one() -> None:
        while not stop.is_set():
            seen.answers.append(await who_answers(port, hostname))

    tasks = [asyncio.create_task(one()) for _ in range(clients)]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _is_down(folder: Path, backend: Backend) -> bool:
    async with conversation(folder / "worker.sock") as talk:
        states = (await talk.ask("show servers state")).splitlines()
    return any(backend.server().name in line and line.split()[5] == "0" for line in states)


async def test_backends_are_replaced_one_by_one_and_no_request_fails(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port = free_port()
    old = await backend("v0", "a.example")
    await dataplane.apply(table(route("a.example", port, old)), 1)
    worker = await worker_pid(folder)
    async with traffic(port, "a.example") as seen:
        await seen.more()
        for step in range(1, 6):
            new = await backend(f"v{step}", "a.example")
            await dataplane.apply(table(route("a.example", port, old, new)), 2 * step)
            await seen.more()
            await dataplane.apply(table(route("a.example", port, new)), 2 * step + 1)

            async def drained(name: str = old.server().name) -> bool:
                await dataplane.tend()
                serving = await dataplane.observe()
                return serving is not None and name not in serving.draining

            await until(drained, "the old backend is removed")
            await old.stop()
            await seen.more()
            old = new
    assert seen.failures == 0
    assert set(seen.answers) == {f"v{step}" for step in range(6)}
    assert await worker_pid(folder) == worker, "no reload"


async def test_a_backend_that_dies_is_not_noticed_and_soon_out(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a, b = free_port(), await backend("a"), await backend("b")
    await dataplane.apply(table(route("", port, b)), 1)
    await dataplane.apply(table(route("", port, a, b)), 2)  # one from the file, one over the socket
    async with traffic(port) as seen:
        await seen.more()
        await a.stop()
        died_at = len(seen.answers) + 3  # requests that were under way on it

        async def out() -> bool:
            return await _is_down(folder, a)

        await until(out, "the dead backend is down", 6)
        await seen.more(50)
    assert seen.answers[died_at:].count("") == 0
    assert set(seen.answers[-40:]) == {"b"}


async def test_a_backend_that_swallows_packets_costs_one_connect_time_out(
    dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    """192.0.2.0/24 would need a route; a socket with a full backlog answers as little."""
    port, good = free_port(), await backend("good")
    hole = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = [socket.socket() for _ in range(4)]
    try:
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        bad = Server("bad", "127.0.0.1", hole.getsockname()[1], False)
        with_hole = route("", port, good)
        with_hole = type(with_hole)(with_hole.route_id, "", port, "tcp_raw", tuple(sorted((bad, *with_hole.servers))))
        await dataplane.apply(table(with_hole), 1)
        begun = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(who_answers(port) for _ in range(4)))
        assert set(answers) == {"good"}
        assert asyncio.get_running_loop().time() - begun < 5
    finally:
        for each in (hole, *fillers):
            each.close()


async def test_a_backend_that_comes_back_is_used_again(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a = free_port(), await backend("a")
    await dataplane.apply(table(route("", port, a)), 1)
    await a.stop()

    async def out() -> bool:
        return await _is_down(folder, a)

    async def served() -> bool:
        return await who_answers(port) == "a"

    await until(out, "down", 6)
    await a.start()
    await until(served, "served again", 6)


async def test_a_drained_backend_keeps_its_open_connection_and_gets_no_new_one(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a, b = free_port(), await backend("a", "a.example"), await backend("b", "a.example")
    await dataplane.apply(table(route("a.example", port, a)), 1)
    async with connected(port, "a.example") as held:
        assert await held.who() == "a"
        await dataplane.apply(table(route("a.example", port, b)), 2)
        assert {await who_answers(port, "a.example") for _ in range(10)} == {"b"}
        await dataplane.tend()
        assert await held.who() == "a"
        serving = await dataplane.observe()
        assert serving is not None and serving.draining == {a.server().name}
        await dataplane.apply(table(route("a.example", port, a, b)), 3)
        assert await held.who() == "a"
        assert {await who_answers(port, "a.example") for _ in range(10)} == {"a", "b"}, "it may come back"


class SteppedClock:
    def __init__(self) -> None:
        self.now = 0.0

    def now_s(self) -> float:
        return self.now

    def utc(self) -> str:
        return ""

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_connections_of_a_drained_backend_end_at_the_bound(folder: Path, backend: StartBackend) -> None:
    clock = SteppedClock()
    dataplane = haproxy(folder, clock, drain_bound_s=60)
    try:
        port, a, b = free_port(), await backend("a"), await backend("b")
        await dataplane.apply(table(route("", port, a)), 1)
        async with connected(port) as held:
            assert await held.who() == "a"
            await dataplane.apply(table(route("", port, b)), 2)
            clock.now += 59
            await dataplane.tend()
            assert await held.who() == "a"
            clock.now += 2
            await dataplane.tend()
            assert await held.ask() == ""

        async def removed() -> bool:
            await dataplane.tend()
            serving = await dataplane.observe()
            return serving is not None and not serving.draining

        await until(removed, "removed")
    finally:
        await dataplane.stop()


async def test_a_new_port_reloads_without_cutting_a_connection(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    first, second = free_port(), free_port()
    a = await backend("a", "a.example")
    await dataplane.apply(table(route("a.example", first, a)), 1)
    worker = await worker_pid(folder)
    async with traffic(first, "a.example") as seen, connected(first, "a.example") as held:
        assert await held.who() == "a"
        await seen.more()
        both = table(route("a.example", first, a), route("a.example", second, a, route_id="r/second"))
        await dataplane.apply(both, 2)
        assert await worker_pid(folder) != worker
        assert await who_answers(second, "a.example") == "a"
        await seen.more()
        await dataplane.apply(table(route("a.example", first, a)), 3)
        assert await who_answers(second, "a.example") == ""
        await seen.more()
        assert await held.who() == "a"
    assert seen.failures == 0


async def test_more_routes_than_slots_grow_by_one_reload(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a = free_port(), await backend("a", "n7.example")
    await dataplane.apply(table(route("n7.example", port, a)), 1)
    worker = await worker_pid(folder)
    few = table(*(route(f"n{n}.example", port, a) for n in range(60)))
    await dataplane.apply(few, 2)
    assert await worker_pid(folder) == worker
    many = table(*(route(f"n{n}.example", port, a) for n in range(300)))
    await dataplane.apply(many, 3)
    assert await worker_pid(folder) != worker
    worker = await worker_pid(folder)
    await dataplane.apply(table(*(route(f"m{n}.example", port, a) for n in range(150)), *few.routes), 4)
    assert await worker_pid(folder) == worker, "there is room now"
    serving = await dataplane.observe()
    assert serving is not None and len(serving.served) == 210
    assert await who_answers(port, "n7.example") == "a"


async def test_a_slot_that_still_drains_is_not_given_to_another_route(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port = free_port()
    a, b = await backend("a", "a.example"), await backend("b", "b.example")
    await dataplane.apply(table(route("a.example", port, a)), 1)
    async with connected(port, "a.example") as held:
        assert await held.who() == "a"
        await dataplane.apply(table(route("b.example", port, b)), 2)
        async with conversation(folder / "worker.sock") as talk:
            entries = await talk.ask(f"show map {MAP_FILE}")
        assert f"{port}/b.example slot-1" in entries
        assert await held.who() == "a"
        assert await who_answers(port, "a.example") == ""
