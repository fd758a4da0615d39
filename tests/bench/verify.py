"""How long it takes to follow the hash chain through a million events."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler.core.commands import Append, Appended
from reconciler.store.pool import connect
from reconciler.store.settings import StoreSettings
from reconciler.store.store import open_store
from reconciler.store.verify import Verdict, verify
from tests.bench.append import CAUSE, event

TITLE = "verify: the hash chain over a million events"
EVENTS = 1_000_000
BATCH_EVENTS = 10_000


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        store = await open_store(StoreSettings(state_dir=Path(folder)))
        try:
            for number in range(EVENTS // BATCH_EVENTS):
                events = tuple(event(each) for each in range(BATCH_EVENTS))
                (result,) = await store.log.append([Append(f"fill-{number}", "same", CAUSE, events, {})])
                assert isinstance(result, Appended), result
                if number % 20 == 19:
                    progress(f"{result.last_event_id} events appended")
            connection = await connect(store.access.app_url)
            started = time.monotonic()
            verdict = await verify(connection)
            seconds = time.monotonic() - started
            await connection.close()
            assert verdict == Verdict(EVENTS, EVENTS), verdict
        finally:
            await store.close()
    return {"seconds": round(seconds, 2), "events": EVENTS, "events_per_s": round(EVENTS / seconds)}
