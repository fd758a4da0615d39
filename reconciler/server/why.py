"""Gathers what `reconciler.core.explain` needs: one snapshot of the views, and the events of the subject.

Called by `reconciler.server.reads`. Every read of the log goes through an index (aggregate, commit, type) and is
bounded, so that a question asked at night does not disturb what is being repaired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.events import Event
from reconciler.core.explain import explain
from reconciler.core.explain_differences import app_of
from reconciler.core.explain_names import Found, event_subject, find
from reconciler.core.explanation import Ambiguous, Evidence, Explanation, NothingFound, Subject
from reconciler.core.model import KINDS, ResourceId
from reconciler.ports import EventFilter, EventLog, ViewSnapshot

PAGE_EVENTS = 1000
EVENTS_PER_READ_MAX = 5000
INSTANCES_MAX = 50
DEPLOYMENTS_MAX = 3
_ON_THE_WAY = frozenset({"revision.seen", "revision.validated", "revision.planned"})
"""Steps of a commit that say nothing of one resource."""
ANSWERS_MAX = 10
"""How far the way from an answer to what it answers is followed."""


async def explain_resource(
    log: EventLog, snapshot: ViewSnapshot, heartbeat_ages_s: Mapping[str, float], text: str
) -> Explanation | Ambiguous | NothingFound:
    """`snapshot`: all views."""
    if (event := event_subject(text)) is not None:
        return await _explain_event(log, snapshot, event)
    found = find(text, snapshot.rows)
    if isinstance(found, NothingFound):
        found = find(text, snapshot.rows, await _departures(log, text))
    if not isinstance(found, Found):
        return found
    events = await _events_of(log, snapshot, found.subject)
    evidence = Evidence(snapshot.rows, events, heartbeat_ages_s, snapshot.log_id, snapshot.event_id)
    return explain(found.subject, evidence, found.see_also)


async def _explain_event(log: EventLog, snapshot: ViewSnapshot, subject: Subject) -> Explanation | NothingFound:
    """With what it answers, back to the first, and with what became of the commit that it follows from."""
    number, events = int(subject.id), list[Event]()
    while number and len(events) < ANSWERS_MAX:
        found = await log.read(number - 1, limit=1)
        if not found or found[0].event_id != number:
            break
        events.append(found[0])
        number = found[0].cause.causation_id
    if not events:
        return NothingFound(
            f"there is no event #{subject.id}", f"the log ends at event {(await log.head()).last_event_id}"
        )
    cause, gathered = events[0].cause, {event.event_id: event for event in events}
    if cause.commit:
        _add(gathered, await _aggregate(log, "revision", f"{cause.source_id}@{cause.commit}"))
    ordered = [gathered[event_id] for event_id in sorted(gathered)]
    return explain(subject, Evidence(snapshot.rows, ordered, {}, snapshot.log_id, snapshot.event_id))


async def _departures(log: EventLog, text: str) -> list[Event]:
    """Of what has no row any more: all deletions of resources, and the instance of exactly this id."""
    deletions = EventFilter(event_types=tuple(f"{kind}.deleted" for kind in KINDS))
    name = text.strip().strip("/").removeprefix("instance/")
    instance = EventFilter(aggregate_types=("instance",), aggregate_id=name)
    return [*await _read(log, deletions), *await _read(log, instance)]


async def _events_of(log: EventLog, snapshot: ViewSnapshot, subject: Subject) -> list[Event]:
    gathered: dict[int, Event] = {}
    for only in _own(subject):
        _add(gathered, await _read(log, only))
    row = snapshot.rows.get("resources", {}).get(subject.id)
    if row is not None:
        await _add_what_followed(log, snapshot, subject, row, gathered)
    elif subject.kind in KINDS:
        await _add_commits(log, gathered, subject.id, {event.cause.commit for event in gathered.values()})
    elif subject.kind == "instance":
        await _add_origin_of_instance(log, gathered, subject.id)
    elif subject.kind == "node":
        for each in Evidence(snapshot.rows, ()).instances_on(subject.id)[:INSTANCES_MAX]:
            _add(gathered, await _aggregate(log, "instance", each["instance_id"]))
    return [gathered[event_id] for event_id in sorted(gathered)]


def _own(subject: Subject) -> list[EventFilter]:
    """The events of the subject's own aggregate, and those that follow from it by commit."""
    match subject.kind:
        case "revision":
            commit = subject.id.partition("@")[2]
            return [EventFilter(aggregate_types=("revision",), aggregate_id=subject.id), EventFilter(commit=commit)]
        case kind:
            return [EventFilter(aggregate_types=(kind,), aggregate_id=subject.id)]


