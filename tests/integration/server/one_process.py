"""A stream process of its own, for tests: `python -m tests.integration.server.one_process STATE URL APP_URL`.

The server of a controller on a Postgres that is there, with small bounds; prints its address, serves until its standard
input ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from reconciler.store.settings import StoreSettings
from reconciler.store.store import opened_store
from tests.unit.server.test_streams import SMALL
from tests.unit.server.world import serving


async def serve(settings: StoreSettings) -> None:
    async with opened_store(settings) as store:
        async with serving(SMALL, store.log, store.views) as world:
            print(world.url, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    state, database_url, app_url = sys.argv[1:]
    asyncio.run(serve(StoreSettings(Path(state), database_url, app_url, connections_max=6)))
