"""No fold projects what its lifecycle does not allow: the row stays as it was and is named, the next one goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.core import lifecycles
from reconciler.core.events import NewEvent
from reconciler.core.folding import Folding, Row
from reconciler.core.lifecycles import LIFECYCLES, Transitions, allowed
from reconciler.core.projection import Doc
from reconciler.core.views import PROJECTIONS
from tests.unit.projections.samples import VOLUME, as_log, new_event


@dataclass(frozen=True)
class Followed:
    """`begin`: events that make the row. `into`: the row in a state. `tell`: the event that tells a state, None for one
    that no event can tell. `beginnings`: states that only a first event tells."""

    table: Transitions
    view: str
    begin: tuple[NewEvent, ...]
    into: Callable[[Doc, str], Doc]
    tell: Callable[[str], NewEvent | None]


def status(row: Doc, state: str) -> Doc:
    return {**row, "status": state}


def told(event_type: str, *, but: str = "", field: str = "status") -> Callable[[str], NewEvent | None]:
    return lambda state: None if state == but else new_event(event_type, **{field: state})


def of_secret(state: str) -> NewEvent:
    return new_event({"current": "secret.updated", "retained": "secret.retained", "removed": "secret.deleted"}[state])


HOME = (new_event("volume.created"), new_event("volume.placed"))
FOLLOWED = {
    "revision": Followed(
        lifecycles.REVISION,
        "revisions",
        (new_event("revision.applied"),),
        status,
        lambda state: new_event(f"revision.{state}"),
    ),
    "deployment": Followed(
        lifecycles.DEPLOYMENT,
        "deployments",
        (new_event("deployment.created"),),
        status,
        lambda s: (
            new_event("deployment.created") if s == "rolling" else new_event("deployment.status_changed", status=s)
        ),
    ),
    "instance desired": Followed(
        lifecycles.INSTANCE_DESIRED,
        "instances",
        (new_event("instance.allocated"),),
        lambda row, state: {**row, "desired": state},
        lambda s: (
            new_event("instance.allocated")
            if s == "running"
            else new_event("instance.desired_state_changed", desired=s)
        ),
    ),
    "instance observed": Followed(
        lifecycles.INSTANCE_STATUS,
        "instances",
        (new_event("instance.allocated"),),
        status,
        told("instance.status_changed"),
    ),
    "route at one edge": Followed(
        lifecycles.ROUTE,
        "resources",
        (new_event("route.created"),),
        lambda row, state: {**row, "observed": {"edge-a": {"status": state, "backends": 9, "reason_detail": ""}}},
        told("route.status_changed"),
    ),
    "secret": Followed(
        lifecycles.SECRET,
        "resources",
        (new_event("secret.created"),),
        lambda row, state: {**row, "retained": "because" if state == "retained" else ""},
        of_secret,
    ),
    "volume": Followed(lifecycles.VOLUME, "resources", HOME, status, told("volume.status_changed")),
    "node": Followed(
        lifecycles.NODE,
        "nodes",
        (new_event("node.enrolled"),),
        lambda row, state: {**row, "state": state},
        told("node.state_changed", field="state"),
    ),
    "node duty": Followed(
        lifecycles.NODE_DUTY,
        "nodes",
        (new_event("node.enrolled"),),
        lambda row, state: {**row, "duty": state},
        told("node.duty_changed", field="duty"),
    ),
    "hold": Followed(
        lifecycles.HOLD,
        "resources",
        (new_event("app.created"),),
        lambda row, state: {**row, "hold": {"reason": "because"} if state == "held" else None},
        lambda s: new_event("app.held" if s == "held" else "app.hold_ended"),
    ),
    "suspension": Followed(
        lifecycles.SUSPENSION,
        "acts",
        (new_event("suspension.begun"),),
        lambda row, state: row,
        lambda s: new_event(f"suspension.{s}"),
    ),
    **{
        kind: Followed(
            table,
            f"{kind}s",
            (new_event(f"{kind}.created"),),
            status,
            lambda s, kind=kind: (
                new_event(f"{kind}.created")  # type: ignore[misc]  # its own kind
                if s == "queued"
                else new_event(f"{kind}.status_changed", status=s)
            ),
        )
        for kind, table in (
            ("snapshot", lifecycles.SNAPSHOT),
            ("backup", lifecycles.BACKUP),
            ("restore", lifecycles.RESTORE),
        )
    },
}
GONE = {"suspension": "ended", "secret": "removed", "snapshot": "deleted", "backup": "pruned"}
"""After which there is no row."""


def pairs() -> Iterator[Any]:
    for name, followed in FOLLOWED.items():
        for before in followed.table:
            if before and before != GONE.get(name):
                for after in followed.table:
                    if after:
                        yield pytest.param(name, before, after, id=f"{name}: {before} to {after}")


@pytest.mark.parametrize(("name", "before", "after"), list(pairs()))
def test_a_fold_follows_its_table_and_nothing_else(name: str, before: str, after: str) -> None:
    followed = FOLLOWED[name]
    event = followed.tell(after)
    assert event is not None
    folding = Folding(PROJECTIONS[followed.view])
    *begin, told_event = as_log([*followed.begin, event])
    for each in begin:
        folding.fold(each)
    key = event.aggregate_id
    start = folding.rows[key].doc
    assert start is not None
    row = Row(followed.into(start, before), 1)
    folding.rows[key] = row
    folding.fold(told_event)
    if allowed(followed.table, before, after):
        assert folding.failures == {}
        assert folding.rows[key] is not row
    else:
        assert folding.failures[key].error.startswith("Bug: fold event")
        assert "nothing leads from" in folding.failures[key].error
        assert folding.rows[key] is row, "it stays as it was"


def test_every_lifecycle_that_events_tell_is_followed() -> None:
    derived = {"release", "source"}  # one state that events tell
    assert {each.name for each in LIFECYCLES} == set(FOLLOWED) | derived


@pytest.mark.parametrize("kind", ["deployment", "node", "snapshot", "backup", "restore"])
def test_what_nothing_began_is_not_projected(kind: str) -> None:
    what = "state_changed" if kind == "node" else "status_changed"
    folding = Folding(PROJECTIONS[f"{kind}s"])
    (event,) = as_log([new_event(f"{kind}.{what}")])
    folding.fold(event)
    assert "no event began it" in folding.failures[event.aggregate_id].error


def test_a_release_is_made_once_and_an_instance_again_only_with_a_higher_epoch() -> None:
    for view, events, refused in (
        ("releases", [new_event("release.created")] * 2, True),
        ("instances", [new_event("instance.allocated")] * 2, True),
        ("instances", [new_event("instance.allocated"), new_event("instance.allocated", epoch=2)], False),
    ):
        folding = Folding(PROJECTIONS[view])
        for event in as_log(events):
            folding.fold(event)
        assert bool(folding.failures) == refused, (view, refused)


def test_an_app_does_not_repeat_what_its_deployment_may_not_say() -> None:
    """The deployment is in quarantine, not the app."""
    folding = Folding(PROJECTIONS["resources"])
    succeeded = new_event("deployment.status_changed")
    failed = new_event("deployment.status_changed", status="failed")
    for event in as_log([new_event("app.created"), new_event("deployment.created"), succeeded, failed]):
        folding.fold(event)
    (row,) = folding.rows.values()
    assert folding.failures == {}
    assert row.doc is not None and (row.doc["status"], row.event_id) == ("succeeded", 3)


def test_a_volume_in_quarantine_stops_only_itself() -> None:
    other = "acme/shop/prod/site/volume/other"
    gone = new_event("volume.status_changed", status="deleted")
    events = [*HOME, new_event("volume.created", resource_id=other), new_event("volume.placed", resource_id=other)]
    events += [gone, new_event("volume.status_changed"), new_event("volume.status_changed", resource_id=other)]
    folding = Folding(PROJECTIONS["resources"])
    for event in as_log(events):
        folding.fold(event)
    assert list(folding.failures) == [VOLUME]
    doc = folding.rows[other].doc
    assert doc is not None and doc["status"] == "available"
