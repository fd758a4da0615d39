"""One stream process and 5,000 readers: filters of their own, broadcast at a fixed rate, broadcast without end.

(a) each reader is another node, and an event is one node's. (b) every reader is an edge, and every event is for all.
(c) the same as fast as it goes, beside etcd with as many watches of one key and values of the same size: deliveries
per second of the server's processor time. `ratio_etcd`: a hundred watches share a connection, the cheapest for etcd;
`ratio_etcd_own_connections`: each has its own, as machines do. The times of (a) and (b) go from the acknowledgement of
the append to the reader's `recv`; the writer is another process than the server, so the database is between them.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.server.ring import change_line
from reconciler.store.store import Store
from tests.bench.rival_etcd import etcd
from tests.bench.stream_readers import Order
from tests.bench.streaming import READERS, Process, Records, fleet, opened, order, stream_process
from tests.unit.projections.samples import new_event

TITLE = "fanout: 5,000 readers of one stream process; processor time beside etcd's watch"
SECONDS = 10.0
FILTERED_EVENTS_PER_S = 1_000
FILTERED_PER_COMMAND = 5
BROADCAST_EVENTS_PER_S = 100_000 // READERS
SATURATED_EVENTS = 2_000
SATURATED_EVENTS_PER_S = 250
ETCD_EVENTS = 300
ETCD_CONNECTIONS = 50
MARK = '"type":"change"'
CAUSE = Cause("system", "bench", "default")
Progress = Callable[[str], None]


async def run(progress: Progress) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with opened() as (store, folder):
        async with stream_process(store, folder) as (server, url):
            figures.update(await filtered(store, folder, server, url, progress))
            figures.update(await broadcast(store, folder, url, progress))
        async with stream_process(store, folder) as (server, url):
            ours = await saturated(store, folder, server, url, progress)
        (last,) = await store.log.read((await store.log.head()).last_event_id - 1, limit=1)
        value = change_line((await store.log.head()).log_id, last)
        theirs = await saturated_etcd(folder / "shared", ETCD_CONNECTIONS, ETCD_EVENTS, value, progress)
        own = await saturated_etcd(folder / "own", READERS, ETCD_EVENTS // 5, value, progress)
    return {
        **figures,
        "ratio_etcd": round(ours / theirs, 2),
        "ratio_etcd_own_connections": round(ours / own, 2),
        "deliveries_per_cpu_s": round(ours),
        "deliveries_per_cpu_s_etcd": round(theirs),
        "deliveries_per_cpu_s_etcd_own_connections": round(own),
        "line_bytes": len(value),
    }


async def filtered(
    store: Store, folder: Path, server: Process, url: str, progress: Progress, certificates: str = ""
) -> dict[str, Any]:
    head = await store.log.head()
    before_kib = server.rss_kib
    last = head.last_event_id
    wanted = order(url, folder, "node", READERS, head.log_id, last, each=True, certificates=certificates)
    async with fleet(wanted) as readers:
        await asyncio.sleep(1)
        kib_per_reader = (server.rss_kib - before_kib) / READERS
        progress(f"{READERS} nodes connected, {kib_per_reader:.1f} KiB each")
        cpu_s = server.cpu_s
        acknowledged = await write(store, FILTERED_EVENTS_PER_S, int(SECONDS * FILTERED_EVENTS_PER_S), one_node_each)
        await asyncio.sleep(1)
        cpu_s = server.cpu_s - cpu_s
        p50_ms, p99_ms, count = latencies(await readers.stop(), acknowledged)
    assert count == len(acknowledged), f"{count} of {len(acknowledged)} events came"
    progress(f"filtered: p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms, {cpu_s / SECONDS:.0%} of a core")
    return {"p99_filtered_ms": p99_ms, "p50_filtered_ms": p50_ms, "kib_per_reader": round(kib_per_reader, 1)}


async def broadcast(store: Store, folder: Path, url: str, progress: Progress, certificates: str = "") -> dict[str, Any]:
    head = await store.log.head()
    wanted = order(url, folder, "edge", READERS, head.log_id, head.last_event_id, certificates=certificates)
    async with fleet(wanted) as readers:
        acknowledged = await write(store, BROADCAST_EVENTS_PER_S, int(SECONDS * BROADCAST_EVENTS_PER_S), _for_all, 1)
        await readers.until((await store.log.head()).last_event_id, 30)
        p50_ms, p99_ms, count = latencies(await readers.stop(), acknowledged)
    assert count == len(acknowledged) * READERS, f"{count} deliveries of {len(acknowledged)} events"
    progress(f"broadcast: {count / SECONDS:.0f} deliveries/s, p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms")
    return {"p99_broadcast_ms": p99_ms, "p50_broadcast_ms": p50_ms}


async def saturated(store: Store, folder: Path, server: Process, url: str, progress: Progress) -> float:
    """Deliveries per second of the server's processor time."""
    head = await store.log.head()
    async with fleet(order(url, folder, "edge", READERS, head.log_id, head.last_event_id)) as readers:
        started, cpu_s = time.monotonic(), server.cpu_s
        await write(store, SATURATED_EVENTS_PER_S, SATURATED_EVENTS, _for_all, 1)
        await readers.until((await store.log.head()).last_event_id, 120)
        took_s, cpu_s = time.monotonic() - started, server.cpu_s - cpu_s
        await readers.stop()
    deliveries = SATURATED_EVENTS * READERS
    progress(f"saturated: {deliveries} deliveries in {took_s:.1f} s, {cpu_s:.1f} s of processor time")
    return deliveries / cpu_s


