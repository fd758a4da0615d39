"""P1 for any history: the views that grew page by page, the pure replay, and a rebuild are the same, byte for byte.

Events come in any order and in any state, also ones that no decider would write: a projection has to give one answer
for each, and to put the same rows into quarantine whichever way it came to them.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.past import Past
from reconciler.core.views import PROJECTIONS
from reconciler.store import rebuild, view_writer
from reconciler.store.store import Store
from tests.unit.projections.samples import CAUSE, PAYLOADS, new_event

_numbers = itertools.count(1)

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "instance_id": st.sampled_from(["i-1", "i-2"]),
    "deployment_id": st.sampled_from(["d-1", "d-2"]),
    "release_id": st.sampled_from(["r-1", "r-2"]),
    "node_id": st.sampled_from(["node-a", "node-b"]),
    "edge_id": st.sampled_from(["edge-a", "edge-b"]),
    "process": st.sampled_from(["web", "job"]),
    "commit": st.sampled_from(["aaaa1111", "bbbb2222"]),
    "epoch": st.integers(1, 3),
    "counter": st.integers(0, 2**53),
    "seconds": st.floats(0, 1e9, allow_nan=False) | st.integers(0, 10),
    "message": st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20),
    "reason_detail": st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20),
    "exit_code": st.none() | st.integers(-1, 255),
}
STATUSES = {
    "instance.status_changed": ["preparing", "booting", "ready", "unready", "draining", "stopped", "failed"],
    "volume.status_changed": ["available", "in_use", "deleted", "failed"],
    "route.status_changed": ["active", "failed"],
    "deployment.status_changed": ["succeeded", "failed", "superseded"],
}


@st.composite
def events(draw: st.DrawFn) -> NewEvent:
    kind = draw(st.sampled_from(sorted(PAYLOADS)))
    changes = {name: draw(values) for name, values in FIELDS.items() if name in PAYLOADS[kind]}
    if kind == "volume.deleted":
        changes["node_id"] = draw(st.sampled_from(["", "node-a"]))
    if kind in STATUSES:
        changes["status"] = draw(st.sampled_from(STATUSES[kind]))
    if kind == "instance.desired_state_changed":
        changes["desired"] = draw(st.sampled_from(["draining", "stopped"]))
    if kind == "log.restored":
        changes["epoch"] = draw(st.integers(2, 9))
    if kind == "node.state_changed":
        changes["state"] = draw(st.sampled_from(["active", "offline"]))
    return new_event(kind, **changes)


causes = st.builds(
    Cause,
    actor_type=st.just("user"),
    actor_id=st.just("ann"),
    org_id=st.just("acme"),
    source_id=st.just("shop"),
    commit=st.sampled_from(["aaaa1111", "bbbb2222"]),
    path=st.sampled_from(["a.yaml", "ä b.yaml"]),
    line=st.integers(0, 99),
) | st.just(CAUSE)

histories = st.lists(st.tuples(causes, st.lists(events(), min_size=1, max_size=6)), min_size=1, max_size=12)


BEGINNINGS = [
    new_event(kind, **{name: value})
    for kind, name, values in (
        ("node.enrolled", "node_id", ("node-a", "node-b")),
        ("deployment.created", "deployment_id", ("d-1", "d-2")),
        ("instance.allocated", "instance_id", ("i-1", "i-2")),
        ("volume.created", "resource_id", (PAYLOADS["volume.created"]["resource_id"],)),
        ("volume.placed", "resource_id", (PAYLOADS["volume.created"]["resource_id"],)),
        ("secret.created", "resource_id", (PAYLOADS["secret.created"]["resource_id"],)),
        ("route.created", "resource_id", (PAYLOADS["route.created"]["resource_id"],)),
    )
    for value in values
]
_NAMES = re.compile(r"^(i|d|r|node)-[a-z0-9]+$|^acme(?=/)|^shop$")


def own(value: Any, number: int) -> Any:
    """With names that no other example has: what one of them leaves in quarantine does not blind the next."""
    if isinstance(value, str):
        return _NAMES.sub(lambda found: f"{found[0]}.{number}", value)
    if isinstance(value, dict):
        return {key: own(each, number) for key, each in value.items()}
    return [own(each, number) for each in value] if isinstance(value, list | tuple) else value


def as_of(number: int, event: NewEvent) -> NewEvent:
    aggregate_id = "@".join(own(part, number) for part in event.aggregate_id.split("@"))
    return replace(event, aggregate_id=aggregate_id, payload=own(event.payload, number))


def as_bytes(rows: dict[str, Any]) -> bytes:
    return json.dumps(rows, sort_keys=True).encode()


async def in_quarantine(store: Store) -> set[str]:
    return {f"{each.projection}/{each.key}" for each in await store.views.quarantined()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=histories,
    begun=st.booleans(),
    page=st.integers(1, 9),
    split=st.integers(0, 12),
    which=st.sets(st.sampled_from(sorted(PROJECTIONS))),
    rows_max=st.sampled_from([0, 3, 100_000]),
)
async def test_P1_stored_replayed_and_rebuilt_views_are_the_same(
    store: Store,
    history: list[tuple[Cause, list[NewEvent]]],
    begun: bool,
    page: int,
    split: int,
    which: set[str],
    rows_max: int,
) -> None:
    """The log grows from example to example, so each one starts from the state that the last one left. `rows_max`: a
    rebuild that keeps so few rows in memory has to spill them and to bring them back."""
    number = next(_numbers)
    history = [(CAUSE, BEGINNINGS), *history] if begun else history
    history = [(cause, [as_of(number, event) for event in made]) for cause, made in history]
    commands = [Append(f"p-{next(_numbers)}", "h", cause, tuple(made), {}) for cause, made in history]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_writer, "PAGE_EVENTS_MAX", page)
        patch.setattr(rebuild, "REBUILD_SLICE_EVENTS", page + 40)
        patch.setattr(rebuild, "REBUILD_ROWS_MAX", rows_max)
        for part in (commands[:split], commands[split:]):
            await store.log.append(part)
            await store.writer.catch_up()
        stored = {name: dict(rows) for name, rows in (await store.views.snapshot(PROJECTIONS)).rows.items()}
        log = await store.log.read(0, limit=10_000)
        past = Past()
        past.fold(log)
        assert as_bytes(stored) == as_bytes(past.rows)
        assert await in_quarantine(store) == set(past.broken)
        assert [
            (each.view, each.keys) for each in await store.rebuild_views(which or PROJECTIONS) if each.differing
        ] == []
    assert await in_quarantine(store) == set(past.broken), "a rebuild finds the same"
