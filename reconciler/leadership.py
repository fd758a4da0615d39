"""Runs a loop only while this controller holds the loop's lease. Wired by `reconciler.bootstrap`, one per loop.

    standby --acquire--> leading --stop--> (loop ends, lease released)
       ^                    |
       +---- lost: the loop is cancelled -----+

The loop gets the `Fence` of its term and puts it into all that it appends: what a holder still tries to write after
another one has begun is refused by the log. Beyond that the holder stops early: a lease counts as lost when it was not
renewed for its time to live less a margin, by our own monotonic clock, counted from before the last good request was
sent. So a holder that is cut off, paused or starved stops before the next one may begin, and the fence is only needed
for what was already under way.

While the lease is somebody else's, `standby` runs, if there is one: what every controller needs for its own service.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from kit import logs
from kit.clock import Clock
from kit.errors import Bug, TrueupError
from reconciler.core.commands import Fence

RENEWALS_PER_TTL = 3
RETRIES_PER_TTL = 12
MARGIN_SHARE = 1 / 6
"""Of the time to live: the holder stops this much before anybody else may begin."""
LOOK_S_MAX = 1.0
LOOKS_PER_TTL = 5
"""A contender looks this often: a lease that was released is taken within a second."""
STANDBY_END_S = 5.0
CANCEL_AGAIN_S = 0.5

assert 1 / RENEWALS_PER_TTL + 2 / RETRIES_PER_TTL < 1 - MARGIN_SHARE, "a renewal that fails is tried again in time"

_log = logs.get("leadership")


class Leases(Protocol):
    async def acquire(self, lease: str, ttl_s: float) -> int | None: ...

    async def renew(self, lease: str, epoch: int, trouble: str = "") -> bool: ...

    async def release(self, lease: str, epoch: int) -> None: ...


@dataclass(slots=True)
class Term:
    """From an acquisition to its end. `sure_until_s`: until then nobody else holds it."""

    fence: Fence
    sure_until_s: float
    lost: str = ""


@dataclass(slots=True)
class Leadership:
    """`lead(stop, fence)` never ends before `stop` is set; if it does, `run` ends with a `Bug`. `trouble`: what the
    holder shows to the other controllers' readers."""

    lease: str
    leases: Leases
    lead: Callable[[asyncio.Event, Fence], Awaitable[None]]
    clock: Clock
    rng: random.Random
    ttl_s: float
    drain_s: float
    standby: Callable[[asyncio.Event], Awaitable[None]] | None = None
    trouble: Callable[[], str] = str

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            term = await self._stand_by(stop)
            if term is not None:
                await self._serve(term, stop)

    async def _stand_by(self, stop: asyncio.Event) -> Term | None:
        """Until the lease is ours, or `stop`."""
        standby_stop = asyncio.Event()
        standby = asyncio.ensure_future(self.standby(standby_stop)) if self.standby is not None else None
        try:
            while not stop.is_set():
                term = await self._try()
                if term is not None:
                    return term
                look_s = min(LOOK_S_MAX, self.ttl_s / LOOKS_PER_TTL) * (1 + 0.1 * self.rng.random())
                waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self.clock.sleep(look_s))]
                await asyncio.wait([*waits, *([standby] if standby else [])], return_when=asyncio.FIRST_COMPLETED)
                await _end(waits)
                if standby is not None and standby.done():
                    raise _ended(f"the standby of {self.lease}", standby)
            return None
        finally:
            standby_stop.set()
            if standby is not None:
                await asyncio.wait([standby], timeout=STANDBY_END_S)
                await _end([standby])

    async def _try(self) -> Term | None:
        begun_s = self.clock.now_s()
        try:
            async with asyncio.timeout(self.ttl_s):
                epoch = await self.leases.acquire(self.lease, self.ttl_s)
        except (TrueupError, TimeoutError) as error:
            _log.warning("lease not asked for", lease=self.lease, why=str(error) or "no answer")
            return None
        if epoch is None:
            return None
        _log.info("lease acquired", lease=self.lease, epoch=epoch)
        return Term(Fence(self.lease, epoch), begun_s + self._sure_s)

    async def _serve(self, term: Term, stop: asyncio.Event) -> None:
        loop_stop = asyncio.Event()
        loop = asyncio.ensure_future(self.lead(loop_stop, term.fence))
        keeper = asyncio.ensure_future(self._keep(term))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((loop, keeper, stopped), return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() and not keeper.done() and not loop.done():
                loop_stop.set()
                await asyncio.wait((loop, keeper), timeout=self.drain_s, return_when=asyncio.FIRST_COMPLETED)
            elif loop.done() and not keeper.done():
                raise _ended(f"the loop {self.lease}", loop)
        finally:
            await _end((loop, keeper, stopped))
            await self._leave(term)

    async def _keep(self, term: Term) -> None:
        """Renews until the lease is lost."""
        failures = 0
        while True:
            pause_s = self.ttl_s / (RETRIES_PER_TTL if failures else RENEWALS_PER_TTL)
            await self.clock.sleep(min(pause_s, max(0.0, term.sure_until_s - self.clock.now_s())))
            begun_s = self.clock.now_s()
            if begun_s >= term.sure_until_s:
                term.lost = "it was not renewed in time"
                return
            try:
                async with asyncio.timeout(term.sure_until_s - begun_s):
                    ours = await self.leases.renew(self.lease, term.fence.epoch, self.trouble())
            except (TrueupError, TimeoutError) as error:
                failures += 1
                _log.warning("lease not renewed", lease=self.lease, failures=failures, why=str(error) or "no answer")
                continue
            if not ours:
                term.lost = "another controller has taken it"
                return
            failures, term.sure_until_s = 0, begun_s + self._sure_s

    async def _leave(self, term: Term) -> None:
        """The loop has ended. What is still ours is given back; a lease that cannot be released expires."""
        if term.lost:
            _log.warning("lease lost, the loop was stopped", lease=self.lease, epoch=term.fence.epoch, why=term.lost)
            return
        try:
            async with asyncio.timeout(self.ttl_s):
                await self.leases.release(self.lease, term.fence.epoch)
            _log.info("lease released", lease=self.lease, epoch=term.fence.epoch)
        except (TrueupError, TimeoutError) as error:
            _log.warning("lease not released", lease=self.lease, why=str(error) or "no answer")

    @property
    def _sure_s(self) -> float:
        return self.ttl_s * (1 - MARGIN_SHARE)


async def _end(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancels them until they have ended: a cancellation can be swallowed by what it meets, and a loop that runs on
    without its lease would keep the whole controller from standing by. What they raise is of no interest any more."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


def _ended(what: str, task: asyncio.Future[Any]) -> Bug:
    error = None if task.cancelled() else task.exception()
    found = Bug(f"run {what}", f"it ended: {error or 'without a reason'}")
    found.__cause__ = error
    return found
