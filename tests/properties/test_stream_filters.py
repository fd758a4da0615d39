"""S3, S7: for any events and any filter, the ring, the database and a naive reader of the contract say the same.

Events of every type, in every place of a small fleet; every filter that can be asked for there. The ring's index is
made before, while and after the events come, and the ring is small enough to lose some of them.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.core.commands import Append
from reconciler.core.events import Event, NewEvent
from reconciler.core.filters import ALL, EDGE, PARTS_OF, PlaceFilter, node_key, told
from reconciler.core.model import KINDS
from reconciler.ports import EventFilter
from reconciler.server.hub import line_for
from reconciler.server.ring import Ring
from reconciler.store.store import Store
from tests.unit.projections.samples import CAUSE, PAYLOADS, new_event
from tests.unit.server.readers import Tells, sees_all, sees_edge, sees_node, sees_place

ORGS, PROJECTS, ENVS, APPS, NODES = ("o", "q"), ("p", "r"), ("prod", "test"), ("a", "b"), ("node-a", "node-b")
WORDS: dict[str, tuple[str, ...]] = {
    "org": ("", *ORGS),
    "project": ("", *PROJECTS),
    "env": ("", *ENVS),
    "app": ("", *APPS),
    "kind": ("", *sorted(PARTS_OF)),
}
_numbers = itertools.count(1)


def every_filter() -> dict[str, Tells]:
    """By key."""
    found: dict[str, Tells] = {ALL: sees_all, EDGE: sees_edge, **{node_key(each): sees_node(each) for each in NODES}}
    for values in itertools.product(*WORDS.values()):
        wanted = {name: value for name, value in zip(WORDS, values, strict=True) if value}
        in_project = "project" in wanted or not wanted.keys() & {"env", "app"}
        in_org = "org" in wanted or "project" not in wanted
        if wanted and in_project and in_org:
            found[PlaceFilter(**wanted).key] = sees_place(**wanted)
    return found


FILTERS = every_filter()


@st.composite
def events(draw: st.DrawFn) -> NewEvent:
    event_type = draw(st.sampled_from(sorted(PAYLOADS)))
    kind = event_type.partition(".")[0]
    org, project, env, app = (draw(st.sampled_from(each)) for each in (ORGS, PROJECTS, ENVS, APPS))
    place = f"{org}/{project}/{env}/{app}"
    resource = f"{place}/{'secret' if kind == 'delivery' else kind}/x"
    if kind == "environment":
        resource = f"{org}/{project}/{env}/-/environment/{env}"
    scopes = [f"source/{app}", f"env/{org}/{project}/{env}", f"app/{place}"] if kind == "suspension" else [org]
    words: dict[str, Any] = {
        "app": f"{place}/app/{app}",
        "volume_id": f"{place}/volume/x",
        "origin_volume_id": f"{place}/volume/y",
        "node_id": draw(st.sampled_from(NODES)),
        "previous_node_id": draw(st.sampled_from(("", *NODES))),
        "org": org,
        "previous_org": draw(st.sampled_from(("", *ORGS))),
        "scope": draw(st.sampled_from([*scopes, f"{org}/{project}"] if kind == "quota" else scopes)),
        **({"resource_id": resource} if kind in (*KINDS, "delivery") else {}),
    }
    changes = {name: value for name, value in words.items() if name in PAYLOADS[event_type]}
    return new_event(event_type, **changes)


commands = st.lists(
    st.tuples(st.sampled_from(ORGS), st.lists(events(), min_size=1, max_size=4)), min_size=1, max_size=12
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=commands, followed=st.integers(0, 12), kept=st.integers(3, 60))
async def test_S7_ring_database_and_naive_reader_agree_on_every_filter(
    store: Store, history: list[tuple[str, list[NewEvent]]], followed: int, kept: int
) -> None:
    head = await store.log.head()
    after = head.last_event_id
    for org, made in history:
        cause = replace(CAUSE, org_id=org)
        await store.log.append([Append(f"f-{next(_numbers)}", "h", cause, tuple(made), {})])
    everything = await store.log.read(after, limit=1000)
    ring = Ring(head.log_id, after, events_max=kept, bytes_max=1 << 20)
    fill(ring, everything, list(FILTERS), followed)
    for key, tells in FILTERS.items():
        expected = telling(everything, tells)
        assert telling(everything, partial(told, key=key)) == expected, key
        if is_tried(key, after):
            stored = await store.log.read(after, limit=1000, only=EventFilter(reader=key))
            assert kinds_of([line_for(head.log_id, key, event) for event in stored]) == expected, key
        recent = ring.read(key, ring.floor, 1 << 30)
        assert recent is not None
        assert recent.position == everything[-1].event_id
        in_ring = {event_id: what for event_id, what in expected.items() if event_id > ring.floor}
        assert kinds_of(list(recent.lines)) == in_ring, key


def is_tried(key: str, after: int) -> bool:
    """A query for each filter would be 800 for each example: another part of them each time."""
    return zlib.crc32(f"{key}{after}".encode()) % 16 == 0 or not key.startswith("at:")


def telling(everything: list[Event], tells: Callable[[Event], str]) -> dict[int, str]:
    return {event.event_id: what for event in everything for what in [tells(event)] if what}


def fill(ring: Ring, everything: list[Event], keys: list[str], followed: int) -> None:
    """Some filters have readers from the beginning, some from the middle on, some only at the end."""
    by_command = [list(each) for _, each in itertools.groupby(everything, key=lambda event: event.command_id)]
    early, late = keys[::3], keys[1::3]
    for key in early:
        ring.follow(key)
    for number, events_of_command in enumerate(by_command):
        if number == followed:
            for key in late:
                ring.follow(key)
        ring.add(events_of_command)
    for key in keys:
        ring.follow(key)


def kinds_of(lines: list[bytes]) -> dict[int, str]:
    found = {}
    for each in map(json.loads, lines):
        found[int(each["cursor"].rpartition(".")[2])] = each["type"]
    assert len(found) == len(lines)
    return found


def test_every_kind_of_thing_in_the_log_can_be_asked_for() -> None:
    assert set(PARTS_OF) == {event_type.partition(".")[0] for event_type in PAYLOADS}


def test_a_key_is_forgotten_with_its_last_reader() -> None:
    ring = Ring("log", 0, events_max=10, bytes_max=1 << 20)
    key = PlaceFilter(org="o").key
    ring.follow(key)
    ring.unfollow(key)
    assert not ring._followed
    assert not ring._by_key
