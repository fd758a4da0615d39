"""Folds one key of one view over the whole log and gives each step.

Called through `Store` for `trueup views explain`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import asyncpg

from reconciler.core.projection import cares_about
from reconciler.core.steps import Step, Tracing
from reconciler.core.views import PROJECTIONS
from reconciler.store import log_pages
from reconciler.store.views import table_of


async def trace(pool: asyncpg.Pool[Any], view: str, key: str, upto: int) -> AsyncIterator[Step]:
    table_of(view)
    projection = PROJECTIONS[view]
    tracing = Tracing(projection, key)
    async with aclosing(log_pages.pages(pool, 0, upto)) as found:
        async for rows in found:
            mine = (row for row in rows if cares_about(projection, row["aggregate_type"]))
            for step in tracing.steps(map(log_pages.event_of_row, mine)):
                yield step
