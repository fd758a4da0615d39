"""What is told of a commit besides that it was applied or refused: seen, validated, planned, superseded. Pure.

`reconciler.tasks.git_sync` looks, `reconciler.core.decide.git` makes the events. seen is an append of its own, made
while the commit is judged, so that it shows when judging takes long or ends the controller. validated and planned stand
in the transaction of what became of the commit, and so does superseded, for all that the applied commit takes the place
of: no commit is applied without them, and a commit costs two transactions whatever it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from kit.canonical import digest
from reconciler.core.commands import Fence
from reconciler.core.events import Cause
from reconciler.core.revisions import Counts, Submitted

COMMITS_MAX = 10_000
"""Commits since the applied one that are counted: more are as many."""
SUPERSEDED_MAX = 100
"""Commits that one applied commit tells that it took their place, the newest first. Others are only counted."""

OPEN = frozenset({"seen", "validated", "planned", "refused", "applied", "failed"})
"""What a commit may be when a newer one takes its place. One that converged stays what it is."""
WAS_APPLIED = frozenset({"applied", "failed", "converged"})


@dataclass(frozen=True, slots=True)
class RevisionSeen:
    """The branch names this commit now. `commits`: how far it is ahead of `base`, itself included, at most COMMITS_MAX.
    `pull_request`: what its message claims (`core.pull_claims`), "" for nothing."""

    cause: Cause
    source_id: str
    commit: str
    base: str
    author: str
    subject: str
    commits: int
    pull_request: str = ""

    @property
    def revision_id(self) -> str:
        return f"{self.source_id}@{self.commit}"


class SeeRevision(Protocol):
    """`reconciler.handlers`: appends revision.seen, unless the commit is known and nothing newer was applied."""

    async def __call__(self, revision: RevisionSeen, fence: Fence | None = None) -> Submitted: ...


def seen_command_id(revision_id: str, aggregate_seq: int) -> str:
    """A commit that comes back after another one took its place is seen anew."""
    return "revision-seen-" + digest([revision_id, aggregate_seq], length=32)


def counts_of(verbs: Iterable[str], *, resources: int, held: int = 0) -> Counts:
    """`verbs`: of the changes of a plan. `held`: see `Counts`."""
    count = Counter("update" if verb == "mark" else verb for verb in verbs)
    return Counts(
        resources,
        count["create"],
        count["update"],
        count["move"],
        count["delete"],
        count["retain"],
        held,
    )
