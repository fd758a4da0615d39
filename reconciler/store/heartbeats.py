"""When each node was last heard, and which have fallen silent.

Called by the server of every controller (touch, ages_s) and by the nodes loop of one (silent_since, beats): what was
heard by any of them counts for all. Silence is measured by the database's clock on both
ends, never by a node's. Three things look like silence and are not: that nobody was listening (the controller was down
or paused, the database away), that the database's clock jumped, and that a node was never heard at all. So a node
counts as silent only if this process listened for the whole time: `silent_since` has to be called every few seconds,
and after a gap between two calls, or a step of the clock against our own monotonic one, listening begins anew.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import asyncpg

from kit.clock import Clock
from kit.shared_turn import SharedTurn
from reconciler.store.pool import borrowed

# Losing the last half second of heartbeats in a crash is harmless: the next ones come.
TOUCH = """
INSERT INTO node_heartbeats (node_id, last_at)
SELECT node_id, clock_timestamp() FROM unnest($1::text[]) AS heard (node_id)
ON CONFLICT (node_id) DO UPDATE SET last_at = excluded.last_at"""

FORGET = "DELETE FROM node_heartbeats WHERE node_id = $1"

NOW = "SELECT clock_timestamp()"

# A heartbeat from the future was written before the clock was set back: it counts as heard now.
PULL_BACK = "UPDATE node_heartbeats SET last_at = $1 WHERE last_at > $1"

SILENT = """
SELECT node_id FROM node_heartbeats
WHERE greatest(last_at, $1::timestamptz) <= $2::timestamptz - make_interval(secs => $3) ORDER BY node_id"""

# Somebody waits for this node from now on; a heartbeat that came meanwhile stays.
EXPECT = "INSERT INTO node_heartbeats (node_id, last_at) VALUES ($1, clock_timestamp()) ON CONFLICT DO NOTHING"

BEATS = "SELECT node_id, last_at FROM node_heartbeats"

AGES = "SELECT node_id, extract(epoch FROM clock_timestamp() - last_at)::float8 AS age_s FROM node_heartbeats"

CLOCK_STEP_MAX_S = 5.0
"""The database's clock may run this much apart from ours between two looks before it counts as a jump."""

GAP_SHARE_MAX = 0.5
"""Two looks further apart than this share of the silence that is asked for: nobody was listening."""

GAP_MIN_S = 1.0
"""A busy machine may delay a look by this much."""


class Heartbeats:
    def __init__(self, pool: asyncpg.Pool[Any], clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._listening_since: datetime | None = None
        self._last_look: tuple[datetime, float] | None = None
        self._heard: set[str] = set()
        self._writing = SharedTurn(self._write, "record heartbeats")

    async def touch(self, node_id: str) -> None:
        """Those that come while others are written are written together: 10,000 nodes are 2,000 heartbeats a second."""
        self._heard.add(node_id)
        await self._writing.done()

    async def _write(self) -> None:
        heard, self._heard = sorted(self._heard), set()  # sorted: two controllers take the rows in the same order
        async with borrowed(self._pool, f"record heartbeats of {len(heard)} nodes") as connection:
            async with connection.transaction():
                await connection.execute("SET LOCAL synchronous_commit = off")
                await connection.execute(TOUCH, heard)

    async def expect(self, node_id: str) -> None:
        """From now on its silence can be measured. It is no heartbeat."""
        async with borrowed(self._pool, f"expect heartbeats of node {node_id}") as connection:
            await connection.execute(EXPECT, node_id)

    async def beats(self) -> dict[str, datetime]:
        """Node -> its last heartbeat, at whichever controller. Two that differ mean that one came in between."""
        async with borrowed(self._pool, "read the heartbeats") as connection:
            return {row["node_id"]: row["last_at"] for row in await connection.fetch(BEATS)}

    async def ages_s(self) -> dict[str, float]:
        """Node -> how long ago it was heard, by the database's clock. For people; decides nothing."""
        async with borrowed(self._pool, "read the heartbeats") as connection:
            return {row["node_id"]: max(0.0, row["age_s"]) for row in await connection.fetch(AGES)}

    async def forget(self, node_id: str) -> None:
        """The node is gone on purpose; nobody waits for it."""
        async with borrowed(self._pool, f"forget the heartbeats of node {node_id}") as connection:
            await connection.execute(FORGET, node_id)

    async def silent_since(self, seconds: float) -> tuple[str, ...]:
        """The nodes that were not heard for `seconds`, all of which this process was listening."""
        async with borrowed(self._pool, "look for silent nodes") as connection:
            now = await connection.fetchval(NOW)
            if self._missed_something(now, seconds):
                self._listening_since = now
                await connection.execute(PULL_BACK, now)
            self._last_look = (now, self._clock.now_s())
            return tuple(row[0] for row in await connection.fetch(SILENT, self._listening_since, now, seconds))

    def _missed_something(self, now: datetime, seconds: float) -> bool:
        if self._last_look is None:
            return True
        ours_s = self._clock.now_s() - self._last_look[1]
        theirs_s = (now - self._last_look[0]).total_seconds()
        gap_max_s = max(seconds * GAP_SHARE_MAX, GAP_MIN_S)
        return ours_s > gap_max_s or abs(theirs_s - ours_s) > min(gap_max_s, CLOCK_STEP_MAX_S)
