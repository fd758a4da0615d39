"""The statements that read the log. What appends is in `append_queries` and `append_batch`.

Called by `reconciler.store.event_log` only. Every value is an argument; nobody else's text becomes part of a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kit.errors import Refusal
from reconciler.core.event_filter import split_types
from reconciler.core.filters import (
    ALL,
    EDGE,
    EDGE_AGGREGATE,
    EDGE_INSTANCE_EVENTS,
    EDGE_REPORT,
    NAMED,
    OF_A_VOLUME,
    OF_AN_APP,
    OF_AN_ORG,
    PARTS,
    PlaceFilter,
    is_place,
    node_of,
)
from reconciler.ports import EventFilter
from reconciler.store.rows import COLUMNS


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


_LEFT_NODE = "event_type = 'volume.placed' AND payload ->> 'previous_node_id' = ${0}"
_LEFT_ORG = "event_type = 'source.registered' AND payload ->> 'previous_org' = ${0}"
# As `reconciler.core.filters._path`.
_PATH = (
    f"CASE WHEN aggregate_type IN ({_words(NAMED)}) THEN aggregate_id"
    f" WHEN aggregate_type IN ({_words(OF_AN_APP)}) THEN payload ->> 'app'"
    f" WHEN aggregate_type IN ({_words(OF_A_VOLUME)}) THEN payload ->> 'volume_id'"
    " WHEN aggregate_type = 'suspension' AND NOT starts_with(aggregate_id, 'source/')"
    " THEN substr(aggregate_id, 1 + position('/' in aggregate_id))"
    f" WHEN aggregate_type IN ({_words(OF_AN_ORG)}) THEN org_id ELSE '' END"
)

# The end of the log.
HEAD = "SELECT log_id, last_event_id FROM log_head"

# Whether a word is rare decides how it is best looked for, so a plan for any word would be a bad one.
PLAN_FOR_THESE_VALUES = "SET LOCAL plan_cache_mode = force_custom_plan"


def reading(after: int, limit: int, only: EventFilter, upto: int | None) -> tuple[str, list[object]]:
    """The query has one fixed condition per given field; values are always arguments."""
    given: list[tuple[str, object]] = [("event_id > ${0}", after)]
    if upto is not None:
        given.append(("event_id <= ${0}", upto))
    given += _wanted(only)
    conditions = " AND ".join(text.format(number) for number, (text, _) in enumerate(given, start=1))
    values = [*(value for _, value in given), limit]
    query = f"SELECT {COLUMNS} FROM events WHERE {conditions} ORDER BY event_id"  # noqa: S608  # fixed texts
    if only.newest:
        return f"SELECT * FROM ({query} DESC LIMIT ${len(values)}) AS newest ORDER BY event_id", values  # noqa: S608  # fixed texts
    return f"{query} LIMIT ${len(values)}", values


def _wanted(only: EventFilter) -> Iterator[tuple[str, object]]:
    """Each given field with its condition. `reconciler.core.event_filter.matches` says the same in Python."""
    if only.aggregate_types:
        yield "aggregate_type = ANY(${0}::text[])", list(only.aggregate_types)
    if only.aggregate_id:
        yield "aggregate_id = ${0}", only.aggregate_id
    if only.event_types:
        yield _of_types(only.event_types)
    if only.commit:
        yield "commit_id <> '' AND commit_id LIKE ${0}", f"{_commit_prefix(only.commit)}%"
    if only.actor:
        yield "strpos(lower(actor_id), ${0}) > 0", only.actor.lower()
    if only.path:
        yield "(path = ${0} OR starts_with(path, ${0} || '/'))", only.path
    if only.correlation_id:
        yield "correlation_id <> '' AND correlation_id = ${0}", only.correlation_id
    if only.causation_id:
        yield "causation_id > 0 AND causation_id = ${0}", only.causation_id
    if only.reader:
        yield from _of_reader(only.reader)
    if only.request:
        yield (
            "(event_id BETWEEN (SELECT first_event_id FROM commands WHERE command_id = ${0})"
            " AND (SELECT last_event_id FROM commands WHERE command_id = ${0})"
            " OR correlation_id <> '' AND correlation_id = ${0})",
            only.request,
        )
    if only.command_id:
        yield (
            "event_id BETWEEN (SELECT first_event_id FROM commands WHERE command_id = ${0})"
            " AND (SELECT last_event_id FROM commands WHERE command_id = ${0})",
            only.command_id,
        )
    for column, value in (
        ("org_id", only.org_id),
        ("source_id", only.source_id),
    ):
        if value:
            yield f"{column} = ${{0}}", value


def _of_reader(key: str) -> Iterator[tuple[str, object]]:
    """As `reconciler.core.filters.told`. No index: a range of event_id is read from end to end, in Postgres."""
    if key == EDGE:
        of_route = f"aggregate_type = '{EDGE_AGGREGATE}' AND event_type <> '{EDGE_REPORT}'"
        condition = f"({of_route} OR event_type = ANY(${{0}}::text[]))"
        yield condition, sorted(EDGE_INSTANCE_EVENTS)
    elif is_place(key):
        yield from _of_place(PlaceFilter.of(key))
    elif key != ALL:
        yield f"(payload ->> 'node_id' = ${{0}} OR {_LEFT_NODE}) AND ${{0}} <> ''", node_of(key)


def _of_place(wanted: PlaceFilter) -> Iterator[tuple[str, object]]:
    if wanted.kind:
        yield "aggregate_type = ${0}", wanted.kind
    for number, name in enumerate(PARTS, start=1):
        if value := getattr(wanted, name):
            part = f"split_part({_PATH}, '/', {number}) = ${{0}}"
            yield f"({part} OR {_LEFT_ORG})" if name == "org" else part, value


def _of_types(event_types: tuple[str, ...]) -> tuple[str, object]:
    """Exact types go through their index; AGGREGATE.* is found by what stands before the point."""
    exact, aggregates = split_types(event_types)
    if not aggregates:
        return "event_type = ANY(${0}::text[])", exact
    whole = "ARRAY[event_type, split_part(event_type, '.', 1) || '.*']"
    return f"{whole} && ${{0}}::text[]", list(event_types)


def _commit_prefix(commit: str) -> str:
    if len(commit) < 4 or any(digit not in "0123456789abcdef" for digit in commit):
        raise Refusal(
            f"read the events of commit {commit!r}",
            "a commit is given by at least 4 lower-case hex digits",
            fix="give more of the commit id",
            code="commit_invalid",
        )
    return commit
