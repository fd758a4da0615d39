"""The edge: newest plan -> table -> dataplane -> report. Wired by `edge.bootstrap`.

Level-triggered: whatever happened, the loop compares the newest accepted plan with the dataplane and makes it so. It
runs from the plan on disk before a controller answers, and goes on without one.
"""

from __future__ import annotations

import asyncio
import random

from edge.core.reading import read_plan
from edge.core.table import Reading, RouteTable, without_ports
from edge.dataplane.contract import Dataplane
from edge.ledger import Ledger
from edge.report import Reporter, make_report
from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Bug, TrueupError
from kit.programs import until_one_ends
from kit.wire import RoutePlan

TEND_INTERVAL_S = 1.0
BLOCKED_RETRY_S = 5.0  # how often a port that another program holds is tried again
_log = logs.get("edge")


class Loop:
    def __init__(
        self,
        dataplane: Dataplane,
        ledger: Ledger,
        reporter: Reporter,
        clock: Clock,
        *,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._dataplane = dataplane
        self._ledger = ledger
        self._reporter = reporter
        self._clock = clock
        self._backoff = backoff or Backoff(0.2, 10.0)
        self._rng = rng or random.Random()  # noqa: S311  # jitter
        self._plan: RoutePlan | None = None
        self._applied: RouteTable | None = None
        self._applied_generation = 0
        self._findings_told: tuple[object, ...] = ()
        self._wake = asyncio.Event()

    async def on_plan(self, plan: RoutePlan) -> None:
        """Takes a plan to be applied soon. A `Refusal` for an older or a foreign one."""
        self._ledger.check(plan)
        if self._plan is not None and self._plan.log_id == plan.log_id and self._plan.generation > plan.generation:
            return
        if plan != self._plan:
            self._plan = plan
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Starts from the ledger's plan. Returns when `stop` is set; the dataplane goes on."""
        if self._ledger.accepted is not None and self._plan is None:
            self._plan = self._ledger.accepted.plan
            self._wake.set()
        await until_one_ends(self._apply_plans(), self._tend(), stop.wait())

    async def _apply_plans(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._plan is None:
                continue
            blocked = False
            try:
                blocked = await self._apply(self._plan)
                failures = 0
            except TrueupError as error:
                failures += 1
                _log.warning("plan not applied", generation=self._plan.generation, failures=failures, why=str(error))
            if failures:
                await self._pause(self._backoff.delay_s(failures, self._rng))
            elif blocked:
                await self._pause(BLOCKED_RETRY_S)

    async def _pause(self, seconds: float) -> None:
        """Until the time is over or a plan comes; then it is tried (again)."""
        waiter = asyncio.create_task(self._wake.wait())
        sleeper = asyncio.create_task(self._clock.sleep(seconds))
        await asyncio.wait((waiter, sleeper), return_when=asyncio.FIRST_COMPLETED)
        for task in (waiter, sleeper):
            task.cancel()
        self._wake.set()

    async def _apply(self, plan: RoutePlan) -> bool:
        """Whether some port of the plan was blocked."""
        reading = read_plan(plan, self._ledger.held)
        self._ledger.accept(plan, reading.table)
        trouble = ""
        blocked = {}
        try:
            blocked = dict(await self._dataplane.blocked_ports(reading.table.listeners))
            reading = without_ports(reading, blocked)
            await self._dataplane.apply(reading.table, plan.generation)
            if self._applied != reading.table:
                _log.info("table in force", generation=plan.generation, routes=len(reading.table.routes))
            self._applied, self._applied_generation = reading.table, plan.generation
        except TrueupError as error:
            trouble = error.why
            raise
        except Exception as error:
            trouble = f"internal: {type(error).__name__}"
            _log.error("a bug while applying", exc=error, generation=plan.generation)
            raise Bug("apply the route plan", str(error)) from error
        finally:
            self._tell_findings(reading)
            report = make_report(plan, reading, self._applied, self._applied_generation, trouble)
            self._reporter.offer(plan.log_id, report)
        return bool(blocked)

    def _tell_findings(self, reading: Reading) -> None:
        """Each once, not again with every plan."""
        for finding in reading.findings:
            if finding not in self._findings_told:
                about = {} if finding.backend is None else {"instance_id": finding.backend}
                _log.warning("not served", route_id=finding.route_id, code=finding.code, why=finding.why, **about)
        self._findings_told = reading.findings

    async def _tend(self) -> None:
        """When the dataplane cannot be revived as it was, the plan is applied anew: a port may have been taken."""
        while True:
            await self._clock.sleep(TEND_INTERVAL_S)
            try:
                await self._dataplane.tend()
            except TrueupError as error:
                _log.warning("dataplane not tended", why=str(error))
                self._wake.set()
