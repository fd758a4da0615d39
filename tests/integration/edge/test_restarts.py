"""Restarts of the edge's object and of haproxy, and reloads that fail: the table stays."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from edge.dataplane.contract import Serving
from edge.dataplane.haproxy import HaproxyDataplane
from edge.dataplane.runtime import conversation
from kit.errors import Transient
from tests.integration.edge.conftest import StartBackend
from tests.integration.edge.parts import (
    connected,
    free_port,
    haproxy,
    master_pid,
    route,
    table,
    until,
    who_answers,
    worker_pid,
)


async def test_a_new_object_adopts_what_runs_and_changes_nothing(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a, b = free_port(), await backend("a", "a.example"), await backend("b", "a.example")
    await dataplane.apply(table(route("a.example", port, a)), 1)
    wanted = table(route("a.example", port, a, b))
    await dataplane.apply(wanted, 2)
    before = await dataplane.observe()
    worker = await worker_pid(folder)
    async with connected(port, "a.example") as held:
        await held.who()
        adopted = haproxy(folder)
        await adopted.tend()
        await adopted.apply(wanted, 2)
        assert await adopted.observe() == before
        assert await held.who() in ("a", "b")
    assert await worker_pid(folder) == worker


@pytest.mark.parametrize("victim", ["master", "worker"])
async def test_a_killed_haproxy_comes_back_with_the_same_table(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend, victim: str
) -> None:
    port, a, b = free_port(), await backend("a", "a.example"), await backend("b", "b.example")
    await dataplane.apply(table(route("a.example", port, a)), 1)
    await dataplane.apply(table(route("a.example", port, a), route("b.example", port, b)), 2)  # over the socket only
    before = await dataplane.observe()
    master = await master_pid(folder)
    os.kill(master if victim == "master" else await worker_pid(folder), signal.SIGKILL)

    await _revived(dataplane, before)
    assert [await who_answers(port, name) for name in ("a.example", "b.example")] == ["a", "b"]


async def _revived(dataplane: HaproxyDataplane, wanted: Serving | None) -> None:
    async def gone() -> bool:
        try:
            return await dataplane.observe() is None
        except Transient:  # the master outlives its worker by a moment
            return False

    await until(gone, "haproxy is gone")

    async def same() -> bool:
        try:
            await dataplane.tend()
            return await dataplane.observe() == wanted
        except Transient:
            return False

    await until(same, "the same table")


async def test_a_reload_by_another_hand_ends_in_the_same_table(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a, b = free_port(), await backend("a"), await backend("b")
    await dataplane.apply(table(route("", port, a)), 1)
    await dataplane.apply(table(route("", port, a, b)), 2)
    before, worker = await dataplane.observe(), await worker_pid(folder)
    os.kill(await master_pid(folder), signal.SIGUSR2)

    async def reloaded() -> bool:
        try:
            return await worker_pid(folder) not in (0, worker) and await dataplane.observe() == before
        except Transient:
            return False

    await until(reloaded, "reloaded into the same table")


async def test_changes_by_another_hand_are_put_right(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a, b = free_port(), await backend("a"), await backend("b")
    wanted = table(route("", port, a))
    await dataplane.apply(wanted, 1)
    name = a.server().name
    for change in (f"set server slot-0/{name} state maint", f"set server slot-0/{name} addr 127.0.0.1 port {b.port}"):
        async with conversation(folder / "worker.sock") as talk:
            await talk.ask(change)
        await dataplane.apply(wanted, 1)
        assert await who_answers(port) == "a"


async def test_when_the_port_is_taken_haproxy_serves_what_it_served(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, taken, a, b = free_port(), free_port(), await backend("a"), await backend("b")
    await dataplane.apply(table(route("", port, a)), 1)
    before = await dataplane.observe()
    with socket.create_server(("127.0.0.1", taken)):
        assert taken in await dataplane.blocked_ports([port, taken])
        with pytest.raises(Transient, match="cannot bind"):
            await dataplane.apply(table(route("", port, b), route("", taken, b)), 2)
        assert await dataplane.observe() == before
        assert await who_answers(port) == "a"
        os.kill(await worker_pid(folder), signal.SIGKILL)
        await _revived(dataplane, before)
    assert await dataplane.blocked_ports([port, taken]) == {}
    await dataplane.apply(table(route("", port, b), route("", taken, b)), 3)
    assert [await who_answers(port), await who_answers(taken)] == ["b", "b"]


async def test_an_interrupted_change_is_finished_by_the_next_start(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program ends between the files and the socket."""
    port, a, b = free_port(), await backend("a"), await backend("b")
    await dataplane.apply(table(route("", port, a)), 1)

    async def die(_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(dataplane, "_perform", die)
    with pytest.raises(asyncio.CancelledError):
        await dataplane.apply(table(route("", port, b)), 2)
    adopted = haproxy(folder)
    await adopted.apply(table(route("", port, b)), 2)
    assert await who_answers(port) == "b"


async def test_a_socket_that_fails_half_way_ends_in_a_reload_with_the_new_table(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, a, b = free_port(), await backend("a"), await backend("b")
    await dataplane.apply(table(route("", port, a)), 1)
    worker = await worker_pid(folder)

    async def fail(_: object) -> None:
        raise Transient("tell haproxy", "planted", code="dataplane_unreachable")

    monkeypatch.setattr(dataplane, "_perform", fail)
    await dataplane.apply(table(route("", port, b)), 2)
    assert await worker_pid(folder) != worker
    assert await who_answers(port) == "b"


async def test_a_torn_layout_file_costs_moves_but_no_route(
    folder: Path, dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a, b = free_port(), await backend("a", "a.example"), await backend("b", "b.example")
    wanted = table(route("a.example", port, a), route("b.example", port, b))
    await dataplane.apply(wanted, 1)
    worker = await worker_pid(folder)
    (folder / "current" / "layout.json").write_text('{"slots": 6')
    adopted = haproxy(folder)
    await adopted.apply(wanted, 1)
    serving = await adopted.observe()
    assert serving is not None and serving.served == wanted.served
    assert [await who_answers(port, name) for name in ("a.example", "b.example")] == ["a", "b"]
    assert await worker_pid(folder) == worker
