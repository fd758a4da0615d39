"""What is said of a commit, and of an event: from either to the other, to the author, the signer and the pull request.
Pure; a part of `reconciler.core.explain_subjects`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.core.events import Event
from reconciler.core.explain_history import cause_text, counts_text, finding_text, sentence
from reconciler.core.explain_text import plural
from reconciler.core.explanation import Desired, Difference, Evidence, Fact
from reconciler.core.history import signers_of

Doc = Mapping[str, Any]


def differences_of(row: Doc) -> list[Difference]:
    """What stands between the commit and its having become true, besides the state of what it changed."""
    match row["status"]:
        case "refused":
            findings = row.get("findings") or ()
            lines = tuple(finding_line(each) for each in findings)
            message = f"the commit was refused as a whole, because of {plural(len(findings), 'finding')}"
            return [Difference("refused", "revision_refused", message, "mend them in a new commit", lines)]
        case "failed":
            message = f"the commit is applied and failed: {row.get('message', '')}"
            fix = f"mend it in a new commit, or `git revert {row['commit'][:12]}`; it may still converge by itself"
            return [Difference("failing", "revision_failed", message, fix)]
        case "superseded":
            was = f"it was {row['was']}" if row.get("was") else "nobody had looked at it by itself"
            message = f"commit {row['superseded_by'][:12]} took its place; {was}"
            return [Difference("superseded", "revision_superseded", message)]
        case "seen":
            return [Difference("rolling", "revision_seen", "the commit is being looked at, and nothing is changed yet")]
        case _:
            return []


def facts_of(row: Doc) -> Iterator[Fact]:
    if row.get("pull_request"):
        yield Fact("pull request", f"{row['pull_request']} as its message says")
    if signers := signers_of(row):
        yield Fact("signed by", ", ".join(signers))
    if (row.get("commits") or 0) > 1:
        yield Fact("commits", f"{row['commits']} since what was applied, this one included")
    if row.get("planned"):
        yield Fact("planned", counts_text(row["planned"]))


def event_facts(event: Event, evidence: Evidence) -> Iterator[Fact]:
    """Everything that the event says of where it comes from, and what its commit says."""
    cause = event.cause
    yield Fact("event", f"{event.event_type} of {event.aggregate_id}, its number {event.aggregate_seq}")
    yield Fact("at", event.occurred_at)
    yield Fact("actor", f"{cause.actor_id} ({cause.actor_type.replace('_', ' ')})")
    yield Fact("request", event.command_id)
    row = revision_of(event, evidence)
    if row is not None:
        yield Fact("became", _became(row))
        yield from facts_of(row)
    if cause.causation_id:
        before = next((each for each in evidence.events if each.event_id == cause.causation_id), None)
        yield Fact(
            "answers",
            f"#{cause.causation_id}" + (f": {sentence(before)}, by {cause_text(before.cause)}" if before else ""),
        )


def event_desired(event: Event, evidence: Evidence) -> Desired | None:
    """The commit that asked for it; None for what no commit asked for."""
    cause, row = event.cause, revision_of(event, evidence) or {}
    if not cause.commit:
        return None
    author, subject = row.get("author", ""), row.get("subject", "")
    return Desired((), cause.source_id, cause.commit, author, subject, cause.path, cause.line)


def revision_of(event: Event, evidence: Evidence) -> Doc | None:
    return evidence.row("revisions", f"{event.cause.source_id}@{event.cause.commit}")


def _became(row: Doc) -> str:
    match row["status"]:
        case "converged":
            return f"converged after {row['seconds']:.1f} s"
        case "superseded":
            return f"superseded by {row['superseded_by'][:12]}"
        case "failed":
            return f"failed: {row.get('message', '')}"
        case other:
            return str(other)


def finding_line(finding: Doc) -> str:
    fix = f" - {finding['fix']}" if finding.get("fix") else ""
    return f"{finding_text(finding)}{fix}"
