"""Follows the hash chain through the stored log and names the first event at which it does not hold.

Called by `trueup log verify` and the benchmark. It only reads, page by page with the next page on its way, so it needs
little memory and runs beside the writers: it goes as far as the head was when it began. An edit, a removal, an insert
or a swap breaks the chain at the first event that it touched. Who rewrites everything up to the head leaves a log that
is whole in itself: that, and a cut-off end, only shows beside heads that were exported before
(`reconciler.store.heads`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reconciler.core.chain import GENESIS, NUMBERS, TEXTS, canonical_event, link
from reconciler.store.limits import VERIFY_PAGE_EVENTS
from reconciler.store.pool import translated

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

HEAD = "SELECT log_id, epoch, last_event_id, head_hash FROM log_head"

_NUMBERS = ", ".join(NUMBERS).replace("occurred_us", "(extract(epoch FROM occurred_at) * 1000000)::bigint")
PAGE = f"""SELECT {_NUMBERS}, {", ".join(TEXTS)}, payload::text, hash FROM events
WHERE event_id > $1 AND event_id <= $2 ORDER BY event_id LIMIT $3"""  # noqa: S608  # fixed names


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of a log, or what it was at some time."""

    log_id: str
    epoch: int
    event_id: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """`first_bad`: 0 when all holds. `checked`: how many events were found good."""

    checked: int
    last_event_id: int
    first_bad: int = 0
    why: str = ""


async def read_head(connection: Connection) -> ChainHead:
    with translated("read the head of the log"):
        row = await connection.fetchrow(HEAD)
    assert row is not None
    return ChainHead(row["log_id"], row["epoch"], row["last_event_id"], row["head_hash"])


async def verify(
    connection: Connection, *, after: int = 0, hash_before: bytes = GENESIS, upto: int | None = None
) -> Verdict:
    """From the event after `after`, whose hash is known, to `upto` or the head."""
    head = await read_head(connection)
    last = head.event_id if upto is None else min(upto, head.event_id)
    event_id, now = after, hash_before
    async for rows in _pages(connection, after, last):
        for row in rows:
            if row[0] != event_id + 1:
                return Verdict(event_id - after, last, event_id + 1, f"event {event_id + 1} is missing")
            now = link(now, canonical_event(row[0:6], row[6:17], row[17]))
            if now != row[18]:
                return Verdict(event_id - after, last, row[0], f"event {row[0]} is not the one that was appended")
            event_id += 1
    if event_id < last:
        return Verdict(event_id - after, last, event_id + 1, f"event {event_id + 1} is missing")
    if last == head.event_id >= after and now != head.hash:
        return Verdict(event_id - after, last, last, f"the head of the log does not carry the hash of event {last}")
    return Verdict(event_id - after, last)


async def _pages(connection: Connection, after: int, last: int) -> AsyncIterator[Sequence[Any]]:
    """While one page is looked at, the next one is read."""
    coming = asyncio.ensure_future(_page(connection, after, last))
    try:
        while rows := await coming:
            coming = asyncio.ensure_future(_page(connection, rows[-1][0], last))
            yield rows
            await asyncio.sleep(0)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _page(connection: Connection, after: int, last: int) -> Sequence[Any]:
    if after >= last:
        return ()
    with translated(f"read the log after event {after}"):
        rows: Sequence[Any] = await connection.fetch(PAGE, after, last, VERIFY_PAGE_EVENTS)
    return rows
