"""Derives the table `claims` anew from the log, and compares or repairs it.

Called through `Store` by `trueup views rebuild claims`. The log is folded while commands go on being appended; then one
transaction takes the lock of the log's head, which every append needs, folds what came meanwhile, and compares. So what
it repairs is exactly what the log says at that event, and no command can decide by a wrong claim after it.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import asyncpg

from reconciler.core.claims import AGGREGATE_TYPES, CLAIM_KINDS, ClaimKey, Claims, Held
from reconciler.store import log_pages
from reconciler.store.limits import DIFFERENCES_MAX, LOG_PAGE_EVENTS_MAX, REBUILD_SLICE_EVENTS
from reconciler.store.pool import borrowed
from reconciler.store.rebuild import LONGER, Progress, Rebuilt, breath

if TYPE_CHECKING:
    from reconciler.store.event_log import PostgresEventLog
    from reconciler.store.pool import Connection

NAME = "claims"

LOCK_HEAD = "SELECT last_event_id FROM log_head FOR UPDATE"

STORED = "SELECT kind, key, owner FROM claims WHERE kind = ANY($1::text[])"

REMOVE = """
DELETE FROM claims USING unnest($1::text[], $2::text[]) AS gone (kind, key)
WHERE claims.kind = gone.kind AND claims.key = gone.key"""

WRITE = """
INSERT INTO claims (kind, key, owner, event_id) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
ON CONFLICT (kind, key) DO UPDATE SET owner = excluded.owner, event_id = excluded.event_id"""


class ClaimsRebuilder:
    def __init__(self, pool: asyncpg.Pool[Any], log: PostgresEventLog) -> None:
        self._pool = pool
        self._log = log

    async def run(self, *, verify: bool, progress: Progress) -> Rebuilt:
        claims, last = Claims(), 0
        while (upto := (await self._log.head()).last_event_id) - last > LOG_PAGE_EVENTS_MAX or last == 0 < upto:
            await self._fold(claims, last, upto, progress)
            last = upto
        async with borrowed(self._pool, "rebuild the claims") as connection:
            await connection.execute(LONGER)
            async with connection.transaction():
                upto = await connection.fetchval(LOCK_HEAD)
                await self._fold(claims, last, upto, progress)
                found = await connection.fetch(STORED, sorted(CLAIM_KINDS))
                wrong = _differences(claims.held, {(kind, key): owner for kind, key, owner in found})
                if not verify:
                    await _repair(connection, claims.held, wrong)
        keys = tuple((f"{kind}:{key}", what) for (kind, key), what in sorted(wrong.items()))
        return Rebuilt(NAME, upto, len(wrong), keys[:DIFFERENCES_MAX], 0)

    async def _fold(self, claims: Claims, after: int, upto: int, progress: Progress) -> None:
        async with aclosing(log_pages.pages(self._pool, after, upto)) as found:
            async for rows in found:
                for number, row in enumerate(rows):
                    if row["aggregate_type"] in AGGREGATE_TYPES:
                        claims.apply(log_pages.event_of_row(row))
                    if number % REBUILD_SLICE_EVENTS == 0:
                        await breath()
                progress(rows[-1][0], upto)


def _differences(right: dict[ClaimKey, Held], stored: dict[ClaimKey, str]) -> dict[ClaimKey, str]:
    missing = dict.fromkeys(right.keys() - stored.keys(), "missing")
    extra = dict.fromkeys(stored.keys() - right.keys(), "extra")
    wrong = {key: "wrong" for key in right.keys() & stored.keys() if right[key].owner != stored[key]}
    return {**missing, **extra, **wrong}


async def _repair(connection: Connection, right: dict[ClaimKey, Held], wrong: dict[ClaimKey, str]) -> None:
    gone = [key for key, what in wrong.items() if what == "extra"]
    kept = [(*key, *right[key]) for key, what in wrong.items() if what != "extra"]
    if gone:
        await connection.execute(REMOVE, *map(list, zip(*gone, strict=True)))
    if kept:
        await connection.execute(WRITE, *map(list, zip(*kept, strict=True)))
