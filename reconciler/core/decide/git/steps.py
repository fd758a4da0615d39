"""What is told of a commit beside its being applied or refused. Called by `revision` and `reconciler.handlers`.

Nothing is told twice: a commit that was validated and planned on this very base, with these counts, is not so again,
and one that something newer took the place of is told once. What converged before stays converged.
"""

from __future__ import annotations

from collections.abc import Iterator

from kit.canonical import digest
from reconciler.core.commands import Append
from reconciler.core.decide.git.state import Doc, GitState
from reconciler.core.events import NewEvent
from reconciler.core.revision_steps import OPEN, SUPERSEDED_MAX, seen_command_id
from reconciler.core.revisions import RevisionApplied, RevisionRefused, RevisionSeen


def decide_seen(state: GitState, revision: RevisionSeen) -> Append | None:
    """None for what is known already."""
    event = _seen(state, revision)
    if event is None:
        return None
    seq = state.revision["aggregate_seq"] if state.revision else 0
    return Append(
        command_id=seen_command_id(revision.revision_id, seq),
        body_hash=digest([revision.revision_id, seq]),
        cause=revision.cause,
        events=(event,),
        expected={("revision", revision.revision_id): seq},
    )


def told_before(state: GitState, revision: RevisionApplied | RevisionRefused) -> tuple[NewEvent, ...]:
    """What goes before revision.applied or .refused, as far as it was not told yet: seen, and for one that could be
    planned validated and planned."""
    seen = _seen(state, revision.seen) if revision.seen else None
    return (*([seen] if seen else ()), *_judged(state, revision))


def life(state: GitState, revision: RevisionRefused) -> int:
    """How often the commit was seen, this time included: a refusal of another life is another refusal."""
    seen = revision.seen is not None and _seen(state, revision.seen) is not None
    return int((state.revision or {}).get("lives", 0)) + seen


def _seen(state: GitState, revision: RevisionSeen) -> NewEvent | None:
    """None for the applied commit, and for one that is still looked at or was refused."""
    row = state.revision
    current = row is not None and row["status"] in OPEN - {"applied", "failed"}
    if current or revision.commit == state.applied_commit:
        return None
    names = ("source_id", "commit", "base", "author", "subject", "commits", "pull_request")
    return _event(revision.revision_id, "seen", {name: getattr(revision, name) for name in names})


def _judged(state: GitState, revision: RevisionApplied | RevisionRefused) -> tuple[NewEvent, ...]:
    counts = revision.counts
    if counts is None or _told(state.revision, revision):
        return ()
    about = {"source_id": revision.source_id, "commit": revision.commit, "base": revision.base}
    planned = counts.document()
    return (
        _event(revision.revision_id, "validated", {**about, "resources": planned.pop("resources")}),
        _event(revision.revision_id, "planned", {**about, **planned}),
    )


def superseded(state: GitState, revision: RevisionApplied, command_id: str) -> Append | None:
    """All that this commit takes the place of, at most SUPERSEDED_MAX of it: commits that were looked at and have not
    converged, then those that the branch went through since the base."""
    rows = dict(_open_rows(state, revision))
    told = dict(list(rows.items())[:SUPERSEDED_MAX])
    for info in revision.passed_over.commits[: SUPERSEDED_MAX - len(told)]:
        key = f"{revision.source_id}@{info.commit}"
        if key not in rows and key not in state.revisions:
            told[key] = {"commit": info.commit, "author": info.author, "subject": info.subject}
    if not told:
        return None
    return Append(
        command_id=command_id,
        body_hash=digest([revision.revision_id, sorted(told)]),
        cause=revision.cause,
        events=tuple(_event(key, "superseded", _superseded(row, revision)) for key, row in told.items()),
        expected={("revision", key): int(row.get("aggregate_seq", 0)) for key, row in told.items()},
    )


def _open_rows(state: GitState, revision: RevisionApplied) -> Iterator[tuple[str, Doc]]:
    """Newest first."""

    def mine(row: Doc) -> bool:
        own = row["source_id"] == revision.source_id and row["commit"] != revision.commit
        return own and row["status"] in OPEN

    rows = [(key, row) for key, row in state.revisions.items() if mine(row)]
    yield from sorted(rows, key=lambda each: -int(each[1]["updated_event_id"]))


def _superseded(row: Doc, revision: RevisionApplied) -> dict[str, str]:
    return {
        "source_id": revision.source_id,
        "commit": row["commit"],
        "author": row.get("author", ""),
        "subject": row.get("subject", ""),
        "by": revision.commit,
        "was": row.get("status", ""),
    }


def _told(row: Doc | None, revision: RevisionApplied | RevisionRefused) -> bool:
    if row is None or revision.counts is None or row["status"] not in OPEN:
        return False
    return bool(row.get("planned") == {"base": revision.base, **revision.counts.document()})


def _event(revision_id: str, verb: str, payload: Doc) -> NewEvent:
    return NewEvent("revision", revision_id, f"revision.{verb}", payload)
