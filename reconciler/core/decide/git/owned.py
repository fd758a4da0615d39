"""What a revision changes, told as it is for what another source declared. Called by `revision`.

A plan compares two trees of one source, and knows nothing of others. What it calls new is taken over as it is when the
source takes over from the owner; what it removes and another source has by now is not its own, and stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.core.commands import DeclareResource, GitCommand
from reconciler.core.decide.git.resources import owner_of
from reconciler.core.decide.git.state import GitState
from reconciler.core.revision_steps import counts_of
from reconciler.core.revisions import Change, RevisionApplied


def told_as_it_is(state: GitState, revision: RevisionApplied, commands: Sequence[GitCommand]) -> RevisionApplied:
    """With the changes, and the counts of them, that the revision really makes."""
    specs = {str(each.resource.id): each.resource.spec for each in commands if isinstance(each, DeclareResource)}
    changes = tuple(_changes(state, revision, specs))
    if changes == revision.changes:
        return revision
    counts = revision.counts and counts_of(
        (each.verb for each in changes), resources=revision.counts.resources, held=revision.counts.held
    )
    return replace(revision, changes=changes, counts=counts)


def _changes(state: GitState, revision: RevisionApplied, specs: Mapping[str, Mapping[str, Any]]) -> Iterator[Change]:
    for change in revision.changes:
        key = str(change.resource_id)
        row = state.resources.get(key)
        if row is None or owner_of(row, revision.source_id) == revision.source_id:
            yield change
        elif key in specs:
            same = row["spec"] == specs[key] and not row.get("retained")
            yield replace(change, verb="move" if same else "update")
