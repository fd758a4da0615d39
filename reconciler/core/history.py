"""What became of each commit, joined from Git, the views and the log. Pure.

`reconciler.revision_history` gathers, `trueup log` prints, `reconciler.tasks.notes` writes it beside the commit. The
shape of GET /v1/log is that of `HistoryPage`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.core.events import Event
from reconciler.core.explain_history import counts_text, finding_text, held_text
from reconciler.core.explain_text import plural
from reconciler.core.revision_steps import WAS_APPLIED

Doc = Mapping[str, Any]
Outcome = Literal[
    "seen",
    "validated",
    "planned",
    "refused",
    "applied",
    "converged",
    "failed",
    "superseded",
    "waiting",
    "before",
    "part",
]
"""As in the view `revisions`; `waiting`: fetched and not looked at yet, `before`: the source was followed from a later
commit on, `part`: of the merge that brought it."""

ENTRIES_MAX = 200
"""Of a page."""
CHANGES_MAX = 200
FINDINGS_MAX = 20
FAILED_MAX = 10
HELD_MAX = 20
_VERBS = {"create": "created", "update": "updated", "move": "moved", "delete": "removed", "retain": "retained"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question. `start`: the newest commit, "" for the head. `stop`: to end before, "" for none. `path`: only commits
    that changed it. `since`, `until`: of the committer's time, as in `core.moments.parse_time`, "" for none. `under`:
    what a former page said."""

    start: str = ""
    stop: str = ""
    path: str = ""
    since: str = ""
    until: str = ""
    limit: int = 20
    under: str = ""


@dataclass(frozen=True, slots=True)
class Became:
    """`by`: the commit that took its place. `told`: False for a commit that has no event of its own."""

    outcome: Outcome
    by: str = ""
    told: bool = True


@dataclass(frozen=True, slots=True)
class FailedDeployment:
    deployment_id: str
    app: str
    message: str


