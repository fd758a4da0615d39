"""Follows one source: when its branch has moved, reads the commit, plans, guards, and submits all of it at once.

`reconciler.followed_sources` starts one `GitSync` per source. A pass takes no input: it fetches, reads from the views
what is applied, and works from there, so a restart or a lost wake-up changes nothing. What it decides goes to
`reconciler.handlers` through `submit` and `refuse`. The steps of a pass, each of which may end it:

1. fetch; an unreadable source is a `Transient`, and nothing changes;
2. the head is what is applied, and for the same folder and project, or was refused already, or an operator has
   suspended the source: nothing to do. Any other head is told as seen, while the next steps go on already;
3. the head does not descend from what is applied: refused, until an operator accepts the rewrite;
4. check the signatures of all commits since the applied one, then
   read and validate the whole tree, plan from the applied commit, check the guards: refused with all findings;
5. submit revision and commands as one batch; a claim that stands against it refuses the commit as well.

An error that is one app's own, in 4 or in 5, holds that app back and not the commit (`reconciler.core.isolation`),
unless the operator wants it otherwise (`Rules.on_error`). A refused commit changes nothing, and the next one is
compared with the last that was applied, so it never blocks. What is applied tells those that it takes the place of, the
commits since the applied one included: nobody looks at them by themselves.

Only the holder of the lease git/SOURCE runs these passes (`run`). Every other controller only fetches (`follow`), so
that it can deliver secrets out of its own clone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Refusal, Transient, TrueupError, said, unknown
from kit.logs import get
from kit.waiting import first_of
from reconciler.core.commands import Fence
from reconciler.core.findings import Finding, errors, ordered
from reconciler.core.planner import Plan, revision_of
from reconciler.core.pull_claims import pull_request_of
from reconciler.core.revision_steps import COMMITS_MAX, SUPERSEDED_MAX, SeeRevision
from reconciler.core.revisions import (
    CommitInfo,
    HeldApp,
    PassedOver,
    Refused,
    RefuseRevision,
    RevisionRefused,
    RevisionSeen,
    Source,
    SubmitRevision,
    Submitted,
    refused_command_id,
    revision_cause,
)
from reconciler.core.secret_file import ResolveSecret
from reconciler.git.applied import held_files
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import BoundedSource
from reconciler.git.bounded.turns import ReadingTurns
from reconciler.git.clone import BareClone
from reconciler.git.judge import Judged, is_rebound, judge, rows_of
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile
from reconciler.ports import EventLog, Views

VIEWS_TIMEOUT_S = 30.0
REFUSED_AGAIN_S = 300.0
"""A refused commit is looked at again this often: what stood against it may have lain outside of it. The same
refusal for the same reasons is one event."""
BLAMED_APPS_MAX = 20
"""When the live system objects to so many apps of one commit and goes on, the whole is refused."""
REFRESH_S = 20.0
SEEN_AFTER_S = 0.25
"""A commit that is judged for longer is told as seen by itself; others with what became of them."""
BEHIND_MAX = 1000
"""Commits of a suspended source that are counted: more are as many."""
LOOK_GAP_S = 0.2
"""Between two passes, however often the source is looked at."""
DAMAGED_READS_MAX = 3
"""So many passes in a row that fetch well and then miss objects: the clone is damaged, and is made anew."""
_log = get("git-sync")


@dataclass(frozen=True, slots=True)
class Looked:
    """What a pass did. `findings`: of the refusal, or the warnings of what was applied. `held`: what was not."""

    result: Literal["unchanged", "applied", "refused", "suspended"]
    commit: str
    findings: tuple[Finding, ...] = ()
    held: tuple[HeldApp, ...] = ()


@dataclass(slots=True)
class GitSync:
    """`look()` from anywhere on the loop wakes it. `trouble`: why the source cannot be read now, "" when it can.
    `behind`: how many commits were fetched and not applied because the source is suspended."""

    source: Source
    clone: BareClone
    resolve: ResolveSecret
    log: EventLog
    views: Views
    see: SeeRevision
    submit: SubmitRevision
    refuse: RefuseRevision
    clock: Clock
    rng: random.Random
    interval_s: float = 15.0
    seen_after_s: float = SEEN_AFTER_S
    signers: SignersFile | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=60.0))
    reading: ReadingProcess = field(default_factory=ReadingProcess)
    readings: ReadingTurns = field(default_factory=ReadingTurns)
    trouble: str = ""
    fetched: str = ""
    fetched_at_s: float | None = None
    behind: int = 0
    _fence: Fence | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _fetch_ended: asyncio.Event = field(default_factory=asyncio.Event)
    _opened: bool = False
    _bounded: BoundedSource | None = None
    _damaged_reads: int = 0
    _kept: str = ""
    _seen: tuple[str, str] = ("", "")
    _refused: str = ""
    _refused_at_s: float = 0.0
    _suspended: bool = False
    _rebound: bool = False
    _held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def look(self) -> None:
        """Look at the source now, and at its head again even if it was refused."""
        self._refused = ""
        self._wake.set()

    async def run(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set. A pass that was begun is finished or cut off; either way the next one repeats it.
        `fence`: of the term in which it runs."""
        self._fence, self._refused, self._seen = fence, "", ("", "")
        try:
            await self._repeat(self.step, stop)
        finally:
            self.reading.close()

    async def follow(self, stop: asyncio.Event) -> None:
        """Until `stop` is set: keeps the clone as new as the source, and decides nothing."""
        try:
            await self._repeat(self._fetch, stop)
        finally:
            self.reading.close()

    async def refresh(self) -> None:
        """Returns when the next fetch has ended, well or not, or after REFRESH_S. Needs `run` or `follow` to run."""
        ended = self._fetch_ended
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_S):
                await ended.wait()

    async def _repeat(self, step: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            self._wake.clear()
            try:
                await step()
                failures, self.trouble = 0, ""
            except Exception as error:  # whatever it is, only this source waits
                failures += 1
                self._failed(error)
            pause_s = self.interval_s * (1 + 0.1 * self.rng.random())
            pause_s = max(pause_s, self.backoff.delay_s(failures, self.rng)) if failures else pause_s
            await self._rest(pause_s, stop)

    async def _rest(self, pause_s: float, stop: asyncio.Event) -> None:
        """The gap comes first: a storm of hooks is one fetch, and one more for what came during it."""
        gap_s = min(LOOK_GAP_S, pause_s)
        await first_of(self.clock.sleep(gap_s), stop.wait())
        if not stop.is_set():
            await first_of(self.clock.sleep(pause_s - gap_s), self._wake.wait(), stop.wait())

    async def step(self) -> Looked:
        """One pass."""
        head = await self._fetch()
        await self._caught_up()
        applied = await self._applied()
        if (head == applied and not self._rebound) or (not self._suspended and self._is_known_refusal(head)):
            return Looked("suspended" if self._suspended else "unchanged", head)
        seen, over = await asyncio.to_thread(self._look_at, head, applied)
        if self._suspended:
            await self._tell_seen(seen)
            return Looked("suspended", head)
        blamed: dict[str, tuple[Finding, ...]] = {}
        while True:
            judged = await self._judge_and_tell(seen, blamed)
            if judged.plan is None or errors(judged.findings):
                return await self._refuse(judged, judged.findings, seen)
            result = await self._submit(judged, judged.plan, seen, over)
            if isinstance(result, Submitted):
                return await self._applied_now(judged)
            if not self._may_hold(result, blamed):
                return await self._refuse(judged, ordered([*judged.findings, *result.findings]), seen)
            blamed.update(result.blamed)

    def _may_hold(self, result: Refused, blamed: Mapping[str, object]) -> bool:
        """Whether what the live system has against the commit is some apps' own, and new."""
        wanted = self.source.rules.on_error == "hold-app"
        return wanted and bool(result.blamed.keys() - blamed.keys()) and len(blamed) < BLAMED_APPS_MAX

    def _look_at(self, head: str, applied: str) -> tuple[RevisionSeen, PassedOver]:
        """In a worker thread. Reads commits only, so that it is quick whatever is in them."""
        objects = self._read_with().objects
        found = objects.commit(head)
        ahead = objects.ahead(applied, head, COMMITS_MAX - 1, SUPERSEDED_MAX)
        info = CommitInfo(head, found.author, found.subject)
        seen = RevisionSeen(
            cause=revision_cause(self.source, info),
            source_id=self.source.source_id,
            commit=head,
            base=applied,
            author=info.author,
            subject=info.subject,
            commits=ahead.count + 1,
            pull_request=pull_request_of(found.message),
        )
        told = tuple(CommitInfo(each.commit, each.author, each.subject) for each in ahead.newest)
        return seen, PassedOver(ahead.count, told)

    async def _judge_and_tell(self, seen: RevisionSeen, blamed: Mapping[str, tuple[Finding, ...]]) -> Judged:
        """A commit that takes long, or cannot be judged now, is told as seen meanwhile: when this controller dies of
        it, the log says which one it was at."""
        judging = asyncio.ensure_future(self._judge(seen.commit, seen.base, blamed))
        try:
            await asyncio.wait([judging], timeout=self.seen_after_s)
            if not judging.done():
                await self._tell_seen(seen)
            elif judging.exception() is not None:
                with contextlib.suppress(TrueupError):  # what stands against judging says more
                    await self._tell_seen(seen)
            return await judging
        finally:
            judging.cancel()
            await asyncio.gather(judging, return_exceptions=True)

    async def _tell_seen(self, seen: RevisionSeen) -> None:
        if seen.commit != seen.base and self._seen != (seen.commit, seen.base):
            await self.see(seen, self._fence)
            self._seen = (seen.commit, seen.base)

    async def _fetch(self) -> str:
        """The head of the branch. What is applied is held on to, so that its secrets can be read here."""
        try:
            if not self._opened:
                await self.clone.open()
                self._opened = True
            self.fetched = await self.clone.fetch()
            self.fetched_at_s = self.clock.now_s()
        finally:
            ended, self._fetch_ended = self._fetch_ended, asyncio.Event()
            ended.set()
        applied = await self._applied()
        self.behind = await asyncio.to_thread(self._count_behind, applied) if self._suspended else 0
        return self.fetched

    def _count_behind(self, applied: str) -> int:
        return len(self._read_with().objects.commits_since(applied, self.fetched, BEHIND_MAX))

    async def _applied(self) -> str:
        row = await self.views.get("sources", self.source.source_id) or {}
        self._suspended = bool(row.get("suspended"))
        self._rebound = is_rebound(self.source, row)
        self._held = held_files(row)
        applied = str(row.get("applied_commit") or "")
        if applied:
            await self._keep(applied)
        return applied

    async def _judge(self, head: str, applied: str, blamed: Mapping[str, tuple[Finding, ...]]) -> Judged:
        snapshot = await self.views.snapshot(["resources"])
        try:
            async with self.readings.turn(self.reading):
                judged = await asyncio.to_thread(self._judge_now, head, applied, snapshot.rows["resources"], blamed)
        except Transient as error:
            await self._reading_failed(error)
            raise
        self._damaged_reads = 0
        return judged

    def _judge_now(
        self,
        head: str,
        applied: str,
        resources: Mapping[str, Mapping[str, Any]],
        blamed: Mapping[str, tuple[Finding, ...]],
    ) -> Judged:
        """In a worker thread. What it reads with lives on, so that only what changes is read and parsed."""
        rows = rows_of(self.source, resources)
        bounded, signatures = self._read_with(), self.signatures()
        return judge(
            self.source,
            bounded.objects,
            bounded.reader,
            head=head,
            base=applied,
            rows=rows,
            held=self._held,
            blamed=blamed,
            signatures=signatures,
            rebound=self._rebound,
        )

    def _read_with(self) -> BoundedSource:
        if self._bounded is None:
            self._bounded = BoundedSource(self.clone.path, self.source, self.resolve, self.reading)
        return self._bounded

    def signatures(self) -> SignatureCheck | None:
        """Read anew for every commit: a key that the operator ends is out at once. Here the wall clock does decide."""
        if self.signers is None:
            return None
        return SignatureCheck(self.signers.trust(), datetime.fromisoformat(self.clock.utc()))

    async def _submit(self, judged: Judged, planned: Plan, seen: RevisionSeen, over: PassedOver) -> Submitted | Refused:
        revision = revision_of(
            planned,
            self.source,
            judged.info,
            judged.findings,
            held=judged.held,
            released=judged.released,
            signatures=judged.signatures,
            passed_over=over,
            seen=seen,
        )
        return await self.submit(revision, planned.commands, self._fence)

    async def _applied_now(self, judged: Judged) -> Looked:
        source, commit = self.source.source_id, judged.info.commit
        await self._keep(commit)
        commands = len(judged.plan.commands) if judged.plan else 0
        _log.info("commit applied", source=source, commit=commit, commands=commands, held=len(judged.held))
        for each in judged.held:
            why = f"{each.findings[0].place}: {each.findings[0].message}"
            _log.warning("applied except", source=source, commit=commit, app=each.short, why=why)
        return Looked("applied", commit, judged.findings, judged.held)

    async def _refuse(self, judged: Judged, findings: tuple[Finding, ...], seen: RevisionSeen) -> Looked:
        info, first = judged.info, next(iter(errors(findings)), findings[0])
        if info.commit == judged.base:  # the commit is good as it was applied; it is the new binding that is not
            attempted, why = f"bind the source {self.source.source_id} anew", f"{first.place}: {first.message}"
            raise Refusal(attempted, why, fix=first.fix, code=first.code)
        revision = RevisionRefused(
            command_id=refused_command_id(self.source.source_id, judged.base, info.commit, findings),
            cause=revision_cause(self.source, info),
            source_id=self.source.source_id,
            commit=info.commit,
            base=judged.base,
            author=info.author,
            subject=info.subject,
            findings=findings,
            counts=judged.plan.counts(len(judged.held)) if judged.plan else None,
            seen=seen,
        )
        await self.refuse(revision, self._fence)
        self._refused, self._refused_at_s = info.commit, self.clock.now_s()
        _log.warning(
            "commit refused",
            source=self.source.source_id,
            commit=info.commit,
            findings=len(findings),
            first=f"{first.place}: {first.message}",
        )
        return Looked("refused", info.commit, findings)

    async def _keep(self, applied: str) -> None:
        """Holds on to what is applied, also after a restart, a renewal, or a crash right after the submission."""
        if self._kept != applied:
            await asyncio.to_thread(self.clone.keep_applied, applied)
            self._kept = applied

    async def _caught_up(self) -> None:
        """The views show all that is in the log, our own last batch included."""
        head = await self.log.head()
        await self.views.wait_for(head.last_event_id, ["sources", "resources"], VIEWS_TIMEOUT_S)

    async def _reading_failed(self, error: Transient) -> None:
        if error.code != "source_unreadable":
            return
        self._damaged_reads += 1
        if self._damaged_reads >= DAMAGED_READS_MAX:
            _log.warning("objects are missing, the clone is made anew", source=self.source.source_id)
            self._damaged_reads, self._bounded, self._kept = 0, None, ""
            self.reading.close()
            await self.clone.renew()

    def _failed(self, error: Exception) -> None:
        self.trouble = said(error)
        _log.error("a pass failed", exc=unknown(error), source=self.source.source_id, why=self.trouble)

    def _is_known_refusal(self, head: str) -> bool:
        return head == self._refused and self.clock.now_s() < self._refused_at_s + REFUSED_AGAIN_S
