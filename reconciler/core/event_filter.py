"""Which events somebody asks for. Pure.

Made by the server from a query and by `trueup events` from its flags. `reconciler.store.event_queries` turns it into
SQL with bound values for what is stored; `matches` says the same of one event, for what comes live.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.core.events import Event
from reconciler.core.filters import told

_TYPE = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)?(\.\*)?")
WILDCARD = ".*"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """All given fields must match; empty ones do not filter. Times are no part of it: the log's order is event_id, so
    a time is first turned into the event that was the last then (`reconciler.server.moments`)."""

    aggregate_types: tuple[str, ...] = ()
    aggregate_id: str = ""
    event_types: tuple[str, ...] = ()  # "instance.status_changed", or "instance.*" for all of an aggregate
    commit: str = ""  # a prefix of the commit id, at least 4 digits
    command_id: str = ""
    request: str = ""  # a command_id, or the id of the HTTP request that it came with
    actor: str = ""  # occurs in the actor_id, in whatever case: people remember an address or a name
    org_id: str = ""
    source_id: str = ""
    path: str = ""  # a file, or a folder with all below it
    correlation_id: str = ""  # SOURCE@COMMIT, or a request: what followed from it
    causation_id: int = 0  # what answered that event
    reader: str = ""  # a key of `reconciler.core.filters`: what that reader of the stream is told
    newest: bool = False
    """Of the events that match, the last `limit` instead of the first; ascending all the same."""


def is_event_type(text: str) -> bool:
    """A type, or AGGREGATE.*"""
    return _TYPE.fullmatch(text) is not None


def split_types(event_types: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Exact types, and the aggregates of those with a wildcard."""
    exact = [each for each in event_types if not each.endswith(WILDCARD)]
    return exact, [each.removesuffix(WILDCARD) for each in event_types if each.endswith(WILDCARD)]


def matches(event: Event, only: EventFilter) -> bool:
    """The same answer as the query of `reconciler.store.event_queries`; a test holds both together."""
    cause = event.cause
    return (
        (not only.aggregate_types or event.aggregate_type in only.aggregate_types)
        and (not only.aggregate_id or event.aggregate_id == only.aggregate_id)
        and (not only.event_types or _is_of_type(event, only.event_types))
        and (not only.commit or cause.commit.startswith(only.commit))
        and (not only.command_id or event.command_id == only.command_id)
        and (not only.request or only.request in (event.command_id, cause.correlation_id))
        and (not only.actor or only.actor.lower() in cause.actor_id.lower())
        and (not only.org_id or cause.org_id == only.org_id)
        and (not only.source_id or cause.source_id == only.source_id)
        and (not only.path or cause.path == only.path or cause.path.startswith(f"{only.path}/"))
        and (not only.correlation_id or cause.correlation_id == only.correlation_id)
        and (not only.causation_id or cause.causation_id == only.causation_id)
        and (not only.reader or bool(told(event, only.reader)))
    )


def _is_of_type(event: Event, event_types: tuple[str, ...]) -> bool:
    exact, aggregates = split_types(event_types)
    return event.event_type in exact or event.event_type.partition(".")[0] in aggregates
