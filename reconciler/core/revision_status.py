"""What a commit of the followed branch is told about itself: its status on the forge. Pure.

Called by `reconciler.tasks.commit_statuses` with rows of the views, so a status never says more than the log holds:

    seen                                   pending: nothing is changed yet
    refused                                failure, with the first finding
    applied                                running (pending where a forge knows no such state), with the counts
    applied, a deployment of it failed     failure, with the app and the message
    failed                                 failure, with the same, or with what is missing
    applied, apps are held back            failure, with the first of them and its finding
    converged                              success, with the time it took; failure if apps are held back
    superseded                             superseded, by which, and what it was

validated and planned are told in the transaction of what follows them, so they are no states of their own here. A
commit that converged stays a success when a newer one is applied. In logs from before revision.superseded, an applied
commit is superseded once another one is applied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kit.plain_text import clean
from reconciler.core.events import Event
from reconciler.core.pulls import CommitStatus, StatusState

Row = Mapping[str, Any]
_DONE = {
    "create": "created",
    "update": "updated",
    "move": "moved",
    "mark": "marked",
    "delete": "deleted",
    "retain": "retained",
}


def revision_status(context: str, row: Row, applied_commit: str, failed: Mapping[str, str], url: str) -> CommitStatus:
    """`row`: of the view `revisions`. `failed`: see `failed_deployments`."""
    state, text = _state_and_text(row, applied_commit, failed)
    return CommitStatus(context, state, clean(text), url)


def failed_deployments(events: Iterable[Event]) -> dict[str, str]:
    """App -> message, of the commit's deployments whose last event says that they failed. A retry may still succeed."""
    last: dict[str, Event] = {}
    for event in events:
        if event.event_type in ("deployment.created", "deployment.status_changed"):
            last[event.aggregate_id] = event
    return {
        str(event.payload["app"]): str(event.payload.get("message", ""))
        for event in last.values()
        if event.payload.get("status") == "failed"
    }


def _state_and_text(row: Row, applied_commit: str, failed: Mapping[str, str]) -> tuple[StatusState, str]:
    match row["status"]:
        case "refused":
            return "failure", _refused(row.get("findings") or ())
        case "converged" if row.get("held"):
            return "failure", f"converged except {_held(row['held'])}"
        case "converged":
            return "success", f"converged in {_seconds(row.get('seconds'))}: {_counts(row)}"
        case "superseded":
            return "superseded", f"superseded by {row['superseded_by'][:12]} {_was(row)}"
        case "applied" | "failed" if applied_commit and applied_commit != row["commit"]:
            return "superseded", f"superseded by {applied_commit[:12]} before it converged"
        case "applied" | "failed" if failed:
            app, message = sorted(failed.items())[0]
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            return "failure", f"applied; {_name(app)}{more} failed: {message}"
        case "applied" | "failed" if row.get("held"):
            return "failure", f"applied except {_held(row['held'])}"
        case "failed":
            return "failure", f"applied, and it failed: {row.get('message', '')}"
        case "applied":
            return "running", f"applied, not converged yet: {_counts(row)}"
        case _:
            return "pending", "seen: being looked at, nothing is changed yet"


def _was(row: Row) -> str:
    match row.get("was"):
        case "applied" | "failed" as was:
            return f"before it converged; it was {was}"
        case "refused":
            return "after it was refused; nothing of it was applied by itself"
        case _:
            return "before it was looked at by itself"


def _refused(findings: Sequence[Row]) -> str:
    bad = [each for each in findings if each.get("severity", "error") == "error"]
    if not bad:
        return "refused, nothing was changed"
    first = bad[0]
    count = f"{len(bad)} errors" if len(bad) > 1 else "1 error"
    return f"refused, nothing was changed; {count}; {_finding(first)}"


def _held(held: Sequence[Row]) -> str:
    """ "" stands for files that nobody can read, and comes first; an app says more."""
    first = held[-1]
    who = f"app {_name(first['app'])}" if first["app"] else "what cannot be read"
    more = f" and {len(held) - 1} more" if len(held) > 1 else ""
    return f"{who}{more}: {_finding(first['findings'][0])}"


def _finding(finding: Row) -> str:
    place = ":".join(str(part) for part in (finding["path"] or "(tree)", finding["line"], finding["column"]) if part)
    return f"{place}: {finding['message']}"


def _counts(row: Row) -> str:
    counts = Counter(str(each["verb"]) for each in row.get("changes") or ())
    return ", ".join(f"{counts[verb]} {text}" for verb, text in _DONE.items() if counts[verb]) or "no changes"


def _name(resource_id: str) -> str:
    return resource_id.rpartition("/")[2]


def _seconds(value: object) -> str:
    return f"{float(value):.1f} s" if isinstance(value, int | float) else "an unknown time"
