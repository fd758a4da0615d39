"""Plans on pull requests: one comment and one status for each open one of a source's branch.

`reconciler.bootstrap` starts one per source with a forge, where its lease is held. A pass takes no input: it lists the
open pull requests and plans those whose head, base or applied commit is not what the last plan was made from; what that
was stands in the comment's marker, so a restart posts nothing again. For each:

1. fetch the head, from a fork too, into a clone apart; another head than the list said means: next pass;
2. merge it with the branch as it is now; conflicts are the plan then;
3. plan from what is applied to that merge, by the operator's policy alone and without any secret;
4. comment, then status. Unchanged text is not sent.

A pull request that fails stops only itself, and is tried again with growing pauses. Webhooks wake a pass; a lost one
is covered by the next pass.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Transient, said, unknown
from kit.plain_text import clean
from kit.waiting import first_of
from reconciler.core.commands import Fence
from reconciler.core.preview.document import RenderedPlan
from reconciler.core.pull_comment import (
    UNFINISHED,
    comment_body,
    conflict_plan,
    inputs_key,
    marker_for,
    marker_prefix,
    read_marker,
)
from reconciler.core.pulls import Comment, CommitStatus, PullRequest
from reconciler.core.revisions import Source
from reconciler.git.pull_clone import PullClone
from reconciler.ports import Forge, PlanFor, Views

PASS_GAP_S = 2.0
"""Between two passes, however often the loop is woken: a pass costs requests, and a forge counts them."""
PLANS_PER_PASS_MAX = 50
"""The others wait for the next pass, which then follows at once."""
_log = logs.get("pulls")


@dataclass(slots=True)
class _Tried:
    failures: int
    not_before_s: float


@dataclass(slots=True)
class PullRequests:
    """`look()` from anywhere on the loop wakes it. `trouble`: why the forge cannot be used now, "" when it can."""

    source: Source
    forge: Forge
    clone: PullClone
    plan_for: PlanFor
    views: Views
    clock: Clock
    rng: random.Random
    interval_s: float = 60.0
    context: str = "trueup/plan"
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=600.0))
    trouble: str = ""
    _done: dict[int, str] = field(default_factory=dict)
    _tried: dict[int, _Tried] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> None:
        self._wake.set()

    async def run(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set. Nothing is appended to the log, so the term's fence has no use here."""
        failures = 0
        while not stop.is_set():
            self._wake.clear()
            pause_s = self.interval_s * (1 + 0.1 * self.rng.random())
            try:
                if await self.step():
                    self._wake.set()
                failures, self.trouble = 0, ""
            except Exception as error:  # whatever it is, only this source's pull requests wait
                failures += 1
                self.trouble = said(error)
                _log.error("a pass failed", exc=unknown(error), source=self.source.source_id, why=self.trouble)
                pause_s = self.backoff.delay_s(failures, self.rng)
                self._wake.clear()
            await self._rest(max(pause_s, self.forge.blocked_s()), stop)

    async def step(self) -> bool:
        """One pass. True: there was more to do than one pass may."""
        applied = str((await self.views.get("sources", self.source.source_id) or {}).get("applied_commit") or "")
        tip = await asyncio.to_thread(self.clone.tip)
        listed = await self.forge.open_pull_requests(self.source.branch)
        if not listed.complete:
            _log.warning("not all pull requests are looked at", source=self.source.source_id)
        self._forget({pull.number for pull in listed.pull_requests})
        keys = {pull.number: inputs_key(pull.head_commit, tip, applied) for pull in listed.pull_requests}
        due = [pull for pull in listed.pull_requests if self._is_due(pull.number, keys[pull.number])]
        for pull in due[:PLANS_PER_PASS_MAX]:
            await self._attend(pull, tip, applied, keys[pull.number])
        await asyncio.to_thread(self.clone.forget_all_but, frozenset(keys))
        return len(due) > PLANS_PER_PASS_MAX

    def _is_due(self, number: int, key: str) -> bool:
        tried = self._tried.get(number)
        return self._done.get(number) != key and (tried is None or self.clock.now_s() >= tried.not_before_s)

    async def _attend(self, pull: PullRequest, tip: str, applied: str, key: str) -> None:
        try:
            await self._one(pull, tip, applied, key)
        except Transient as error:
            self._failed(pull, error)
            if error.code == "forge_rate_limited":
                raise
        except Exception as error:  # a bug that one pull request brings out must not stop the others
            self._failed(pull, error)

    async def _one(self, pull: PullRequest, tip: str, applied: str, key: str) -> None:
        known = await self.forge.find_comment(pull.number, marker_prefix(self.source.source_id))
        marker = read_marker(known.body) if known else None
        if marker is None or marker.inputs != key:
            plan = await self._plan(pull, tip, applied)
            if plan is None:
                return  # it has moved on; the next pass sees where to
            await self._publish(pull, plan, key, known)
        self._done[pull.number] = key
        self._tried.pop(pull.number, None)

    async def _plan(self, pull: PullRequest, tip: str, applied: str) -> RenderedPlan | None:
        head = await self.clone.fetch(pull.number, self.forge.head_ref(pull.number))
        if head != pull.head_commit:
            self._wake.set()
            return None
        merged = await self.clone.merged(tip, head, f"Merge pull request {pull.number}")
        if not merged.commit:
            return conflict_plan(merged.conflicts, self.source.branch)
        return await self.plan_for(applied, merged.commit)

    async def _publish(self, pull: PullRequest, plan: RenderedPlan, key: str, known: Comment | None) -> None:
        """The status links to the comment, and the comment's marker says that all is done: so the marker of a new
        comment gets its inputs only when the status is there, and after a crash in between both are made sure of."""
        source_id, chars_max = self.source.source_id, self.forge.comment_chars_max
        told = marker_for(source_id, pull.head_commit, key, plan.markdown)
        if known is None:
            unfinished = marker_for(source_id, pull.head_commit, UNFINISHED, plan.markdown)
            body = comment_body(unfinished, plan.markdown, chars_max)
            known = await self.forge.put_comment(pull.number, None, body)
        await self._put_status(pull, plan, known.url or pull.url)
        before = read_marker(known.body)
        if before is None or before.inputs == UNFINISHED or (before.head, before.text) != (told.head, told.text):
            await self.forge.put_comment(pull.number, known, comment_body(told, plan.markdown, chars_max))
            _log.info("plan told", source=source_id, pull_request=pull.number, ok=plan.ok)

    async def _put_status(self, pull: PullRequest, plan: RenderedPlan, url: str) -> None:
        status = CommitStatus(self.context, "success" if plan.ok else "failure", clean(plan.summary), url)
        await self.forge.put_status(pull.head_commit, status, ref=self.forge.head_ref(pull.number) if pull.fork else "")

    def _failed(self, pull: PullRequest, error: Exception) -> None:
        before = self._tried.get(pull.number)
        failures = before.failures + 1 if before else 1
        self._tried[pull.number] = _Tried(failures, self.clock.now_s() + self.backoff.delay_s(failures, self.rng))
        _log.error(
            "no plan", exc=unknown(error), source=self.source.source_id, pull_request=pull.number, why=said(error)
        )

    def _forget(self, numbers: set[int]) -> None:
        self._done = {number: key for number, key in self._done.items() if number in numbers}
        self._tried = {number: tried for number, tried in self._tried.items() if number in numbers}

    async def _rest(self, pause_s: float, stop: asyncio.Event) -> None:
        gap_s = max(PASS_GAP_S, self.forge.blocked_s())
        await first_of(self.clock.sleep(gap_s), stop.wait())
        if pause_s > gap_s:
            await first_of(self.clock.sleep(pause_s - gap_s), self._wake.wait(), stop.wait())
