"""What the edge tells the controller: which routes are in force, sent when it changes. Used by `edge.loop`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from edge.core.table import EMPTY, Reading, RouteTable
from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.codec import to_json
from kit.errors import TrueupError
from kit.wire import EdgeReport, RoutePlan, RouteReport

_log = logs.get("report")
DETAIL_CHARS_MAX = 500


def make_report(
    plan: RoutePlan, reading: Reading, applied: RouteTable | None, applied_generation: int, trouble: str
) -> EdgeReport:
    """Pure. `applied`: the table in force, None when nothing is; `trouble`: why it is not `reading.table`, or empty."""
    in_force = (applied or EMPTY).by_id
    refused = reading.refused
    wanted = reading.table.by_id
    reports = []
    for route_id in sorted({route.route_id for route in plan.routes}):
        if route_id in refused:
            reports.append(RouteReport(route_id, "failed", 0, refused[route_id].why[:DETAIL_CHARS_MAX]))
        elif in_force.get(route_id) == wanted[route_id]:
            detail = "; ".join(f.why for f in reading.findings if f.route_id == route_id)[:DETAIL_CHARS_MAX]
            reports.append(RouteReport(route_id, "active", len(wanted[route_id].servers), detail))
        else:
            served = len(in_force[route_id].servers) if route_id in in_force else 0
            reports.append(RouteReport(route_id, "failed", served, (trouble or "not applied yet")[:DETAIL_CHARS_MAX]))
    return EdgeReport(plan.edge_id, applied_generation, "", tuple(reports))


class Reporter:
    """Sends the newest report, at least once, until the controller took it. Reports that come while one is under way
    replace one another."""

    def __init__(
        self,
        post: Callable[[Any], Awaitable[Any]],
        clock: Clock,
        *,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._post = post
        self._clock = clock
        self._backoff = backoff or Backoff(0.2, 30.0)
        self._rng = rng or random.Random()  # noqa: S311  # jitter
        self._newest: tuple[str, EdgeReport] | None = None
        self._taken: tuple[str, EdgeReport] | None = None
        self._changed = asyncio.Event()

    def offer(self, log_id: str, report: EdgeReport) -> None:
        """`log_id`: another log knows nothing of what the first one was told."""
        self._newest = (log_id, report)
        self._changed.set()

    async def run(self) -> None:
        failures = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._newest is None or self._newest == self._taken:
                continue
            offered = self._newest
            try:
                await self._post(to_json(replace(offered[1], observed_at=self._clock.utc())))
                self._taken, failures = offered, 0
            except TrueupError as error:
                failures += 1
                _log.warning("report not taken", failures=failures, why=str(error))
                await self._clock.sleep(self._backoff.delay_s(failures, self._rng))
                self._changed.set()
