"""View `revisions`: every commit that was looked at or passed over, SOURCE@COMMIT. Read by the Git loop, the scheduler,
the statuses of commits, the history and `explain`.

Each event is named after the state that it leads to: `lifecycles.REVISION`. `base`, `author`, `subject`, `findings`,
`changes` and `held` (the apps that an applied commit left as they were, and why) are of the last time that the commit
was looked at; `lives` (how often it was seen), `commits`, `pull_request`, `resources` and `planned` of the steps to
that; `seconds`, `message` (why it failed), `superseded_by` and `was` of what has become of it since. In logs from
before revision.seen commits begin with refused or applied.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.lifecycles import REVISION, require
from reconciler.core.projection import Doc, require_version, stamped
from reconciler.core.revision_steps import WAS_APPLIED

name = "revisions"
aggregate_types = frozenset({"revision"})

_FRESH: Doc = {"findings": [], "changes": [], "seconds": None}
_OVER = ("message", "superseded_by", "was")
"""Absent until it is told: a row that older versions folded is as this one folds it."""


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "revision" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    told, status = event.payload, event.event_type.removeprefix("revision.")
    require(REVISION, "" if row is None else row["status"], status, event)
    match status:
        case "seen":
            return _looked_at(row, event, {"lives": (row or {}).get("lives", 0) + 1, "planned": None})
        case "planned":
            planned = {**told, "resources": (row or {}).get("resources", 0)}
            about = {name: planned.pop(name) for name in ("source_id", "commit")}
            return _looked_at(row, event, {"planned": planned}, {**about, "base": told["base"]})
        case "converged":
            return stamped(_begun_anew(row), event, {"status": status, "seconds": told["seconds"]})
        case "failed":
            return stamped(row, event, {"status": status, "message": told["message"]})
        case "superseded":
            return _superseded(row, event)
        case "applied" if row is not None and row["status"] in WAS_APPLIED and told["base"] == told["commit"]:
            return _applied_again(row, event)
        case _:
            return _looked_at(row, event, {})


def _looked_at(row: Doc | None, event: Event, more: Doc, told: Doc | None = None) -> Doc:
    """`told`: what of the event is the row's; all of it when not given."""
    blank = {"author": "", "subject": ""} if row is None else {}
    fresh = {**blank, **_FRESH, **(event.payload if told is None else told)}
    status = event.event_type.removeprefix("revision.")
    return stamped(_begun_anew(row), event, {**fresh, **more, "status": status, "at": event.occurred_at})


def _applied_again(row: Doc, event: Event) -> Doc:
    """To apps that it held back until now: it did that besides what it did before."""
    more = {"base": row["base"], "changes": [*row["changes"], *event.payload["changes"]]}
    return _looked_at(row, event, more)


def _begun_anew(row: Doc | None) -> Doc | None:
    return row and {name: value for name, value in row.items() if name not in _OVER}


def _superseded(row: Doc | None, event: Event) -> Doc:
    told = event.payload
    names = ("source_id", "commit", "author", "subject")
    fresh = {**_FRESH, **{name: told[name] for name in names}, "base": "", "at": event.occurred_at}
    after = {"status": "superseded", "superseded_by": told["by"], "was": told["was"]}
    return stamped(row, event, {**(fresh if row is None else {}), **after})
