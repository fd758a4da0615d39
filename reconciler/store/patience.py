"""Changes of the schema beside working programs: nobody waits long for them. Called by `migrate` and `ownership`.

A change that does not get its locks within LOCK_WAIT_MS lets go of everything and is tried again, because whoever
queues behind a waiting ALTER TABLE waits as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from kit import logs
from kit.backoff import Backoff
from kit.errors import Transient
from reconciler.store.pool import translated

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

T = TypeVar("T")

LOCK_WAIT_MS = 500
"""The longest that appends and reads wait behind a change that itself waits."""
STATEMENT_TIMEOUT_MS = 600_000
DEADLINE_S = 60.0
"""How long a change goes on trying for its locks, or for its turn, before the start is given up as `Transient`."""

LIMITS = f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}; SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"

_log = logs.get("store")


async def with_locks(
    connection: Connection, attempted: str, change: Callable[[], Awaitable[T]], deadline_s: float | None = None
) -> T:
    """`change` in a transaction of its own, until it gets its locks. `deadline_s`: on the monotonic clock."""
    until_s = time.monotonic() + DEADLINE_S if deadline_s is None else deadline_s
    backoff, rng, failures = Backoff(first_s=0.1, cap_s=2.0), random.Random(), 0  # noqa: S311  # jitter, no secret
    while True:
        try:
            with translated(attempted):
                async with connection.transaction():
                    await connection.execute(LIMITS)
                    return await change()
        except Transient as error:
            failures += 1
            if error.code != "postgres_busy":
                raise
            if time.monotonic() > until_s:
                raise blocked(attempted, f"its tables were in use each of {failures} times: {error.why}") from error
            _log.info("a change waits for its tables", change=attempted, failures=failures, why=error.why)
            await asyncio.sleep(backoff.delay_s(failures, rng))


def blocked(attempted: str, why: str) -> Transient:
    fix = "look for long transactions in pg_stat_activity, and start again"
    return Transient(attempted, why, fix=fix, code="migration_blocked")
