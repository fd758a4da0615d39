"""What it costs to tell a large fleet its plans: 10,000 nodes, 10,000 apps with a route and two instances each.

A stream process and a database; the readers are another process's, over HTTP, each with the plan that it holds, as
agents and edges ask. After one instance's change (a) all edges read their route plan, which has every route in it;
(b) nodes read theirs. (c) Each node sends a heartbeat. Processor time is the server's. `first_s`: a process that
was just started reads the views.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import aiohttp

from kit.clock import SystemClock
from kit.plan_delta import PLAN_BASE
from reconciler.core.commands import Append
from reconciler.core.events import Cause
from reconciler.core.views import PROJECTIONS
from reconciler.store.store import Store
from reconciler.tasks.projector import Projector
from tests.bench import log_filling
from tests.bench.append import superuser_url
from tests.bench.log_filling import Step
from tests.bench.streaming import Process, opened, stream_process
from tests.unit.projections.samples import PAYLOADS, SPECS, new_event
from tests.unit.server.world import token_of

TITLE = "plans: 10,000 nodes and 100 edges read their plans after a change"
NODES = 10_000
APPS = 10_000
EDGES = 100
NODE_READS = 2_000
AT_ONCE = 32
CAUSE = Cause("system", "bench", "default")
Progress = Callable[[str], None]


async def run(progress: Progress) -> dict[str, Any]:
    async with opened() as (store, folder):
        await log_filling.copy(superuser_url(store), lambda _: log_filling.records(fleet()))
        await _project(store)
        progress(f"{NODES} nodes, {APPS} apps, {APPS * 2} instances")
        async with stream_process(store, folder) as (server, url):
            async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
                return await _measure(store, server, Readers(session, server), progress)


async def _measure(store: Store, server: Process, readers: Readers, progress: Progress) -> dict[str, Any]:
    nodes = [f"node-{number}" for number in range(NODES)]
    edges = [f"edge-{number}" for number in range(EDGES)]
    first_s, _, _ = await readers.read("node", nodes[:1], 0)
    whole_s, _, whole_bytes = await readers.read("edge", edges, 0)
    progress(f"first plan after {first_s:.1f} s; {EDGES} whole route plans in {whole_s:.1f} s")
    edge_s, edge_cpu_s, edge_bytes = await readers.read("edge", edges, await _change(store, 1))
    progress(f"{EDGES} edges know of a change after {edge_s:.2f} s")
    some = random.Random(1).sample(nodes, NODE_READS)
    await readers.read("node", some, 0)
    node_s, node_cpu_s, _ = await readers.read("node", some, await _change(store, 2))
    progress(f"{NODE_READS} nodes in {node_s:.2f} s")
    heartbeats_s = await _heartbeats(store, nodes)
    progress(f"{NODES} heartbeats in {heartbeats_s:.2f} s")
    return {
        "heartbeats_per_s": round(NODES / heartbeats_s),
        "first_s": round(first_s, 2),
        "edges_whole_s": round(whole_s, 2),
        "edges_changed_s": round(edge_s, 2),
        "edge_cpu_ms": round(edge_cpu_s / EDGES * 1000, 2),
        "edge_whole_kib": round(whole_bytes / EDGES / 1024, 1),
        "edge_changed_kib": round(edge_bytes / EDGES / 1024, 1),
        "node_plans_per_s": round(NODE_READS / node_s),
        "node_cpu_ms": round(node_cpu_s / NODE_READS * 1000, 2),
        "server_mib": round(server.rss_kib / 1024),
    }


async def _heartbeats(store: Store, nodes: Sequence[str]) -> float:
    """Seconds until all are in the database, AT_ONCE of them at a time."""
    waiting = iter(nodes)

    async def one_after_the_other() -> None:
        for node_id in waiting:
            await store.heartbeats.touch(node_id)

    started = time.monotonic()
    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    return time.monotonic() - started


class Readers:
    """They remember the digest of what each was told last."""

    def __init__(self, session: aiohttp.ClientSession, server: Process) -> None:
        self._session = session
        self._server = server
        self._held: dict[str, str] = {}

    async def read(self, role: Any, names: Sequence[str], event_id: int) -> tuple[float, float, int]:
        """Seconds, the server's seconds of processor time, bytes."""
        started, cpu_s = time.monotonic(), self._server.cpu_s
        sizes = await asyncio.gather(*(self._one(role, name, event_id) for name in names))
        return time.monotonic() - started, self._server.cpu_s - cpu_s, sum(sizes)

    async def _one(self, role: Any, name: str, event_id: int) -> int:
        headers = {"Authorization": f"Bearer {token_of(role, name)}"}
        if name in self._held:
            headers[PLAN_BASE] = self._held[name]
        path = f"/v1/{role}s/{name}/plan?min_event_id={event_id}"
        async with self._session.get(path, headers=headers) as answer:
            body = await answer.read()
            assert answer.status == 200, body
        document = json.loads(body)
        assert document["generation"] >= event_id and (not event_id or "base" in document)
        self._held[name] = document["digest"]
        return len(body)


def fleet() -> Iterator[Step]:
    for number in range(NODES):
        yield "node", f"node-{number}", "node.enrolled", {"node_id": f"node-{number}"}
    for number in range(APPS):
        app = f"acme/shop/prod/app{number}/app/app{number}"
        route = f"acme/shop/prod/app{number}/route/web"
        yield "app", app, "app.created", {"resource_id": app}
        spec = {**SPECS["route"], "hostname": f"app{number}.example.com"}
        yield "route", route, "route.created", {"resource_id": route, "spec": spec}
        for each in range(2):
            instance, node = f"i-{number:08x}-{each}", f"node-{(number + each * 7) % NODES}"
            mine = {"instance_id": instance, "node_id": node}
            workload = {**PAYLOADS["instance.allocated"]["workload"], "app": app}
            yield "instance", instance, "instance.allocated", {**mine, "app": app, "workload": workload}
            yield "instance", instance, "instance.status_changed", {**mine, "endpoints": _endpoints()}


def _endpoints() -> list[dict[str, Any]]:
    return [{"port": SPECS["route"]["port"], "address": "fd00::1", "reach_port": 8080}]


async def _change(store: Store, number: int) -> int:
    """An instance ceases to be ready; with its event in the views."""
    instance = f"i-{number:08x}-0"
    told = new_event(
        "instance.status_changed", instance_id=instance, node_id=f"node-{number}", status="unready", counter=2
    )
    await store.log.append([Append(f"change-{number}", "same", CAUSE, (told,), {})])
    await _project(store)
    return (await store.log.head()).last_event_id


async def _project(store: Store) -> None:
    projector = Projector(store.log, store.writer, sorted(PROJECTIONS), SystemClock(), random.Random(1))
    while await projector.catch_up():
        pass
