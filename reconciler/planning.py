"""Plans of commits against the live fleet: for GET /v1/plan and for pull requests. Changes nothing.

One `Planning` per source, made by `reconciler.followed_sources`. The commit has to be in the source's clone already; it
is read by object id, judged as `reconciler.tasks.git_sync` judges, and previewed on one snapshot of the views, all in a
worker thread. One plan of a source is made at a time; a caller who cannot wait, or whose plan takes too long, is told
`Transient` ("plan_busy", "plan_timeout") and may ask again.

Without a `base`, a commit is planned from where it left the branch: the newest common commit of the head and what
is applied. What lies between base and head is then held against the live rows, which is what merging it would do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kit.errors import Refusal, Transient
from reconciler.core.findings import Finding, errors
from reconciler.core.planner import revision_of
from reconciler.core.preview import Asked, PlanDocument, preview
from reconciler.core.preview.simulation import decided
from reconciler.core.revisions import Refused, Source
from reconciler.core.secret_file import ResolveSecret
from reconciler.core.views import PROJECTIONS
from reconciler.git.applied import held_files
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import BoundedSource
from reconciler.git.bounded.turns import ReadingTurns
from reconciler.git.judge import Judged, is_rebound, judge
from reconciler.git.objects import Objects
from reconciler.git.signatures import SignatureCheck
from reconciler.ports import Views, ViewSnapshot

PLAN_TIMEOUT_S = 25.0
"""A plan that takes longer goes on in its thread, and the next one waits for it."""
BLAMES_MAX = 20
"""How often more apps may be held back, as in `reconciler.tasks.git_sync`."""
WAIT_S = 120.0
"""How long a pull request's plan waits for the one before it."""
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


class Clone(Protocol):
    """A clone, as far as plans need one: where it is."""

    @property
    def path(self) -> Path: ...


@dataclass(slots=True)
class Planning:
    """`signatures`: who may sign now, from the operator's file and never from the commit. `reading`: not the one of the
    Git loop: whoever opens a pull request can end it, and that must cost the branch nothing."""

    source: Source
    clone: Clone
    resolve: ResolveSecret
    views: Views
    signatures: Callable[[], SignatureCheck | None] = lambda: None
    reading: ReadingProcess = field(default_factory=ReadingProcess)
    readings: ReadingTurns = field(default_factory=ReadingTurns)
    _bounded: BoundedSource | None = None
    _free: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def document(self, base: str, head: str, *, wait_s: float = 0.0) -> PlanDocument:
        """`base`, `head`: commits of the clone, at least 7 digits; `base` "" as told above. `Refusal` ("not_found") for
        a commit that the clone does not have."""
        attempted = f"plan {head[:12]} of the source {self.source.source_id}"
        await self._turn(attempted, wait_s)
        work = asyncio.ensure_future(self._document(base, head))
        work.add_done_callback(lambda _: self._free.release())
        done, _ = await asyncio.wait([work], timeout=PLAN_TIMEOUT_S)
        if not done:
            work.add_done_callback(_forget)
            raise Transient(attempted, f"it takes longer than {PLAN_TIMEOUT_S:g} s", code="plan_timeout")
        return work.result()

    async def _turn(self, attempted: str, wait_s: float) -> None:
        if self._free.locked() and not wait_s:
            raise Transient(attempted, "another plan of this source is being made", code="plan_busy")
        try:
            async with asyncio.timeout(wait_s or None):
                await self._free.acquire()
        except TimeoutError as error:
            raise Transient(attempted, "plans before it take too long", code="plan_busy") from error

    async def _document(self, base: str, head: str) -> PlanDocument:
        snapshot = await self.views.snapshot(PROJECTIONS)
        async with self.readings.turn(self.reading):
            return await asyncio.to_thread(self._plan, snapshot, base, head)

    def _plan(self, snapshot: ViewSnapshot, base: str, head: str) -> PlanDocument:
        bounded = self._read_with()
        objects = bounded.objects
        row = snapshot.rows["sources"].get(self.source.source_id) or {}
        applied = str(row.get("applied_commit") or "")
        head = _resolved(objects, head, "head")
        base = _resolved(objects, base, "base") if base else _fork_point(objects, applied, head)
        held = held_files(row) if base == applied else {}
        signatures = self.signatures()
        blamed: dict[str, tuple[Finding, ...]] = {}
        for left in reversed(range(BLAMES_MAX)):
            judged = judge(
                self.source,
                objects,
                bounded.reader,
                head=head,
                base=base,
                rows=snapshot.rows["resources"],
                held=held,
                blamed=blamed,
                signatures=signatures,
                rebound=is_rebound(self.source, row),
            )
            against = _against(self.source, judged, snapshot) if left else {}
            if not against.keys() - blamed.keys():
                break
            blamed.update(against)
        asked = Asked(
            self.source,
            judged.info,
            judged.base,
            judged.plan,
            judged.findings,
            applied,
            judged.signatures,
            judged.held,
        )
        return preview(snapshot.rows, snapshot.event_id, asked, "live")

    def _read_with(self) -> BoundedSource:
        """Kept, so that the next plan reads only what differs."""
        if self._bounded is None:
            self._bounded = BoundedSource(self.clone.path, self.source, self.resolve, self.reading)
        return self._bounded

    def close(self) -> None:
        self.reading.close()


def _against(source: Source, judged: Judged, snapshot: ViewSnapshot) -> Mapping[str, tuple[Finding, ...]]:
    """What the live system has against apps of the commit, and would hold them back for."""
    if judged.plan is None or errors(judged.findings) or source.rules.on_error != "hold-app":
        return {}
    revision = revision_of(judged.plan, source, judged.info)
    decision = decided(snapshot.rows, {}, revision, judged.plan.commands)
    return decision.blamed if isinstance(decision, Refused) else {}


def _resolved(objects: Objects, commit: str, name: str) -> str:
    """Only a commit id: no ref, no range, no option."""
    if not _COMMIT.fullmatch(commit):
        why = f"{name}={commit[:80]!r} is not a commit id of 7 to 64 hex digits"
        raise Refusal("make a plan", why, fix="give the whole commit id", code="invalid_argument")
    try:
        return objects.resolve(commit)
    except Transient as error:
        if error.code == "reading_ended":
            raise
        why = f"the commit {commit[:12]} is not in the controller's clone"
        raise Refusal("make a plan", why, fix="push it, and wait until it is fetched", code="not_found") from error


def _fork_point(objects: Objects, applied: str, head: str) -> str:
    """The newest common commit; what is applied when there is none, so that the judge says what is wrong."""
    if not applied or not objects.has(applied):
        return applied
    return objects.common_ancestor(applied, head) or applied


def _forget(work: asyncio.Task[PlanDocument]) -> None:
    """Nobody waits for it any more."""
    if not work.cancelled():
        work.exception()
