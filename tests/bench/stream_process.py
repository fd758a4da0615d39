"""One stream process for the benchmarks: the server of a controller on a Postgres that is there, and nothing else.

`python -m tests.bench.stream_process STATE URL [PORT]`: prints its address, serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from reconciler.server.limits import Limits, Rate
from reconciler.store.settings import StoreSettings
from reconciler.store.store import opened_store
from tests.unit.server.world import serving

READERS_MAX = 6_000
LIMITS = replace(
    Limits(),
    streams_max=READERS_MAX,
    connections_max=READERS_MAX + 1_000,
    connections_per_address_max=READERS_MAX + 1_000,
    stream_rate=Rate(READERS_MAX, READERS_MAX),
)
"""All readers come from one address, and where they follow everything as one identity."""


async def serve(state: Path, database_url: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    async with opened_store(StoreSettings(state_dir=state, database_url=database_url)) as store:
        async with serving(LIMITS, store.log, store.views, port=port) as world:
            print(world.url, flush=True)
            await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], int("".join(sys.argv[3:]) or 0)))
