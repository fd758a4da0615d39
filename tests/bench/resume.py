"""A node comes back to a log of a million events that has gone on without it, of which one in fifty is its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.bench import log_filling
from tests.bench.append import superuser_url
from tests.bench.streaming import fleet, opened, order, stream_process

TITLE = "resume: 1,000,000 events caught up with through a node's filter"
EVENTS = 1_000_000
ROUNDS = 3


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    async with opened() as (store, folder):
        await log_filling.fill(superuser_url(store), EVENTS)
        progress(f"{EVENTS} events laid down")
        log_id = (await store.log.head()).log_id
        rates, cpus_s, given = [], [], 0
        async with stream_process(store, folder) as (server, url):
            for _ in range(ROUNDS):
                cpu_s, started = server.cpu_s, time.monotonic()
                async with fleet(order(url, folder, "node", 1, log_id, 0, each=True)) as readers:
                    answer = await readers.until(EVENTS, 120)
                    rates.append(EVENTS / (answer["seconds"] - started))
                    cpus_s.append(server.cpu_s - cpu_s)
                    given = len((await readers.stop()).times)
                progress(f"{rates[-1]:.0f} events/s looked at, {given} given, {cpus_s[-1]:.2f} s of the server")
    assert given > EVENTS / 100
    return {
        "scanned_per_s": round(sorted(rates)[ROUNDS // 2]),
        "given": given,
        "server_cpu_s": round(sorted(cpus_s)[ROUNDS // 2], 2),
    }