async def _add_what_followed(
    log: EventLog, snapshot: ViewSnapshot, subject: Subject, row: Mapping[str, Any], gathered: dict[int, Event]
) -> None:
    """The commit that last set the resource, the deployments and instances that came of it, a newer refused commit."""
    origin = row.get("origin") or {}
    source = snapshot.rows["sources"].get(origin.get("source_id", ""), {})
    held = (row.get("held_back") or {}).get("commit")
    revisions = {f"{origin.get('source_id')}@{commit}" for commit in (source.get("refused_commit"), held) if commit}
    for revision in revisions:
        _add(gathered, await _read(log, EventFilter(aggregate_types=("revision",), aggregate_id=revision)))
    app = subject.id if subject.kind == "app" else app_of(row) if subject.kind == "route" else ""
    deployments = _newest(snapshot.rows["deployments"], app, DEPLOYMENTS_MAX)
    commits = {origin.get("commit", ""), *(each.get("commit", "") for each in deployments[:1])}
    await _add_commits(log, gathered, app or subject.id, commits)
    if subject.kind == "app":
        for each in deployments:
            _add(gathered, await _aggregate(log, "deployment", each["deployment_id"]))
    users = Evidence(snapshot.rows, ()).users_of(subject.id)
    instances = _newest(snapshot.rows["instances"], app, INSTANCES_MAX) if app else users
    for each in instances[:INSTANCES_MAX]:
        _add(gathered, await _aggregate(log, "instance", each["instance_id"]))


async def _add_commits(log: EventLog, gathered: dict[int, Event], resource_id: str, commits: Iterable[str]) -> None:
    """What those commits did, as far as it concerns this resource."""
    for commit in sorted(filter(None, commits)):
        found = await _read(log, EventFilter(commit=commit))
        _add(gathered, (event for event in found if _concerns(event, resource_id)))


async def _add_origin_of_instance(log: EventLog, gathered: dict[int, Event], instance_id: str) -> None:
    """From the commit over the deployment to the instance."""
    allocated = next((each for each in gathered.values() if each.event_type == "instance.allocated"), None)
    if allocated is None:
        return
    _add(gathered, await _aggregate(log, "deployment", allocated.payload["deployment_id"]))
    found = await _read(log, EventFilter(commit=allocated.cause.commit)) if allocated.cause.commit else []
    app = allocated.payload["app"]
    _add(gathered, (each for each in found if _concerns(each, app) and each.aggregate_type != "instance"))


def _concerns(event: Event, resource_id: str) -> bool:
    """A revision that names the resource among its changes, or an event about it."""
    payload = event.payload
    if event.event_type in _ON_THE_WAY:
        return False
    if event.aggregate_type == "revision":
        changes = payload.get("changes")
        if any(each["app"] == str(ResourceId.parse(resource_id).owner) for each in payload.get("held") or ()):
            return True
        return changes is None or any(each["resource_id"] == resource_id for each in changes) or not changes
    return resource_id in (event.aggregate_id, payload.get("app"), payload.get("resource_id"))


def _newest(rows: Mapping[str, Mapping[str, Any]], app: str, count_max: int) -> list[Mapping[str, Any]]:
    mine = [each for each in rows.values() if each["app"] == app]
    return sorted(mine, key=lambda each: -int(each.get("created_event_id") or 0))[:count_max]


async def _aggregate(log: EventLog, kind: str, aggregate_id: str) -> list[Event]:
    return await _read(log, EventFilter(aggregate_types=(kind,), aggregate_id=aggregate_id))


async def _read(log: EventLog, only: EventFilter) -> list[Event]:
    found: list[Event] = []
    while len(found) < EVENTS_PER_READ_MAX:
        page = await log.read(found[-1].event_id if found else 0, limit=PAGE_EVENTS, only=only)
        found += page
        if len(page) < PAGE_EVENTS:
            break
    return found


def _add(gathered: dict[int, Event], events: Iterable[Event]) -> None:
    gathered.update((event.event_id, event) for event in events)
