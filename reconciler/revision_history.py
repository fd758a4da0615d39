"""The history of a source's branch with what each commit did: for GET /v1/log and `trueup log`. Changes nothing.

One `RevisionHistory` per source, made by `reconciler.bootstrap`. Git says which commits there are, out of the
controller's own clone; the views say what became of them, in one snapshot; the log says by which events, read through
its indexes. All of it is bounded: a page looks at PAGES_MAX pages of commits for what was asked, and one that found
less says all the same where to go on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kit.codec import to_json
from kit.errors import Refusal, Transient
from reconciler.core.event_filter import EventFilter
from reconciler.core.history import (
    CHANGES_MAX,
    FINDINGS_MAX,
    Became,
    Deployments,
    Entry,
    HistoryPage,
    Onward,
    Told,
    Wanted,
    became,
    counts_of_row,
    deployments_of,
    held_of,
    signers_of,
    was_applied,
)
from reconciler.core.revisions import Source
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import RemoteObjects
from reconciler.git.clone import BareClone
from reconciler.git.history import PastCommit, PastPage
from reconciler.git.objects import Objects
from reconciler.ports import Doc, EventLog, Views

PAGES_MAX = 10
PAGE_COMMITS = 200
DEPLOYMENT_EVENTS_MAX = 2_000
REVISION_EVENTS_MAX = 50
BETWEEN_MAX = 1_000
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class _Begin:
    """`above`: the branch from its head down to where `start` came into it; empty when it was not looked for."""

    start: str
    stop: str
    above: tuple[str, ...] = ()


@dataclass(slots=True)
class RevisionHistory:
    """`head`: what was fetched last, "" before the first time. `reading`: not the one of the Git loop."""

    source: Source
    clone: BareClone
    log: EventLog
    views: Views
    head: Callable[[], str] = lambda: ""
    reading: ReadingProcess = field(default_factory=ReadingProcess)

    async def page(self, wanted: Wanted) -> HistoryPage:
        """`Refusal` ("not_found") for a commit that is not in the clone."""
        snapshot = await self.views.snapshot(("revisions", "sources"))
        rows, source_id = snapshot.rows["revisions"], self.source.source_id
        row = snapshot.rows["sources"].get(source_id) or {}
        applied = str(row.get("applied_commit") or "")
        head = self.head() or str(row.get("seen_commit") or "") or applied
        made = HistoryPage(source_id, head, applied, snapshot.log_id, snapshot.event_id)
        if not head:
            return made
        begin = await asyncio.to_thread(self._begin, head, wanted)
        found, onward = await asyncio.to_thread(self._gather, rows, begin, wanted)
        entries = [await self._entry(commit, rows, under, came_with) for commit, under, came_with in found]
        return HistoryPage(source_id, head, applied, snapshot.log_id, snapshot.event_id, tuple(entries), onward)

    def _objects(self) -> Objects:
        return RemoteObjects(self.reading, self.clone.path)

    def _begin(self, head: str, wanted: Wanted) -> _Begin:
        objects = self._objects()
        stop = _resolved(objects, wanted.stop) if wanted.stop else ""
        if not wanted.start:
            return _Begin(head, stop)
        start = _resolved(objects, wanted.start)
        return _Begin(start, stop, () if wanted.under else objects.way_to(head, start))

    def _gather(
        self, rows: Mapping[str, Doc], begin: _Begin, wanted: Wanted
    ) -> tuple[list[tuple[PastCommit, str, str]], Onward | None]:
        """(commit, the newer applied one than it or its merge, the merge that brought it), and where to go on."""
        objects, start, under = self._objects(), begin.start, wanted.under
        under = under or self._above(rows, [each for each in begin.above if each != start])
        if begin.above and begin.above[-1] != start:
            (commit,) = objects.history(start, "", "", 1).commits
            return [(commit, self._above(rows, begin.above[:-1]), begin.above[-1])], None
        found: list[tuple[PastCommit, str, str]] = []
        for _ in range(PAGES_MAX):
            page = objects.history(start, begin.stop, wanted.path, min(wanted.limit - len(found), PAGE_COMMITS))
            for commit, above in self._under(page, rows, under):
                if _within(commit, wanted):
                    found.append((commit, above, ""))
            under = self._lowest(page, rows, under)
            start = page.next
            if not start or _all_older(page, wanted.since):
                return found, None
            if len(found) >= wanted.limit:
                break
        return found, Onward(start, under)

    def _above(self, rows: Mapping[str, Doc], line: Sequence[str]) -> str:
        """The lowest commit of the branch, from its head down, that was applied."""
        return next((each for each in reversed(line) if was_applied(self._row(rows, each))), "")

    def _under(self, page: PastPage, rows: Mapping[str, Doc], under: str) -> list[tuple[PastCommit, str]]:
        wanted = {each.commit: each for each in page.commits}
        found = []
        for commit in page.line:
            if commit in wanted:
                found.append((wanted[commit], under))
            under = commit if was_applied(self._row(rows, commit)) else under
        return found

    def _lowest(self, page: PastPage, rows: Mapping[str, Doc], under: str) -> str:
        applied = [commit for commit in page.line if was_applied(self._row(rows, commit))]
        return applied[-1] if applied else under

    def _row(self, rows: Mapping[str, Doc], commit: str) -> Doc | None:
        return rows.get(f"{self.source.source_id}@{commit}")

    async def _entry(self, commit: PastCommit, rows: Mapping[str, Doc], under: str, came_with: str) -> Entry:
        row = self._row(rows, commit.commit)
        above = self._row(rows, under) if under else None
        merge = became(self._row(rows, came_with), above) if came_with else None
        what = became(row, above) if row or merge is None else Became("part", merge.by, told=False)
        told = row or {}
        deployments, events = await self.facts(row) if row else (Deployments(), ())
        changes, findings = told.get("changes") or (), told.get("findings") or ()
        return Entry(
            commit=commit.commit,
            parent=commit.parent,
            author=commit.author,
            at=commit.at,
            subject=commit.subject,
            pull_request=commit.pull_request,
            brought=commit.brought,
            parts=tuple(to_json(commit.parts)),
            came_with=came_with,
            merge_outcome=merge.outcome if merge else "",
            outcome=what.outcome,
            superseded_by=what.by,
            was=str(told.get("was") or ""),
            message=str(told.get("message") or ""),
            seconds=told.get("seconds"),
            base=str(told.get("base") or ""),
            counts=counts_of_row(told),
            changes=tuple(changes[:CHANGES_MAX]),
            changes_omitted=max(0, len(changes) - CHANGES_MAX),
            findings=tuple(findings[:FINDINGS_MAX]),
            findings_omitted=max(0, len(findings) - FINDINGS_MAX),
            held=held_of(told),
            signers=signers_of(told),
            deployments=deployments,
            events=events,
        )

    async def between(self, row: Doc) -> Mapping[str, str]:
        """Of a commit that was looked at: the others since its base that have no row of their own, at most BETWEEN_MAX,
        each with the merge that brought it, "" for the branch's own."""
        base, commit = str(row.get("base") or ""), str(row["commit"])
        found = await asyncio.to_thread(self._objects().between, base, commit, BETWEEN_MAX) if base else ()
        rows = (await self.views.snapshot(("revisions",))).rows["revisions"]
        return {each.commit: each.merge for each in found if self._row(rows, each.commit) is None}

    async def facts(self, row: Doc) -> tuple[Deployments, tuple[Told, ...]]:
        """What the log says of a commit with this row of the view `revisions`."""
        deployments = await self._deployments(row["commit"]) if was_applied(row) else Deployments()
        return deployments, await self._events(row["commit"])

    async def _events(self, commit: str) -> tuple[Told, ...]:
        key = f"{self.source.source_id}@{commit}"
        only = EventFilter(aggregate_types=("revision",), aggregate_id=key, newest=True)
        found = await self.log.read(0, limit=REVISION_EVENTS_MAX, only=only)
        return tuple(Told(event.event_id, event.event_type, event.occurred_at) for event in found)

    async def _deployments(self, commit: str) -> Deployments:
        kinds = ("deployment.created", "deployment.status_changed")
        only = EventFilter(commit=commit, source_id=self.source.source_id, event_types=kinds, newest=True)
        found = await self.log.read(0, limit=DEPLOYMENT_EVENTS_MAX, only=only)
        return deployments_of(found, complete=len(found) < DEPLOYMENT_EVENTS_MAX)


def _resolved(objects: Objects, commit: str) -> str:
    """Only a commit id: no ref, no range, no option."""
    attempted = "read the history"
    if not _COMMIT.fullmatch(commit):
        raise Refusal(attempted, f"{commit[:80]!r} is not a commit id of 7 to 64 hex digits", code="invalid_argument")
    try:
        return objects.resolve(commit)
    except Transient as error:
        if error.code == "reading_ended":
            raise
        why = f"the commit {commit[:12]} is not in the controller's clone"
        raise Refusal(attempted, why, fix="push it, and wait until it is fetched", code="not_found") from error


def _within(commit: PastCommit, wanted: Wanted) -> bool:
    at = commit.at[:19]
    return (not wanted.since or at >= wanted.since[:19]) and (not wanted.until or at <= wanted.until[:19])


def _all_older(page: PastPage, since: str) -> bool:
    return bool(since and page.commits) and all(each.at[:19] < since[:19] for each in page.commits)
