"""What each view shows after which events. A test per promise of docs/DATA.md."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import pytest

from kit.errors import Bug
from reconciler.core.events import Cause, NewEvent
from reconciler.core.folding import Folding
from reconciler.core.projection import Doc
from reconciler.core.projections.deliveries import VERSIONS_MAX
from reconciler.core.replay import replay
from reconciler.core.views import PROJECTIONS
from reconciler.store.event_schema_files import load_event_schemas
from tests.unit.projections.samples import APP, PAYLOADS, RESOURCES, ROUTE, SPECS, VOLUME, as_log, new_event

ORIGIN = {"source_id": "shop", "commit": "c0ffee00", "path": "apps/site.yaml", "line": 3}


def views_after(*events: NewEvent) -> dict[str, dict[str, Doc]]:
    return replay(as_log(events))


class Folded(NamedTuple):
    """What the drivers make of events that may be poison. `refused`: VIEW/KEY -> why it is in quarantine."""

    rows: dict[str, Doc]
    refused: dict[str, str]


def folded(*events: NewEvent) -> Folded:
    rows, refused = dict[str, Doc](), dict[str, str]()
    for name, projection in PROJECTIONS.items():
        folding = Folding(projection)
        for event in as_log(events):
            folding.fold(event)
        rows |= {f"{name}/{key}": each.doc for key, each in folding.rows.items() if each.doc is not None}
        refused |= {f"{name}/{key}": each.error for key, each in folding.failures.items()}
    return Folded(rows, refused)


def row(view: str, key: str, *events: NewEvent) -> Doc:
    return views_after(*events)[view][key]


def test_every_row_has_its_bookkeeping() -> None:
    got = row("nodes", "node-a", new_event("app.created"), new_event("node.enrolled"), new_event("node.state_changed"))
    assert (got["aggregate_seq"], got["created_event_id"], got["updated_event_id"]) == (2, 2, 3)


@pytest.mark.parametrize("kind", sorted(RESOURCES))
def test_a_resource_lives_from_created_to_deleted(kind: str) -> None:
    key = RESOURCES[kind]
    got = row("resources", key, new_event(f"{kind}.created"))
    assert got["spec"] == SPECS[kind]
    assert (got["kind"], got["org"], got["project"], got["resource_id"]) == (kind, "acme", "shop", key)
    assert (got["retained"], got["status"], got["observed"], got["origin"]) == ("", "", {}, ORIGIN)
    assert views_after(new_event(f"{kind}.created"), new_event(f"{kind}.deleted"))["resources"] == {}


def test_a_resource_made_again_after_its_deletion_starts_anew() -> None:
    got = row(
        "resources",
        VOLUME,
        new_event("volume.created"),
        new_event("volume.placed"),
        new_event("volume.deleted"),
        new_event("volume.created"),
    )
    assert (got["home_node"], got["created_event_id"], got["aggregate_seq"]) == ("", 4, 4)


def test_what_is_reported_of_a_deleted_resource_changes_nothing() -> None:
    deleted = (new_event("volume.created"), new_event("volume.deleted"))
    assert views_after(*deleted, new_event("volume.status_changed", status="deleted"))["resources"] == {}


def test_moved_changes_only_the_origin() -> None:
    moved = dataclasses.replace(
        as_log([new_event("app.created"), new_event("app.moved")])[1], cause=_cause("x.yaml", 9)
    )
    before = replay(as_log([new_event("app.created")]))["resources"][APP]
    after = PROJECTIONS["resources"].fold(APP, before, moved)
    assert after == {
        **before,
        "origin": {**ORIGIN, "path": "x.yaml", "line": 9},
        "aggregate_seq": 2,
        "updated_event_id": 2,
    }


def _cause(path: str, line: int) -> Cause:
    return Cause("user", "ann", "acme", "shop", "c0ffee00", path, line)


def test_retained_says_why_until_the_manifest_is_back() -> None:
    kept = (new_event("volume.created"), new_event("volume.retained", reason="not confirmed"))
    assert row("resources", VOLUME, *kept)["retained"] == "not confirmed"
    assert row("resources", VOLUME, *kept, new_event("volume.moved"))["retained"] == ""
    assert row("resources", VOLUME, *kept, new_event("volume.updated"))["retained"] == ""


def test_a_volume_knows_its_home_and_what_its_node_says() -> None:
    got = row(
        "resources", VOLUME, new_event("volume.created"), new_event("volume.placed"), new_event("volume.status_changed")
    )
    assert (got["home_node"], got["status"]) == ("node-a", "available")
    assert got["observed"] == {"node_id": "node-a", "status": "available", "reason_detail": ""}


def test_a_deleted_volume_leaves_a_tombstone_until_its_node_says_that_the_data_is_gone() -> None:
    deleted = (new_event("volume.created"), new_event("volume.placed"), new_event("volume.deleted"))
    (key,) = views_after(*deleted)["tombstones"]
    assert key == f"{VOLUME}@node-a"
    for status, left in (("in_use", 1), ("failed", 1), ("deleted", 0)):
        assert len(views_after(*deleted, new_event("volume.status_changed", status=status))["tombstones"]) == left
    elsewhere = new_event("volume.status_changed", status="deleted", node_id="node-b")
    assert len(views_after(*deleted, elsewhere)["tombstones"]) == 1


def test_what_a_former_home_says_does_not_touch_a_volume_that_was_declared_anew() -> None:
    again = (
        *(new_event(f"volume.{what}") for what in ("created", "placed", "deleted", "created")),
        new_event("volume.placed", node_id="node-b"),
        new_event("volume.status_changed", node_id="node-b"),
        new_event("volume.status_changed", node_id="node-a", status="deleted"),
    )
    got = views_after(*again)
    row_ = got["resources"][VOLUME]
    assert (row_["home_node"], row_["status"], row_["aggregate_seq"]) == ("node-b", "available", 7)
    assert got["tombstones"] == {}


def test_a_volume_that_was_never_placed_leaves_no_tombstone() -> None:
    assert views_after(new_event("volume.created"), new_event("volume.deleted", node_id=""))["tombstones"] == {}


def test_a_route_fails_when_one_edge_says_so() -> None:
    got = row(
        "resources",
        ROUTE,
        new_event("route.created"),
        new_event("route.status_changed"),
        new_event("route.status_changed", edge_id="edge-b", status="failed", backends=0, reason_detail="no port"),
    )
    assert got["status"] == "failed"
    assert got["observed"] == {
        "edge-a": {"status": "active", "backends": 2, "reason_detail": ""},
        "edge-b": {"status": "failed", "backends": 0, "reason_detail": "no port"},
    }


def test_an_app_names_its_current_deployment_and_only_that_one_speaks_for_it() -> None:
    second = {"deployment_id": "d-2", "release_id": "r-2"}
    events = (new_event("app.created"), new_event("deployment.created"), new_event("deployment.created", **second))
    got = row("resources", APP, *events, new_event("deployment.status_changed", status="superseded"))
    assert (got["deployment_id"], got["release_id"], got["status"]) == ("d-2", "r-2", "rolling")
    got = row("resources", APP, *events, new_event("deployment.status_changed", deployment_id="d-2"))
    assert got["status"] == "succeeded"
    assert got["aggregate_seq"] == 1, "a deployment's events do not count for the app's version"


def test_an_app_shows_which_processes_cannot_be_placed() -> None:
    events = [new_event("app.created"), new_event("app.unschedulable"), new_event("app.unschedulable", process="job")]
    got = row("resources", APP, *events, new_event("app.schedulable", process="job"))
    assert got["unschedulable"] == {"web": {"reason": "no_nodes_active", "message": "no node"}}


def test_a_source_remembers_how_it_was_bound_when_its_commit_was_applied() -> None:
    start = (new_event("source.registered"), new_event("revision.applied"))
    bound = {"org": "acme", "project": "shop", "path": ""}
    assert row("sources", "shop", *start)["applied_as"] == bound
    again = row("sources", "shop", *start, new_event("source.registered", path="deploy"))
    assert (again["path"], again["applied_as"], again["applied_commit"]) == ("deploy", bound, "c0ffee00")


def test_a_source_that_was_removed_begins_anew() -> None:
    events = (new_event("source.registered"), new_event("revision.applied"), new_event("source.removed"))
    got = row("sources", "shop", *events)
    assert (got["applied_commit"], got["removed"]) == ("", "the repository is archived")
    again = row("sources", "shop", *events, new_event("source.registered"))
    assert (again["applied_commit"], again["removed"]) == ("", "")


def test_a_source_shows_the_newest_refusal_until_a_newer_good_commit() -> None:
    start = (new_event("source.registered"), new_event("revision.applied", commit="aaaa1111"))
    refused = row("sources", "shop", *start, new_event("revision.refused", commit="bbbb2222"))
    assert (refused["applied_commit"], refused["refused_commit"], refused["refused_event_id"]) == (
        "aaaa1111",
        "bbbb2222",
        3,
    )
    assert refused["aggregate_seq"] == 1
    good = row(
        "sources",
        "shop",
        *start,
        new_event("revision.refused", commit="bbbb2222"),
        new_event("revision.applied", commit="cccc3333"),
    )
    assert (good["applied_commit"], good["refused_commit"], good["refused_event_id"]) == ("cccc3333", "", 0)


def test_a_source_that_moves_keeps_what_was_applied() -> None:
    events = (
        new_event("source.registered"),
        new_event("revision.applied"),
        new_event("source.registered", url="ssh://x/y"),
    )
    got = row("sources", "shop", *events)
    assert (got["url"], got["applied_commit"]) == ("ssh://x/y", "c0ffee00")


def test_a_revision_goes_from_refused_to_applied_to_converged() -> None:
    key = "shop@c0ffee00"
    steps = (new_event("revision.refused"), new_event("revision.applied"), new_event("revision.converged"))
    refused, applied, converged = (row("revisions", key, *steps[:count]) for count in (1, 2, 3))
    assert (refused["status"], refused["changes"], refused["seconds"]) == ("refused", [], None)
    assert len(refused["findings"]) == 1
    assert (applied["status"], applied["findings"], len(applied["changes"])) == ("applied", [], 1)
    assert (converged["status"], converged["seconds"]) == ("converged", 12.5)
    assert converged["at"] == applied["at"]


def test_releases_and_deployments_remember_their_commit() -> None:
    got = views_after(
        new_event("release.created"), new_event("deployment.created"), new_event("deployment.status_changed")
    )
    assert got["releases"]["r-000000000001"]["commit"] == "c0ffee00"
    deployment = got["deployments"]["d-000000000001"]
    assert (deployment["commit"], deployment["status"], deployment["seconds"]) == ("c0ffee00", "succeeded", 9.0)


def test_an_instance_shows_what_is_wanted_and_what_is_seen() -> None:
    fresh = row("instances", "i-1", new_event("instance.allocated"))
    assert (fresh["desired"], fresh["status"], fresh["status_event_id"], fresh["endpoints"]) == ("running", "", 0, [])
    assert {**fresh, **PAYLOADS["instance.allocated"]} == fresh
    seen = row("instances", "i-1", new_event("instance.allocated"), new_event("instance.status_changed", counter=7))
    assert (seen["status"], seen["counter"], seen["boot_id"], seen["status_event_id"]) == ("ready", 7, "b-1", 2)
    draining = row("instances", "i-1", new_event("instance.allocated"), new_event("instance.desired_state_changed"))
    assert (draining["desired"], draining["drain_grace_s"], draining["reason"]) == ("draining", 5.0, "scaled down")


@pytest.mark.parametrize("first", ["instance.desired_state_changed", "instance.status_changed"])
def test_an_instance_goes_when_it_is_stopped_and_not_wanted_running(first: str) -> None:
    wanted, seen = new_event("instance.desired_state_changed"), new_event("instance.status_changed", status="stopped")
    order = (wanted, seen) if first == "instance.desired_state_changed" else (seen, wanted)
    assert views_after(new_event("instance.allocated"), *order)["instances"] == {}
    assert "i-1" in views_after(new_event("instance.allocated"), order[0])["instances"]


def test_a_report_of_an_older_epoch_says_nothing_about_this_run() -> None:
    anew = (
        new_event("instance.allocated"),
        new_event("instance.status_changed"),
        new_event("instance.allocated", epoch=2),
    )
    late = row("instances", "i-1", *anew, new_event("instance.status_changed", status="failed", counter=9))
    assert (late["status"], late["epoch"], late["counter"], late["aggregate_seq"]) == ("", 2, 0, 4)


def test_a_node_is_active_once_enrolled_and_enrolling_again_does_not_change_its_state() -> None:
    assert row("nodes", "node-a", new_event("node.enrolled"))["state"] == "active"
    got = row(
        "nodes", "node-a", new_event("node.enrolled"), new_event("node.state_changed"), new_event("node.enrolled")
    )
    assert (got["state"], got["reason"]) == ("offline", "no heartbeat")


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
def test_an_event_whose_row_is_not_there_makes_no_half_row(event_type: str) -> None:
    """Only the event that begins a row makes one."""
    begins = event_type.endswith((".created", ".registered", ".allocated", ".enrolled")) or event_type in (
        "revision.seen",
        "revision.validated",
        "revision.refused",
        "revision.applied",
        "revision.superseded",  # a commit that was passed over
        "volume.deleted",  # a tombstone
        "node.duty_changed",  # an act
        "suspension.begun",
        "app.held",
        "quota.set",
        "identity.invited",
        "delivery.made",
    )
    assert bool(folded(new_event(event_type)).rows) == begins


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
def test_a_version_from_the_future_is_not_guessed(event_type: str) -> None:
    newest = max(version for name, version in load_event_schemas() if name == event_type)
    event = dataclasses.replace(as_log([new_event(event_type)])[0], event_version=newest + 1)
    for projection in PROJECTIONS.values():
        for key in projection.keys(event):
            with pytest.raises(Bug, match=f"version {newest + 1} is not known"):
                projection.fold(key, None, event)


@pytest.mark.parametrize("event_type", sorted(set(PAYLOADS) - {"log.restored"}))
def test_every_event_touches_some_view(event_type: str) -> None:
    event = as_log([new_event(event_type)])[0]
    assert any(projection.keys(event) for projection in PROJECTIONS.values())


def test_a_delivery_stays_whatever_becomes_of_node_and_secret_and_is_bounded() -> None:
    many = [new_event("delivery.made", version_id=f"v-{number}") for number in range(VERSIONS_MAX + 3)]
    gone = [
        new_event("secret.created"),
        new_event("secret.deleted"),
        *many,
        new_event("delivery.made", version_id="v-9"),
    ]
    (row,) = views_after(*gone)["deliveries"].values()
    assert [each["version_id"] for each in row["versions"]] == [
        *(f"v-{n}" for n in range(3, 9)),
        *(f"v-{n}" for n in range(10, 23)),
        "v-9",
    ]
    assert row["omitted"] == 3
