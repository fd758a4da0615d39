"""Leases: which controller may run which loop, in the table `leases`. Called by `reconciler.leadership`.

A lease is held until it expires by the database's own clock. Each acquisition raises its epoch, and the append path
refuses a fence of an older one (`reconciler.core.commands.Fence`), so a clock that is wrong can cost an unneeded change
of holder and nothing else. Two rules make that exact:

- the epoch is raised while the head of the log is locked: whatever an older holder has appended is committed and
  visible before the new holder reads its first picture, and nothing of it comes after;
- a lease whose row has not moved for its whole time to live, by our own monotonic clock, may be taken even if the
  database says that it has not expired: a clock that was set back does not keep a dead holder in its place.

One connection of its own: a starved pool must not cost a lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from kit.clock import Clock
from reconciler.store.pool import borrowed, translated

# What a contender sees, without any lock.
LOOK = """
SELECT epoch, expires_at, ttl_s, expires_at <= clock_timestamp() AS expired FROM leases WHERE name = $1"""

# The lock of the head of the log comes first, as in an append.
LOCK_HEAD = "SELECT 1 FROM log_head FOR UPDATE"

# $4, $5: the row that we have seen not moving, or NULL.
TAKE = """
INSERT INTO leases AS held (name, holder, epoch, expires_at, since, ttl_s)
VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3), clock_timestamp(), $3)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = held.epoch + 1, expires_at = excluded.expires_at,
    since = excluded.since, ttl_s = excluded.ttl_s, trouble = ''
WHERE held.expires_at <= clock_timestamp() OR (held.epoch = $4::bigint AND held.expires_at = $5::timestamptz)
RETURNING epoch"""

RENEW = """
UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => ttl_s), trouble = $3
WHERE name = $1 AND epoch = $2 AND holder <> '' RETURNING true"""

# The row stays, for its epoch must never start again.
RELEASE = """
UPDATE leases SET holder = '', expires_at = clock_timestamp() - interval '1 hour', trouble = ''
WHERE name = $1 AND epoch = $2"""

ALL = """
SELECT name, holder, epoch, since, expires_at > clock_timestamp() AND holder <> '' AS held, trouble
FROM leases ORDER BY name"""

TROUBLE_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """What people see. `since`: RFC 3339, when the holder acquired it; "" before the first time. `trouble`: what the
    holder says about its loop, "" when all is well."""

    lease: str
    holder: str
    epoch: int
    since: str
    held: bool
    trouble: str


@dataclass(frozen=True, slots=True)
class _Seen:
    epoch: int
    expires_at: datetime
    at_s: float


class Leases:
    """`holder`: this controller's name, for people; what counts is the epoch."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[Any]]],
        pool: asyncpg.Pool[Any],
        holder: str,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self.holder = holder
        self._connect = connect
        self._clock = clock
        self._connection: asyncpg.Connection[Any] | None = None
        self._turn = asyncio.Lock()
        self._seen: dict[str, _Seen] = {}

    async def acquire(self, lease: str, ttl_s: float) -> int | None:
        """The new epoch, or None while somebody else holds it. `Transient` without the database."""
        async with self._borrowed(f"acquire the lease {lease}") as connection:
            row = await connection.fetchrow(LOOK, lease)
            dead = self._not_moving(lease, row) if row is not None and not row["expired"] else None
            if row is not None and not row["expired"] and dead is None:
                return None
            async with connection.transaction():
                await connection.execute(LOCK_HEAD)
                epoch: int | None = await connection.fetchval(
                    TAKE, lease, self.holder, ttl_s, dead and dead.epoch, dead and dead.expires_at
                )
            return epoch

    async def renew(self, lease: str, epoch: int, trouble: str = "") -> bool:
        """False: it is no longer ours."""
        async with self._borrowed(f"renew the lease {lease}") as connection:
            return bool(await connection.fetchval(RENEW, lease, epoch, trouble[:TROUBLE_CHARS_MAX]))

    async def release(self, lease: str, epoch: int) -> None:
        """The next one need not wait. Nothing happens when it is no longer ours."""
        async with self._borrowed(f"release the lease {lease}") as connection:
            await connection.execute(RELEASE, lease, epoch)

    async def rows(self) -> tuple[LeaseRow, ...]:
        """From the pool: readers come and go, and must not disturb the holder."""
        async with borrowed(self._pool, "read the leases") as connection:
            found = await connection.fetch(ALL)
        return tuple(
            LeaseRow(
                row["name"],
                row["holder"],
                row["epoch"],
                row["since"].isoformat(timespec="seconds").replace("+00:00", "Z") if row["since"] else "",
                row["held"],
                row["trouble"],
            )
            for row in found
        )

    async def close(self) -> None:
        async with self._turn:
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None

    def _not_moving(self, lease: str, row: asyncpg.Record) -> _Seen | None:
        """The row as it was first seen, when that was the holder's whole time to live ago."""
        now_s = self._clock.now_s()
        seen = self._seen.get(lease)
        if seen is None or (seen.epoch, seen.expires_at) != (row["epoch"], row["expires_at"]):
            self._seen[lease] = _Seen(row["epoch"], row["expires_at"], now_s)
            return None
        return seen if now_s - seen.at_s >= row["ttl_s"] else None

    @asynccontextmanager
    async def _borrowed(self, attempted: str) -> AsyncIterator[asyncpg.Connection[Any]]:
        """One user at a time. A connection on which anything went wrong, a cancellation included, is not used again."""
        async with self._turn:
            with translated(attempted):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                try:
                    yield self._connection
                except BaseException:
                    self._connection.terminate()
                    self._connection = None
                    raise