async def saturated_etcd(folder: Path, connections: int, events: int, value: bytes, progress: Progress) -> float:
    assert value.count(MARK.encode()) == 1
    async with etcd(folder) as rival:
        wanted = Order(
            rival.host,
            rival.port,
            str(folder / "records-etcd"),
            mark=MARK,
            connections=connections,
            watches=READERS // connections,
        )
        async with fleet(wanted) as readers:
            await asyncio.sleep(2)
            await rival.put(value)  # everything is made, and warm
            await readers.until(wanted.watches, 60)
            started, cpu_s = time.monotonic(), rival.process.cpu_s
            for number in range(events):
                await asyncio.sleep(max(0.0, started + number / SATURATED_EVENTS_PER_S - time.monotonic()))
                await rival.put(value)
            await readers.until(wanted.watches * (1 + events), 120)
            took_s, cpu_s = time.monotonic() - started, rival.process.cpu_s - cpu_s
            await readers.stop()
    deliveries = events * READERS
    progress(
        f"etcd, {connections} connections: {deliveries} deliveries in {took_s:.1f} s, {cpu_s:.1f} s of processor time"
    )
    return deliveries / cpu_s


async def write(
    store: Store, per_s: float, count: int, make: Callable[[int], NewEvent], per_command: int = FILTERED_PER_COMMAND
) -> dict[int, float]:
    """`count` events at a fixed rhythm: event_id -> when its append was acknowledged."""
    acknowledged: dict[int, float] = {}
    started = time.monotonic()

    async def append(number: int) -> None:
        events = tuple(make(number + more) for more in range(per_command))
        (result,) = await store.log.append([Append(f"bench-{started}-{number}", "same", CAUSE, events, {})])
        now, first = time.monotonic(), result.first_event_id  # type: ignore[union-attr]  # nothing conflicts
        acknowledged.update(dict.fromkeys(range(first, first + per_command), now))

    waiting: set[asyncio.Task[None]] = set()
    for number in range(0, count, per_command):
        await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
        waiting.add(task := asyncio.create_task(append(number)))
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    return acknowledged


def latencies(records: Records, acknowledged: dict[int, float]) -> tuple[float, float, int]:
    """Median and 99th percentile in ms, and of how many deliveries."""
    late_s = [
        max(0.0, at - acknowledged[event_id])
        for at, before, after in zip(records.times, records.befores, records.afters, strict=True)
        for event_id in range(before + 1, after + 1)
        if event_id in acknowledged
    ]
    parts = statistics.quantiles(late_s, n=100)
    return round(parts[49] * 1000, 1), round(parts[98] * 1000, 1), len(late_s)


def one_node_each(number: int) -> NewEvent:
    return new_event(
        "instance.status_changed", instance_id=f"i-{number}", node_id=f"node-{number * 7 % READERS}", status="ready"
    )


def _for_all(number: int) -> NewEvent:
    return new_event("instance.status_changed", instance_id=f"i-{number}", node_id="node-a", status="ready")