@dataclass(frozen=True, slots=True)
class Deployments:
    """Those that the commit made, by how they stand. `complete`: False when there are more than were read."""

    made: int = 0
    rolling: int = 0
    succeeded: int = 0
    failed: int = 0
    superseded: int = 0
    failures: tuple[FailedDeployment, ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """One event of the revision itself."""

    event_id: int
    type: str
    at: str


@dataclass(frozen=True, slots=True)
class Entry:
    """`at`: when it was committed, as its committer says. `pull_request`: what the message claims. `brought`: commits
    that came with a merge; `parts`: the newest of them, {commit, author, subject}. `came_with`: for a commit that never
    was the branch's own, the merge that brought it, and `merge_outcome` what became of that.
    `seconds`: to converge, None before. `message`: why it failed. `held`: the apps that it left as they
    were, and why, a line each. `signers`: names."""

    commit: str
    parent: str
    author: str
    at: str
    subject: str
    pull_request: str
    brought: int
    parts: tuple[Mapping[str, str], ...]
    came_with: str
    merge_outcome: str
    outcome: Outcome
    superseded_by: str
    was: str
    message: str
    seconds: float | None
    base: str
    counts: Mapping[str, int]
    changes: tuple[Mapping[str, Any], ...]
    changes_omitted: int
    findings: tuple[Mapping[str, Any], ...]
    findings_omitted: int
    held: tuple[str, ...]
    signers: tuple[str, ...]
    deployments: Deployments
    events: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Onward:
    """Where the next page begins: `from` in the query, and what was applied on top of it."""

    start: str
    under: str


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """`head`: as it was fetched last. `event_id`: of the views that it shows."""

    source: str
    head: str
    applied_commit: str
    log_id: str
    event_id: int
    entries: tuple[Entry, ...] = ()
    next: Onward | None = field(default=None)


def became(row: Doc | None, under: Doc | None) -> Became:
    """`row`: of the view `revisions`. `under`: that of the nearest newer commit of the branch that was applied."""
    if row is not None:
        overtaken = row["status"] == "applied" and under is not None  # a log from before revision.superseded
        by = row.get("superseded_by", "") or (under["commit"] if under is not None and overtaken else "")
        return Became("superseded" if overtaken else row["status"], by)
    if under is None:
        return Became("waiting", told=False)
    return Became("superseded", under["commit"], told=False) if under.get("base") else Became("before", told=False)


def was_applied(row: Doc | None) -> bool:
    return row is not None and (row["status"] in WAS_APPLIED or row.get("was") in WAS_APPLIED)


def deployments_of(events: Iterable[Event], *, complete: bool = True) -> Deployments:
    """`events`: deployment.created and .status_changed of one commit, in order."""
    last: dict[str, Event] = {}
    for event in events:
        last[event.aggregate_id] = event
    status = {key: str(event.payload.get("status", "rolling")) for key, event in last.items()}
    count = Counter(status.values())
    failures = tuple(
        FailedDeployment(key, str(last[key].payload["app"]), str(last[key].payload.get("message", "")))
        for key in sorted(status)
        if status[key] == "failed"
    )
    return Deployments(
        len(last),
        count["rolling"],
        count["succeeded"],
        count["failed"],
        count["superseded"],
        failures[:FAILED_MAX],
        complete,
    )


def counts_of_row(row: Doc) -> dict[str, int]:
    """What was planned; of a log from before revision.planned, what was changed."""
    if planned := row.get("planned"):
        return {name: count for name, count in planned.items() if name not in ("base", "resources")}
    verbs = Counter(_VERBS.get(each["verb"], "updated") for each in row.get("changes") or ())
    return {name: verbs[name] for name in _VERBS.values()}


def held_of(row: Doc) -> tuple[str, ...]:
    """The apps that the commit left as they were, with the first finding of each."""
    return tuple(held_text(each) for each in (row.get("held") or ())[:HELD_MAX])


def signers_of(row: Doc) -> tuple[str, ...]:
    """The names of those who signed the revision's commits, each once."""
    return tuple(dict.fromkeys(str(each["signer"]) for each in row.get("signers") or ()))


def outcome_text(entry: Entry) -> str:
    match entry.outcome:
        case "converged":
            return f"converged in {entry.seconds:.1f} s" if entry.seconds is not None else "converged"
        case "superseded":
            was = f", was {entry.was}" if entry.was else ", not looked at by itself"
            return f"superseded by {entry.superseded_by[:12]}{was}"
        case "failed":
            return f"failed: {entry.message}"
        case "waiting":
            return "waiting: not looked at yet"
        case "before":
            return "from before the source was followed"
        case "part":
            return f"part of {entry.came_with[:12]}, which is {entry.merge_outcome}"
        case "seen":
            return "seen: being looked at"
        case "applied":
            return "applied, not converged yet"
        case other:
            return other


def entry_lines(entry: Entry) -> list[str]:
    """What it did, for people: a line each."""
    lines = []
    if entry.pull_request:
        lines.append(f"pull request {entry.pull_request} as its message says")
    if entry.came_with and entry.outcome != "part":
        lines.append(f"came with {entry.came_with[:12]}")
    if entry.brought:
        lines.append(f"brought {plural(entry.brought, 'commit')}")
    if entry.signers:
        lines.append(f"signed by {', '.join(entry.signers)}")
    if entry.outcome == "refused" and entry.findings:
        more = f" and {plural(len(entry.findings) + entry.findings_omitted - 1, 'other finding')}"
        lines.append(finding_text(entry.findings[0]) + (more if len(entry.findings) > 1 else ""))
    elif any(entry.counts.values()) or entry.base:
        lines.append(counts_text(entry.counts))
    lines += [f"except {each}" for each in entry.held]
    if entry.deployments.made:
        lines.append(deployments_text(entry.deployments))
    return lines


def deployments_text(told: Deployments) -> str:
    counted = ("succeeded", "failed", "superseded", "rolling")
    parts = [f"{getattr(told, name)} {name}" for name in counted if getattr(told, name)]
    more = "" if told.complete else " or more"
    return f"{plural(told.made, 'deployment')}{more}: {', '.join(parts)}"


def events_text(events: Sequence[Told]) -> str:
    return ", ".join(f"{each.type.partition('.')[2]} #{each.event_id}" for each in events)
