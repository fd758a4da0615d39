"""Reads the whole log quickly: page after page by ranges of event_id, the next one on its way while this one is folded.

Called by `reconciler.store.rebuild` and the archive. event_id is dense, so a page is a range of it and the next range
is known before this one has come. Memory is bounded: a page holds at most LOG_PAGE_EVENTS_MAX events, and fewer when
the last one showed that they are large.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import asyncpg

from kit.errors import Bug
from reconciler.store.limits import LOG_PAGE_BYTES_MAX, LOG_PAGE_EVENTS_MAX
from reconciler.store.pool import borrowed
from reconciler.store.stored_event import PLACE_NAMES, REST_NAMES, StoredEvent, payload_of

# A range of the log. The payload as text: decoded only when it is wanted. So is the rest, of which Postgres makes one
# value: it has time to spare while the folds have none.
PAGE = f"""
SELECT {", ".join(PLACE_NAMES)}, json_build_array({", ".join(REST_NAMES)})::text, payload::text FROM events
WHERE event_id > $1 AND event_id <= $2 ORDER BY event_id"""  # noqa: S608  # fixed names

REST = len(PLACE_NAMES)
PAYLOAD = REST + 1

FIRST_PAGE_EVENTS = 16
"""Before it is known how large the events are; then at most ten times more from page to page."""

Rows = Sequence[asyncpg.Record]


async def pages(pool: asyncpg.Pool[Any], after: int, upto: int) -> AsyncGenerator[Rows, None]:
    """The rows of the events with after < event_id <= upto, in order. Raises Bug when one is missing."""
    size, coming = FIRST_PAGE_EVENTS, None
    try:
        while after < upto or coming is not None:
            end = min(after + size, upto)
            rows = await (coming or _page(pool, after, end))
            coming = None
            if not rows or rows[-1][0] - after != len(rows):
                raise Bug(f"read the log after event {after}", "it has a gap", code="log_gap")
            after = rows[-1][0]
            size = _next_size(rows)
            if after < upto:
                coming = asyncio.ensure_future(_page(pool, after, min(after + size, upto)))
            yield rows
    finally:
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await coming


def event_of_row(row: asyncpg.Record) -> StoredEvent:
    text = row[PAYLOAD]
    return StoredEvent(row[:REST], row[REST], payload_of(text), len(text))


def _next_size(rows: Rows) -> int:
    mean_bytes = 1 + sum(len(row[PAYLOAD]) for row in rows) // len(rows)
    return max(1, min(LOG_PAGE_EVENTS_MAX, LOG_PAGE_BYTES_MAX // mean_bytes, 10 * len(rows)))


async def _page(pool: asyncpg.Pool[Any], after: int, upto: int) -> Rows:
    async with borrowed(pool, f"read the log after event {after}") as connection:
        rows: Rows = await connection.fetch(PAGE, after, upto)
        return rows
