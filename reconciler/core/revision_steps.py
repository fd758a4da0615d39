"""What is told of a commit besides that it was applied or refused: seen, validated, planned, superseded. Pure.

`reconciler.tasks.git_sync` looks, `reconciler.core.decide.git` makes the events. All of them stand in the transaction
of what became of the commit: a commit costs one, whatever it does. When judging takes long, or goes wrong, seen is an
append of its own meanwhile, so that it is known which commit the controller is at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from kit.canonical import digest
from reconciler.core.commands import Fence
from reconciler.core.revisions import Counts, RevisionSeen, Submitted

COMMITS_MAX = 10_000
"""Commits since the applied one that are counted: more are as many."""
SUPERSEDED_MAX = 100
"""Commits that one applied commit tells that it took their place, the newest first. Others are only counted."""

OPEN = frozenset({"seen", "validated", "planned", "refused", "applied", "failed"})
"""What a commit may be when a newer one takes its place. One that converged stays what it is."""
WAS_APPLIED = frozenset({"applied", "failed", "converged"})


class SeeRevision(Protocol):
    """`reconciler.handlers`: appends revision.seen by itself, unless the commit is known and not over."""

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
