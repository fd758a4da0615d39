"""What the edge tells the controller: which routes are in force, sent when it changes. Used by `edge.loop`."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge.core.table import EMPTY, Reading, RouteTable
from kit import logs, request_ids
from kit.backoff import Backoff
from kit.clock import Clock
from kit.codec import to_json
from kit.errors import Refusal, TrueupError
from kit.halving import deliver
from kit.pacing import Pace
from kit.wire import EdgeReport, RoutePlan, RouteReport

_log = logs.get("report")
DETAIL_CHARS_MAX = 500
BATCH_S = 0.2
PART_ROUTES_MAX = 500
WHOLE_EVERY_S = 60.0


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
    """Tells what the newest report says and the controller was not told yet, until it took it.

    In parts of PART_ROUTES_MAX routes, at most one report every BATCH_S; a route that changes more often than
    `kit.pacing` allows is told by its newest state. Every WHOLE_EVERY_S, when there is something to tell, all is told:
    a controller whose views were behind may have dropped a word."""

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
        self._told = _Told()
        self._pace = Pace()
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
            if self._newest is None:
                continue
            try:
                await self._tell(*self._newest)
                failures, pause_s = 0, BATCH_S
            except TrueupError as error:
                failures += 1
                _log.warning("report not taken", failures=failures, why=str(error))
                pause_s = self._backoff.delay_s(failures, self._rng)
                self._changed.set()
            await self._clock.sleep(pause_s)

    async def _tell(self, log_id: str, report: EdgeReport) -> None:
        now_s = self._clock.now_s()
        self._pace.forget(now_s)
        whole = log_id != self._told.log_id or now_s >= self._told.whole_at_s + WHOLE_EVERY_S
        if log_id != self._told.log_id:
            self._told = _Told(log_id)
        news = [each for each in report.routes if self._told.routes.get(each.route_id) != each]
        due = [each for each in news if self._pace.allowance(each.route_id, now_s)]
        if news or report.applied_generation != self._told.generation:
            old = [each for each in report.routes if whole and self._told.routes.get(each.route_id) == each]
            await self._send_in_parts(report, [*due, *old])
            self._told.generation = report.applied_generation
            self._told.whole_at_s = now_s if whole else self._told.whole_at_s
            self._told.only({each.route_id for each in report.routes})
        if len(due) < len(news):
            self._changed.set()

    async def _send_in_parts(self, report: EdgeReport, routes: list[RouteReport]) -> None:
        async def send(part: Sequence[RouteReport]) -> None:
            request_id = request_ids.work_on(request_ids.made())
            await self._post(to_json(replace(report, observed_at=self._clock.utc(), routes=tuple(part))))
            _log.info("report recorded", routes=len(part), request_id=request_id)
            self._have_told(part)

        for start in range(0, len(routes) or 1, PART_ROUTES_MAX):
            await deliver(routes[start : start + PART_ROUTES_MAX], send, self._put_aside)

    def _have_told(self, routes: Sequence[RouteReport]) -> None:
        for each in routes:
            if self._told.routes.get(each.route_id) != each:
                self._pace.told(each.route_id, self._clock.now_s())
            self._told.routes[each.route_id] = each

    def _put_aside(self, route: RouteReport, error: Refusal) -> None:
        _log.error("the controller cannot read what is told of a route", route_id=route.route_id, why=str(error))
        self._have_told((route,))


@dataclass(slots=True)
class _Told:
    """What the controller was told of one log."""

    log_id: str = ""
    generation: int = -1
    whole_at_s: float = -math.inf
    routes: dict[str, RouteReport] = field(default_factory=dict)

    def only(self, route_ids: Collection[str]) -> None:
        for gone in self.routes.keys() - route_ids:
            del self.routes[gone]
