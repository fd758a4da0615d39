"""The loop of one source, and a pass of it: see the package for the steps."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import TrueupError, said, unknown
from kit.logs import get
from kit.waiting import first_of
from reconciler.core.commands import Fence
from reconciler.core.findings import Finding, errors, ordered
from reconciler.core.outside import held_alike, is_outside
from reconciler.core.revision_steps import SeeRevision
from reconciler.core.revisions import HeldApp, Refused, RefuseRevision, RevisionSeen, Source, SubmitRevision, Submitted
from reconciler.core.secret_file import ResolveSecret
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.turns import ReadingTurns
from reconciler.git.clone import BareClone
from reconciler.git.judge import Judged
from reconciler.git.signers_file import SignersFile
from reconciler.ports import EventLog, Views
from reconciler.tasks.git_sync.again import Again
from reconciler.tasks.git_sync.branch import Branch, Standing
from reconciler.tasks.git_sync.judging import Judging
from reconciler.tasks.git_sync.reading import SourceReading
from reconciler.tasks.git_sync.telling import Telling

BLAMED_APPS_MAX = 20
"""When the live system objects to so many apps of one commit and goes on, the whole is refused."""
SEEN_AFTER_S = 0.25
"""A commit that is judged for longer is told as seen by itself; others with what became of them."""
LOOK_GAP_S = 0.2
"""Between two passes, however often the source is looked at."""
_log = get("git-sync")


@dataclass(frozen=True, slots=True)
class Looked:
    """What a pass did. `findings`: of the refusal, or the warnings of what was applied. `held`: what was not."""

    result: Literal["unchanged", "applied", "refused", "suspended"]
    commit: str
    findings: tuple[Finding, ...] = ()
    held: tuple[HeldApp, ...] = ()


class GitSync:
    """`look()` from anywhere on the loop wakes it. `trouble`: why the source cannot be read now, "" when it can."""

    def __init__(
        self,
        source: Source,
        clone: BareClone,
        resolve: ResolveSecret,
        log: EventLog,
        views: Views,
        see: SeeRevision,
        submit: SubmitRevision,
        refuse: RefuseRevision,
        clock: Clock,
        rng: random.Random,
        *,
        interval_s: float = 15.0,
        signers: SignersFile | None = None,
        reading: ReadingProcess | None = None,
        readings: ReadingTurns | None = None,
    ) -> None:
        """`signers`: None when no signatures are asked for. `readings`: shared by all sources."""
        self.source = source
        self.reading = SourceReading(source, clone, resolve, reading or ReadingProcess(), readings or ReadingTurns())
        self.branch = Branch(source, clone, self.reading, log, views, clock)
        self.judging = Judging(source, self.reading, self.branch, views, clock, signers)
        self.telling = Telling(source, see, submit, refuse)
        self.again = Again(source.source_id, log, clock, rng)
        self.backoff = Backoff(first_s=1.0, cap_s=60.0)
        self.trouble = ""
        self._clock = clock
        self._rng = rng
        self._interval_s = interval_s
        self.seen_after_s = SEEN_AFTER_S
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Look at the source now, and at its head again even if it was refused or not applied to all apps."""
        self.again.forget()
        self._wake.set()

    async def run(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set. A pass that was begun is finished or cut off; either way the next one repeats it.
        `fence`: of the term in which it runs."""
        self.telling.begin(fence)
        self.again.forget()
        await self._repeat(self.step, stop)

    async def follow(self, stop: asyncio.Event) -> None:
        """Until `stop` is set: keeps the clone as new as the source, and decides nothing."""
        await self._repeat(self.branch.fetch, stop)

    async def refresh(self) -> None:
        """Returns when the next fetch has ended, well or not, or after a bounded time. Needs `run` or `follow` to
        run."""
        self._wake.set()
        await self.branch.next_fetch()

    async def step(self) -> Looked:
        """One pass."""
        head = await self.branch.fetch()
        now = await self.branch.standing()
        if not await self._is_worth_a_look(head, now):
            return Looked("suspended" if now.suspended else "unchanged", head)
        return await self._take(head, now)

    async def _is_worth_a_look(self, head: str, now: Standing) -> bool:
        if now.again(head):
            return now.waits_outside and await self.again.is_due(head)
        return now.suspended or await self.again.is_due(head)

    async def _take(self, head: str, now: Standing) -> Looked:
        seen, over = await asyncio.to_thread(self.reading.look_at, head, now.applied)
        if now.suspended:
            await self.telling.seen(seen)
            return Looked("suspended", head)
        blamed: dict[str, tuple[Finding, ...]] = {}
        while True:
            judged = await self._judge(seen, now, blamed)
            if judged.plan is None or errors(judged.findings):
                return await self._refuse(judged, judged.findings, seen, now)
            if now.again(head) and held_alike(now.revision["held"], judged.held) and not judged.plan.commands:
                return self._in_vain(head, now)
            result = await self.telling.applied(judged, judged.plan, seen, over, again=now.again(head))
            if isinstance(result, Submitted):
                return await self._applied(judged, now)
            if not self._may_hold(result, blamed):
                return await self._refuse(judged, ordered([*judged.findings, *result.findings]), seen, now)
            blamed.update(result.blamed)

    async def _judge(self, seen: RevisionSeen, now: Standing, blamed: Mapping[str, tuple[Finding, ...]]) -> Judged:
        """A commit that takes long, or cannot be judged now, is told as seen meanwhile: when this controller dies of
        it, the log says which one it was at."""
        judging = asyncio.ensure_future(self.judging.judge(seen.commit, now, blamed))
        try:
            await asyncio.wait([judging], timeout=self.seen_after_s)
            if not judging.done():
                await self.telling.seen(seen)
            elif judging.exception() is not None:
                with contextlib.suppress(TrueupError):  # what stands against judging says more
                    await self.telling.seen(seen)
            return await judging
        finally:
            judging.cancel()
            await asyncio.gather(judging, return_exceptions=True)

    async def _applied(self, judged: Judged, now: Standing) -> Looked:
        commit = judged.info.commit
        await self.branch.keep(commit)
        self.again.tried(commit, now.event_id, outside=True)
        return Looked("applied", commit, judged.findings, judged.held)

    async def _refuse(self, judged: Judged, findings: tuple[Finding, ...], seen: RevisionSeen, now: Standing) -> Looked:
        """What is applied already stays so, whatever is found when it is judged again for what it holds back."""
        if now.again(seen.commit):
            why = f"{findings[0].place}: {findings[0].message}"
            _log.warning("not applied to what it holds back", source=self.source.source_id, why=why)
            return self._in_vain(seen.commit, now)
        await self.telling.refused(judged, findings, seen)
        self.again.tried(seen.commit, now.event_id, outside=is_outside(findings))
        return Looked("refused", seen.commit, findings)

    def _in_vain(self, commit: str, now: Standing) -> Looked:
        self.again.tried(commit, now.event_id, outside=True)
        return Looked("unchanged", commit)

    def _may_hold(self, result: Refused, blamed: Mapping[str, object]) -> bool:
        """Whether what the live system has against the commit is some apps' own, and new."""
        wanted = self.source.rules.on_error == "hold-app"
        return wanted and bool(result.blamed.keys() - blamed.keys()) and len(blamed) < BLAMED_APPS_MAX

    async def _repeat(self, step: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
        failures = 0
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    await step()
                    failures, self.trouble = 0, ""
                except Exception as error:  # whatever it is, only this source waits
                    failures += 1
                    self._failed(error)
                pause_s = self._interval_s * (1 + 0.1 * self._rng.random())
                pause_s = max(pause_s, self.backoff.delay_s(failures, self._rng)) if failures else pause_s
                await self._rest(pause_s, stop)
        finally:
            self.reading.close()

    async def _rest(self, pause_s: float, stop: asyncio.Event) -> None:
        """The gap comes first: a storm of hooks is one fetch, and one more for what came during it."""
        gap_s = min(LOOK_GAP_S, pause_s)
        await first_of(self._clock.sleep(gap_s), stop.wait())
        if not stop.is_set():
            await first_of(self._clock.sleep(pause_s - gap_s), self._wake.wait(), stop.wait())

    def _failed(self, error: Exception) -> None:
        self.trouble = said(error)
        _log.error("a pass failed", exc=unknown(error), source=self.source.source_id, why=self.trouble)
