"""A source is removed with all that it declared, by an operator who knows what goes."""

from __future__ import annotations

from typing import Any

import pytest

from kit.errors import Refusal
from reconciler.core.commands import Append
from reconciler.core.decide.git.source_removal import Removal, decide_removal
from tests.unit.projections.samples import APP, ROUTE, SPECS, VOLUME

SOURCE = {"source_id": "shop", "org": "acme", "aggregate_seq": 3}


def row(resource_id: str, kind: str, **more: Any) -> dict[str, Any]:
    origin = {"source_id": "shop", "commit": "c", "path": "a.yaml", "line": 1}
    return {
        "resource_id": resource_id, "kind": kind, "spec": SPECS[kind], "aggregate_seq": 2, "origin": origin, **more,
    }  # fmt: skip


ROWS = [row(APP, "app"), row(VOLUME, "volume", home_node="node-a"), row(ROUTE, "route")]


def removal(resources: int = 3, *, volumes: bool = True) -> Removal:
    return Removal("shop", resources, volumes, "archived", "ops")


def test_everything_goes_in_one_append_with_its_claims() -> None:
    decided = decide_removal(removal(), SOURCE, ROWS)
    assert isinstance(decided, Append)
    assert [each.event_type for each in decided.events] == [
        "route.deleted", "app.deleted", "volume.deleted", "source.removed",
    ]  # fmt: skip
    assert decided.events[2].payload["node_id"] == "node-a", "the data on its home node goes too"
    assert decided.events[3].payload == {"source_id": "shop", "resources": 3, "reason": "archived"}
    freed = {(claim.kind, claim.key): claim.owner for claim in decided.free}
    assert freed["resource", APP] == "shop"
    assert freed["hostname", "www.example.org:443"] == ROUTE
    assert decided.expected == {("app", APP): 2, ("volume", VOLUME): 2, ("route", ROUTE): 2, ("source", "shop"): 3}
    assert (decided.cause.actor_type, decided.cause.actor_id) == ("user", "ops")


@pytest.mark.parametrize(
    ("asked", "source", "rows", "why"),
    [
        (removal(), None, ROWS, "there is no such source"),
        (removal(2), SOURCE, ROWS, "it has 3 resources, and the order is for 2"),
        (removal(0), SOURCE, ROWS, "it has 3 resources"),
        (removal(volumes=False), SOURCE, ROWS, "the data of 1 volumes would be lost"),
        (removal(), SOURCE, [*ROWS[:2], row(ROUTE, "route", protect=True)], "1 of them are protected"),
    ],
)
def test_what_is_refused(asked: Removal, source: Any, rows: list[dict[str, Any]], why: str) -> None:
    decided = decide_removal(asked, source, rows)
    assert isinstance(decided, Refusal)
    assert why in decided.why


def test_what_is_removed_already_stays_so_and_what_is_new_goes_by_another_command() -> None:
    removed = {**SOURCE, "removed": "archived", "aggregate_seq": 4}
    assert decide_removal(removal(0), removed, []) is None
    first, second = decide_removal(removal(), SOURCE, ROWS), decide_removal(removal(), removed, ROWS)
    assert isinstance(first, Append)
    assert isinstance(second, Append)
    assert first.command_id != second.command_id
