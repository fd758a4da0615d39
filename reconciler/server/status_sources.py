"""The sources in the document of GET /v1/status: where each is at, who follows it, what is wrong. Pure.

Called by `reconciler.server.status`. A source that no controller follows any more keeps what it declared: nothing is
deleted because a line is missing from the settings. As long as it has anything, that is a problem that shows here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.core.explain_history import finding_text, held_text, name_of
from reconciler.core.explain_text import plural
from reconciler.core.explanation import Evidence
from reconciler.ports import Doc


@dataclass(frozen=True, slots=True)
class Followed:
    """What this controller knows of its own sources, and `leases` of everybody's."""

    troubles: Mapping[str, str] = field(default_factory=dict)
    leases: Sequence[Any] = ()
    notes_troubles: Mapping[str, str] = field(default_factory=dict)
    fetch_ages_s: Mapping[str, float | None] | None = None
    """None: nothing is known of who follows what."""
    recipient_of: Callable[[str, str], str] = lambda org, project: ""

    def leader(self, source_id: str) -> str:
        """The controller that decides about it, "" for none."""
        return next((each.holder for each in self.leases if each.lease == f"git/{source_id}" and each.held), "")

    def is_followed(self, source_id: str) -> bool:
        return self.fetch_ages_s is None or source_id in self.fetch_ages_s or bool(self.leader(source_id))

    def trouble(self, source_id: str) -> str:
        """What this controller says, else what the one that leads it says."""
        return self.troubles.get(source_id) or self._told_by(f"git/{source_id}")

    def forge_trouble(self, source_id: str) -> str:
        """Why its pull requests or commits cannot be told anything."""
        return self._told_by(f"pulls/{source_id}", f"statuses/{source_id}")

    def notes_trouble(self, source_id: str) -> str:
        """Why what became of its commits is not noted here, or not pushed by the one that does so."""
        return self.notes_troubles.get(source_id) or self._told_by(f"notes/{source_id}")

    def _told_by(self, *loops: str) -> str:
        """Of a controller that is gone, and had no time to release its lease, only what it held is left."""
        held = [each for each in self.leases if each.lease in loops and each.held]
        told = [f"{each.trouble} (at {each.holder})" for each in held if each.trouble]
        return told[-1] if told else ""


NOTHING_KNOWN = Followed()


def source_documents(evidence: Evidence, followed: Followed) -> list[dict[str, Any]]:
    """By name."""
    counts = Counter(str((row.get("origin") or {}).get("source_id")) for row in evidence.rows["resources"].values())
    rows = sorted(evidence.rows["sources"].items())
    return [_document(row, evidence, followed, counts[name]) for name, row in rows]


def _document(row: Doc, evidence: Evidence, followed: Followed, resources: int) -> dict[str, Any]:
    source_id = str(row["source_id"])
    refused = row.get("refused_commit") or ""
    applied = row.get("applied_commit") or ""
    revision = evidence.row("revisions", f"{source_id}@{refused}") or {} if refused else {}
    latest = evidence.row("revisions", f"{source_id}@{applied}") or {}
    age_s = (followed.fetch_ages_s or {}).get(source_id)
    return {
        "source_id": source_id,
        "org": row.get("org", ""),
        "project": row.get("project", ""),
        "url": row.get("url", ""),
        "branch": row.get("branch", ""),
        "path": row.get("path", ""),
        "recipient": followed.recipient_of(str(row.get("org", "")), str(row.get("project", ""))),
        "applied_commit": applied,
        "applied_subject": latest.get("subject", ""),
        "applied_status": latest.get("status", ""),
        "refused_commit": refused,
        "refused_subject": revision.get("subject", ""),
        "held_back": [name_of(app) if app else "" for app in sorted(row.get("held_back") or ())],
        "resources": resources,
        "followed": followed.is_followed(source_id),
        "leader": followed.leader(source_id),
        "fetch_age_s": None if age_s is None else round(age_s, 1),
        "problems": _problems(row, evidence, followed, resources),
    }


def _held_back(row: Doc, applied: Doc, evidence: Evidence) -> Iterable[dict[str, str]]:
    """Of the source's own apps that are there it is said at the app."""
    for held in applied.get("held") or () if row.get("held_back") else ():
        app = evidence.row("resources", held["app"]) if held["app"] else None
        if app is None or (app.get("origin") or {}).get("source_id") != row["source_id"]:
            message = f"commit {row['applied_commit'][:12]} was applied except {held_text(held)}"
            yield {"verdict": "held_back", "code": "held_back", "message": message}


def _problems(row: Doc, evidence: Evidence, followed: Followed, resources: int) -> list[dict[str, str]]:
    source_id, refused = str(row["source_id"]), row.get("refused_commit") or ""
    revision = evidence.row("revisions", f"{source_id}@{refused}") or {} if refused else {}
    latest = evidence.row("revisions", f"{source_id}@{row.get('applied_commit') or ''}") or {}
    found = []
    if refused:
        findings = revision.get("findings") or ()
        first = finding_text(findings[0]) if findings else "no finding is recorded"
        message = f"commit {refused[:12]} was refused with {plural(len(findings), 'finding')}: {first}"
        found.append({"verdict": "refused", "code": "revision_refused", "message": message})
    found += _held_back(row, latest, evidence)
    if trouble := followed.trouble(source_id):
        found.append({"verdict": "failing", "code": "source_unreadable", "message": trouble})
    if trouble := followed.forge_trouble(source_id):
        found.append({"verdict": "waiting", "code": "forge_unusable", "message": trouble})
    if trouble := followed.notes_trouble(source_id):
        found.append({"verdict": "waiting", "code": "notes_unwritten", "message": trouble})
    if resources and not followed.is_followed(source_id):
        message = f"no controller follows it any more; its {plural(resources, 'resource')} stay as they are"
        fix = "follow it again; let another source take over; or: trueup source remove"
        found.append({"verdict": "waiting", "code": "source_not_followed", "message": f"{message} ({fix} {source_id})"})
    return found
