"""The filters of the audit read: SQL and `core.event_filter.matches` give the same answer, and the rare ones have an
index."""

from __future__ import annotations

import itertools
import random
from dataclasses import fields, replace
from typing import Any

import pytest

from reconciler.core.event_filter import EventFilter, matches
from reconciler.core.events import Cause
from reconciler.store.event_queries import reading
from reconciler.store.pool import connect
from reconciler.store.store import Store
from tests.twin import append
from tests.unit.projections.samples import new_event
from tests.unit.server.world import serving

TYPES = ("node.enrolled", "node.state_changed", "app.created", "app.moved", "instance.status_changed")
VALUES: dict[str, tuple[Any, ...]] = {
    "aggregate_types": (("node",), ("app", "instance"), ("nope",)),
    "aggregate_id": ("node-a", "i-1", "node"),
    "event_types": (("node.*",), ("node.enrolled",), ("instance.*", "app.moved"), ("*",), ("node.*.*",)),
    "commit": ("aaaa", "aaaa1", "ffff"),
    "command_id": ("c-3", "c-"),
    "request": ("c-3", "req-1", "main@aaaa1", "c-"),
    "actor": ("ADA", "ada@example.org", "node:", "%", "_"),
    "org_id": ("acme", "globex"),
    "source_id": ("main", "shop"),
    "path": ("apps", "apps/site.yaml", "apps/", "a%", "app_"),
    "correlation_id": ("main@aaaa1", "main@", "shop@bbbb2"),
    "causation_id": (1, 5, 10**15),
    "reader": (
        "node:node-a",
        "node:node-b",
        "node:",
        "edge",
        "nobody",
        "*",
        "at:acme////",
        "at:acme/shop//site/",
        "at:////node",
    ),
}
CAUSES = (
    Cause("user", "Ada <ada@example.org>", "acme", "main", "aaaa1", "apps/site.yaml", 3, "main@aaaa1", 0),
    Cause("user", "Ben", "globex", "shop", "bbbb2", "apps.yaml", 1, "shop@bbbb2", 0),
    Cause("service_principal", "node:node-a", "", correlation_id="main@aaaa1", causation_id=1),
    Cause("system", "scheduler", "acme", "main", "aaaa1", "apps/site.yaml", 3, "main@aaaa1", 5),
    Cause("system", "controller", "acme", "main", path="apps_x/y"),
    Cause("user", "ops", "", correlation_id="req-1"),
)


async def filled(store: Store) -> None:
    for number, (event_type, cause) in enumerate(itertools.product(TYPES, CAUSES)):
        await append(store.log, f"c-{number}", new_event(event_type), cause=cause)


def drawn(rng: random.Random) -> EventFilter:
    names = rng.sample(sorted(VALUES), rng.choice((1, 1, 2, 3)))
    return replace(EventFilter(), **{name: rng.choice(VALUES[name]) for name in names})


async def test_what_sql_chooses_is_what_the_pure_filter_chooses(store: Store) -> None:
    await filled(store)
    assert set(VALUES) | {"newest"} == {field.name for field in fields(EventFilter)}, "a filter is not tried here"
    everything = await store.log.read(0, limit=1000)
    rng = random.Random(1)
    each_alone = [replace(EventFilter(), **{name: value}) for name, values in VALUES.items() for value in values]
    hits = 0
    for only in [*each_alone, *(drawn(rng) for _ in range(300))]:
        expected = [event.event_id for event in everything if matches(event, only)]
        found = await store.log.read(0, limit=1000, only=only)
        assert [event.event_id for event in found] == expected, only
        last = await store.log.read(2, limit=3, only=replace(only, newest=True), upto=20)
        assert [event.event_id for event in last] == [each for each in expected if 2 < each <= 20][-3:], only
        hits += bool(expected)
    assert hits > 100


@pytest.mark.parametrize(
    ("only", "index"),
    [
        (EventFilter(correlation_id="main@aaaa1"), "events_by_correlation"),
        (EventFilter(causation_id=5), "events_by_causation"),
        (EventFilter(command_id="c-3"), "commands_pkey"),
        (EventFilter(request="req-1"), "events_by_correlation"),
        (EventFilter(event_types=("node.enrolled",)), "events_by_words"),
        (EventFilter(org_id="acme"), "events_by_words"),
        (EventFilter(source_id="main"), "events_by_words"),
    ],
)
async def test_the_index_fits_the_condition(store: Store, only: EventFilter, index: str) -> None:
    """That the planner may use it at all: on a small table it has to be made to."""
    await filled(store)
    query, arguments = reading(0, 50, only, None)
    connection = await connect(store.access.app_url, role=store.access.app_role)
    try:
        await connection.execute(
            "SET enable_seqscan = off; SET enable_indexscan = off; SET plan_cache_mode = force_generic_plan"
        )
        free = query.replace(
            "event_id > $1 AND", "$1::bigint = 0 AND"
        )  # without the condition that the primary key serves
        await connection.execute(f"PREPARE asked AS {free}")
        values = ", ".join(f"ARRAY{each!r}" if isinstance(each, list) else repr(each) for each in arguments)
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE asked({values})"))
    finally:
        await connection.close()
    assert index in plan, plan


async def test_a_time_finds_its_event_in_a_real_log(store: Store) -> None:
    await filled(store)
    async with serving(log=store.log, views=store.views) as world:
        events = await store.log.read(0, limit=1000)
        for event in events[::5]:
            newest = max(each.event_id for each in events if each.occurred_at <= event.occurred_at)
            document = await world.get(f"/v1/state?of=node&at={event.occurred_at}")
            assert document["event_id"] == newest
            since = await world.get(f"/v1/events?since={event.occurred_at}&limit=1")
            assert since["events"][0]["occurred_at"] == event.occurred_at
