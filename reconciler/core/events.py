"""Events: what was decided or observed, in the past tense, for ever.

`decide` makes `NewEvent`s, `reconciler.store` gives them their place in the log and returns `Event`s, projections fold
those. The payload of each type and version has a JSON Schema in schemas/events/TYPE.vN.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

NEWEST: Mapping[str, int] = {
    "app.unschedulable": 2,
    "deployment.created": 2,
    "environment.created": 2,
    "environment.updated": 2,
    "instance.allocated": 2,
    "instance.desired_state_changed": 2,
    "instance.status_changed": 2,
    "revision.applied": 2,
    "source.registered": 2,
    "volume.placed": 2,
    "volume.updated": 2,
}
"""Of the event types whose payload has changed since version 1."""

ActorType = Literal["user", "service_principal", "system"]


def newest_version(event_type: str) -> int:
    """What deciders write, and what folds meet: the store reads older versions in the words of the newest."""
    return NEWEST.get(event_type, 1)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an event exists. Git-made events name the commit, path and line; others name the actor and what woke it."""

    actor_type: ActorType
    actor_id: str  # the commit's author, a node, or a loop such as "scheduler"
    org_id: str
    source_id: str = ""
    commit: str = ""
    path: str = ""
    line: int = 0
    correlation_id: str = ""  # the revision, SOURCE@COMMIT, that this follows from, however far; or the request
    causation_id: int = 0  # the event_id that this answers; 0: none


@dataclass(frozen=True, slots=True)
class NewEvent:
    """`payload` repeats the aggregate's own id under TYPE_id, and node_id wherever a node has to hear of it. Whoever
    has to hear that something is not theirs any more is named too (`reconciler.core.filters`)."""

    aggregate_type: str
    aggregate_id: str
    event_type: str  # AGGREGATE.PAST_TENSE
    payload: Mapping[str, Any]
    event_version: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the log. `event_id` is dense and in commit order; `aggregate_seq` counts from 1."""

    event_id: int
    occurred_at: str  # RFC 3339, for people
    aggregate_type: str
    aggregate_id: str
    aggregate_seq: int
    event_type: str
    event_version: int
    command_id: str
    cause: Cause
    payload: Mapping[str, Any]
