"""One stream process for the benchmarks: the server of a controller on a Postgres that is there, and nothing else.

It prints its address and serves until its standard input ends. With --ca, the folder of an authority, the address is
that for machines, where they come with certificates.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from kit import pauses
from reconciler.certificates.authority import Authority
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


async def serve(state: Path, database_url: str, port: int, ca: str) -> None:
    authority = Authority.open_or_create(Path(ca), "fleet.test", datetime.now(UTC)) if ca else None
    pauses.keep_short()  # as the controller's bootstrap does
    loop = asyncio.get_running_loop()
    async with opened_store(StoreSettings(state_dir=state, database_url=database_url)) as store:
        async with serving(LIMITS, store.log, store.views, port=port, authority=authority) as world:
            print(world.server.machines_url or world.url, flush=True)
            await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stream_process", description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("database_url")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ca", default="")
    asyncio.run(serve(**vars(parser.parse_args())))
