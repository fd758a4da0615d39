"""5,000 readers lose their stream at once, because its process is killed, and come back to the one in its place.

Meanwhile the log goes on. From the kill until the last of them has been given everything: they wait as the client of
agents and edges does, with jitter, and the new process has an empty memory. `restart_s` of it is that process's start.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.append import superuser_url
from tests.bench.fanout import one_node_each, write
from tests.bench.streaming import READERS, START_TIMEOUT_S, fleet, opened, order, running

TITLE = "herd: 5,000 readers cut off at once by the death of their stream process, all caught up again"
EVENTS_BEFORE = 20_000
EVENTS_MEANWHILE = 5_000


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    async with opened() as (store, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        command = (
            sys.executable, "-m", "tests.bench.stream_process",
            str(folder / "stream"), superuser_url(store), "--port", port,
        )  # fmt: skip
        await write(store, 10_000, EVENTS_BEFORE, one_node_each, 100)
        head = await store.log.head()
        async with running(*command) as first:
            url = await first.line(START_TIMEOUT_S)
            wanted = order(url, folder, "node", READERS, head.log_id, head.last_event_id)
            async with fleet(wanted) as readers:
                progress(f"{READERS} readers connected")
                started = time.monotonic()
                first.process.kill()
                async with running(*command) as second:
                    await write(store, 10_000, EVENTS_MEANWHILE, one_node_each, 100)
                    await second.line(START_TIMEOUT_S)
                    restart_s = time.monotonic() - started
                    progress(f"the next process listens after {restart_s:.1f} s")
                    answer = await readers.until((await store.log.head()).last_event_id, 120)
                    seconds = answer["seconds"] - started
                    cpu_s = second.cpu_s
                    await readers.stop()
    assert answer["cuts"] == READERS, answer
    progress(f"all caught up after {seconds:.1f} s, {answer['refused']} answers were no stream")
    return {
        "seconds": round(seconds, 1),
        "restart_s": round(restart_s, 1),
        "refused": answer["refused"],
        "server_cpu_s": round(cpu_s, 1),
    }
