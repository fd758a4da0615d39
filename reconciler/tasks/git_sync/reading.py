"""A source's clone, read by a process that is kept, so that the next commit is read only where it differs.

`GitSync` has one; `branch` and `judging` read through it. Its methods block: call them in a worker thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from reconciler.core.pull_claims import pull_request_of
from reconciler.core.revision_steps import COMMITS_MAX, SUPERSEDED_MAX
from reconciler.core.revisions import CommitInfo, PassedOver, RevisionSeen, Source, revision_cause
from reconciler.core.secret_file import ResolveSecret
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import BoundedSource
from reconciler.git.bounded.turns import ReadingTurns
from reconciler.git.clone import BareClone

BEHIND_MAX = 1000
"""Commits of a suspended source that are counted: more are as many."""


@dataclass(slots=True)
class SourceReading:
    """`turns`: shared by all sources."""

    source: Source
    clone: BareClone
    resolve: ResolveSecret
    process: ReadingProcess = field(default_factory=ReadingProcess)
    turns: ReadingTurns = field(default_factory=ReadingTurns)
    _bounded: BoundedSource | None = None

    @property
    def bounded(self) -> BoundedSource:
        if self._bounded is None:
            self._bounded = BoundedSource(self.clone.path, self.source, self.resolve, self.process)
        return self._bounded

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with self.turns.turn(self.process):
            yield

    def look_at(self, head: str, applied: str) -> tuple[RevisionSeen, PassedOver]:
        """Reads commits only, so that it is quick whatever is in them."""
        objects = self.bounded.objects
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

    def count_between(self, applied: str, head: str) -> int:
        return len(self.bounded.objects.commits_since(applied, head, BEHIND_MAX))

    def begin_anew(self) -> None:
        """The clone is another one: nothing that was read of it is kept."""
        self._bounded = None
        self.close()

    def close(self) -> None:
        """The next question starts the process again."""
        self.process.close()
