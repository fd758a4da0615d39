"""Which thing does a person mean? Text in, candidates out. Pure.

A resource may be named by its name, or by any of its parts in order that end with its name: `site`, `app/site`,
`prod/site`, `prod/site/route/site`, or the whole resource_id. A volume in use and an app may share a name; then the app
is meant and the others are offered. An instance, a commit and a deployment's release may be cut short.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler.core.events import Event
from reconciler.core.explanation import Ambiguous, NothingFound, Rows, Subject
from reconciler.core.model import KINDS, ResourceId

PREFIX_CHARS_MIN = 4
CANDIDATES_MAX = 20


@dataclass(frozen=True, slots=True)
class Found:
    subject: Subject
    see_also: tuple[Subject, ...] = ()


def resource_subject(resource_id: ResourceId) -> Subject:
    return Subject(resource_id.kind, str(resource_id), resource_id.short)


def event_subject(text: str) -> Subject | None:
    """#1234 or event/1234. Digits alone may be a commit."""
    found = re.fullmatch(r"(?:#|event/)([1-9][0-9]{0,17})", text.strip())
    return Subject("event", found[1], f"event #{found[1]}") if found else None


def find(text: str, rows: Rows, gone: Iterable[Event] = ()) -> Found | Ambiguous | NothingFound:
    """`gone`: events of things that have no row any more; they are looked at only when no row answers."""
    text = text.strip().strip("/")
    for candidates in (_living(text, rows), _departed(text, gone)):
        if candidates:
            return _choose(text, candidates)
    refused = sorted(row["refused_commit"][:12] for row in rows["sources"].values() if row.get("refused_commit"))
    reason = f"; nothing of the newest commit {', '.join(refused)} is there, since it was refused" if refused else ""
    return NothingFound(
        f"nothing is or was called {text!r}{reason}",
        "name an app, route, volume, secret or environment (site, app/site, prod/site/route/site), an instance, "
        "a node, a commit, or an event as #1234; `trueup status` and `trueup log` list them",
    )


def _choose(text: str, candidates: Sequence[Subject]) -> Found | Ambiguous:
    """The only one; else the only exact one; else the only app, since the others usually exist for it."""
    if len(candidates) == 1:
        return Found(candidates[0])
    for chosen in (
        [each for each in candidates if text in (each.id, each.label)],
        [each for each in candidates if each.kind == "app"],
    ):
        if len(chosen) == 1:
            others = tuple(each for each in candidates if each != chosen[0])
            return Found(chosen[0], others[:CANDIDATES_MAX])
    return Ambiguous(f"{text!r} may mean any of {len(candidates)} things", tuple(candidates[:CANDIDATES_MAX]))


def _living(text: str, rows: Rows) -> list[Subject]:
    known = {*rows["resources"], *_held_back(rows)}
    found = [resource_subject(each) for each in map(ResourceId.parse, known) if matches(text, each)]
    found += [Subject("node", each, f"node {each}") for each in rows["nodes"] if text in (each, f"node/{each}")]
    found += _by_prefix("instance", text.removeprefix("instance/"), rows["instances"])
    found += _revisions(text.lower(), rows["revisions"])
    return sorted(found, key=_order)


def _held_back(rows: Rows) -> Iterable[str]:
    """Apps of an applied commit that may not be there for the very reason that one asks for."""
    return (app for row in rows["sources"].values() for app in row.get("held_back") or () if app)


def _departed(text: str, gone: Iterable[Event]) -> list[Subject]:
    found: dict[str, Subject] = {}
    for event in gone:
        if event.aggregate_type in KINDS:
            resource_id = ResourceId.parse(event.aggregate_id)
            if matches(text, resource_id):
                found[event.aggregate_id] = resource_subject(resource_id)
        elif event.aggregate_type == "instance" and _is_prefix(text, event.aggregate_id):
            found[event.aggregate_id] = Subject("instance", event.aggregate_id, f"instance {event.aggregate_id}")
    return sorted(found.values(), key=_order)


def matches(text: str, resource_id: ResourceId) -> bool:
    """The parts of `text` occur in the identity in this order, the last one as the name."""
    given = text.split("/")
    if given[-1] != resource_id.name:
        return False
    parts = iter(str(resource_id).split("/")[:-1])
    return all(part in parts for part in given[:-1])


def _by_prefix(kind: str, text: str, ids: Iterable[str]) -> list[Subject]:
    known = list(ids)
    chosen = [text] if text in known else [each for each in known if _is_prefix(text, each)]
    return [Subject("instance", each, f"{kind} {each}") for each in chosen]


def _is_prefix(text: str, whole: str) -> bool:
    return len(text) >= PREFIX_CHARS_MIN and whole.startswith(text)


def _revisions(text: str, revision_ids: Iterable[str]) -> list[Subject]:
    """By SOURCE@COMMIT or by the commit alone, each of which may be cut short."""
    found = []
    for revision_id in revision_ids:
        source_id, _, commit = revision_id.partition("@")
        source, _, wanted = text.rpartition("@")
        if source in ("", source_id) and _is_prefix(wanted, commit):
            found.append(Subject("revision", revision_id, f"commit {commit[:12]} of {source_id}"))
    return found


def _order(subject: Subject) -> tuple[str, str]:
    return (subject.kind, subject.id)
