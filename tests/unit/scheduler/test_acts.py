"""What operators' acts make of the fleet: drains, suspensions, holds, a stopped instance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from kit.errors import Refusal
from reconciler.core.acts import Hold, ReleaseHold, Resume, SetDuty, StopInstance, Suspend
from tests.unit.scheduler.world import ROOM_MIB, World, app, app_id, process, secret, volume

DRAIN_A = SetDuty("node-a", "draining")
SITE = "prod/site"


@pytest.fixture
def world() -> World:
    made = World()
    for node_id in ("node-a", "node-b"):
        made.node(node_id)
    return made


def nodes_of(rows: Iterable[Any]) -> list[str]:
    return sorted(row["node_id"] for row in rows)


def images(world: World) -> list[str]:
    return sorted(row["workload"]["image"][-2:] for row in world.instances() if row["desired"] == "running")


def serve_throughout(world: World, count: int, steps_max: int = 100) -> None:
    """Settles, and never has fewer than `count` that are ready and wanted."""
    for _ in range(steps_max):
        before = world.log.last_event_id
        world.run_pass()
        assert len(world.ready()) >= count, world.instances()
        world.agents_act()
        if world.log.last_event_id == before:
            return
    raise AssertionError("it does not settle")


# --- drain


def test_a_drain_moves_stateless_instances_one_at_a_time_and_serves_throughout(world: World) -> None:
    world.commit(app(web=process(replicas=4)))
    world.settle()
    world.act(DRAIN_A, reason="new disks")
    first = world.run_pass()
    assert (len(first.allocate), len(first.drain)) == (1, 0), "surge 1: the new one comes first"
    assert [each.node_id for each in first.allocate] == ["node-b"]
    serve_throughout(world, 4)
    assert nodes_of(world.ready()) == ["node-b"] * 4
    drained = [each.payload for each in world.events if each.event_type == "instance.desired_state_changed"]
    assert [(each["node_id"], each["reason_code"]) for each in drained] == [("node-a", "node_draining")] * 2
    assert all("draining (new disks)" in each["reason"] for each in drained)


def test_nothing_is_placed_on_a_node_that_drains_until_it_is_active_again(world: World) -> None:
    world.act(DRAIN_A)
    world.commit(app(web=process(replicas=4)))
    world.settle()
    assert nodes_of(world.ready()) == ["node-b"] * 4
    world.act(SetDuty("node-a", "active"))
    world.commit(app(web=process(replicas=6)))
    world.settle()
    assert nodes_of(world.ready()) == ["node-a"] * 2 + ["node-b"] * 4


def test_a_drain_without_room_elsewhere_stops_nothing_and_says_so() -> None:
    world = World()
    world.node("node-a")
    world.node("node-b", memory_mib=ROOM_MIB - 1)
    world.commit(app(web=process(replicas=2)))
    world.settle()
    world.act(DRAIN_A)
    serve_throughout(world, 2)
    assert nodes_of(world.ready()) == ["node-a"] * 2
    assert world.app_row()["unschedulable"]["web"]["reason"] == "no_capacity_memory"
    world.act(SetDuty("node-a", "active"))
    world.settle()
    assert world.app_row()["unschedulable"] == {}


def test_without_surge_one_leaves_first_but_only_if_there_is_a_place() -> None:
    from reconciler.core.model import UpdatePolicy

    world = World()
    world.node("node-a")
    world.commit(app(web=process(replicas=2, update=UpdatePolicy(surge=0))))
    world.settle()
    world.act(DRAIN_A)
    serve_throughout(world, 2)
    assert world.app_row()["unschedulable"]["web"]["reason"] == "no_nodes_active"
    world.node("node-b")
    serve_throughout(world, 1)
    assert nodes_of(world.ready()) == ["node-b"] * 2


def test_stateful_instances_stay_on_a_draining_node_and_a_new_release_waits(world: World) -> None:
    from reconciler.core.model import VolumeUse

    uses = (VolumeUse("data", "/data"),)
    world.commit(volume(), app(web=process(volumes=uses)))
    world.settle()
    (row,) = world.ready()
    world.act(SetDuty(row["node_id"], "draining"), reason="new disks")
    serve_throughout(world, 1)
    assert [each["instance_id"] for each in world.ready()] == [row["instance_id"]]
    assert world.app_row()["unschedulable"] == {}, "nothing of it waits for a place"
    world.commit(app(web=process("v2", volumes=uses)))
    serve_throughout(world, 1)
    assert [each["instance_id"] for each in world.ready()] == [row["instance_id"]]
    told = world.app_row()["unschedulable"]["web"]
    assert told["reason"] == "volume_locality_no_node"
    assert "draining (new disks)" in told["message"]
    world.act(SetDuty(row["node_id"], "active"))
    world.settle()
    assert images(world) == ["v2"]


def test_a_draining_node_that_falls_silent_and_comes_back_is_still_draining(world: World) -> None:
    world.commit(app(web=process(replicas=2)))
    world.settle()
    world.act(DRAIN_A)
    world.node_state("node-a", "offline")
    world.settle()
    assert nodes_of(world.ready()) == ["node-b"] * 2
    world.node_state("node-a", "active")
    world.node("node-a")
    world.commit(app(web=process(replicas=4)))
    world.settle()
    assert nodes_of(world.ready()) == ["node-b"] * 4
    assert world.views["nodes"]["node-a"]["duty"] == "draining"


def test_a_disabled_node_is_left_and_its_agent_is_still_heard(world: World) -> None:
    world.commit(app(web=process(replicas=2)))
    world.settle()
    world.act(SetDuty("node-a", "disabled"))
    serve_throughout(world, 2)
    assert nodes_of(world.ready()) == ["node-b"] * 2
    assert [row for row in world.instances() if row["node_id"] == "node-a"] == [], "its reports were taken"


def test_what_a_node_may_do_changes_only_as_the_table_says(world: World) -> None:
    def refused(duty: Any, until: str = "") -> str:
        answer = world.act(SetDuty("node-a", duty), until=until)
        return answer.code if answer else ""

    assert refused("active") == "transition_invalid"
    assert refused("disabled", "2026-01-01T00:00:00Z") == "invalid_argument"
    assert [refused("draining"), refused("draining"), refused("disabled"), refused("active")] == [""] * 4
    unknown = world.act(SetDuty("node-x", "draining"))
    assert isinstance(unknown, Refusal)
    assert unknown.code == "node_unknown"


# --- suspensions


@pytest.mark.parametrize("scope", [SITE, "env/prod"])
def test_of_what_is_suspended_nothing_rolls_scales_or_goes_until_it_is_resumed(world: World, scope: str) -> None:
    world.commit(app(web=process(replicas=2), worker=process()))
    world.settle()
    world.act(Suspend(scope))
    before = set(world.views["instances"])
    for commit in (
        app(web=process("v2", replicas=2), worker=process()),
        app(web=process("v2", replicas=5)),
        app(web=process("v2", replicas=1)),
    ):
        revision = world.commit(commit)
        world.settle()
        assert set(world.views["instances"]) == before
        assert world.views["revisions"][f"main@{revision}"]["status"] == "applied", "not converged: it is held back"
    world.act(Resume(scope))
    world.settle()
    assert images(world) == ["v2"]
    assert world.instances("worker") == []
    assert world.views["revisions"][f"main@{revision}"]["status"] == "converged"
    assert world.deployment()["status"] == "succeeded", "what was begun meanwhile only waited"


def test_what_a_commit_asked_for_just_before_a_suspension_is_not_begun(world: World) -> None:
    """The scheduler has not seen the commit yet when somebody says stop."""
    world.commit(app(web=process(replicas=2), worker=process()))
    world.settle()
    before = set(world.views["instances"])
    world.commit(app(web=process("v2", replicas=5)), app("shop", web=process()))
    world.act(Suspend("env/prod"))
    world.settle()
    assert set(world.views["instances"]) == before
    world.act(Resume("env/prod"))
    world.settle()
    assert (images(world), len(world.ready(name="shop"))) == (["v2"] * 5, 1)


def test_a_removal_waits_too_and_what_git_adds_does_not_start(world: World) -> None:
    world.commit(app(web=process(replicas=2)))
    world.settle()
    world.act(Suspend("env/prod"))
    revision = world.commit(app("shop", web=process()), remove=[app_id()])
    world.settle()
    assert len(world.ready()) == 2
    assert world.instances(name="shop") == []
    assert world.views["revisions"][f"main@{revision}"]["status"] == "applied"
    lost = world.ready()[0]
    world.node_state(lost["node_id"], "offline")
    world.settle()
    kept = [row for row in world.ready() if row["node_id"] != lost["node_id"]]
    assert len(kept) == 2, "a lost node's instances are replaced, although Git has no such app any more"
    world.act(Resume("env/prod"))
    world.node_state(lost["node_id"], "active")
    world.settle()
    assert world.instances() == []
    assert len(world.ready(name="shop")) == 1
    assert world.views["revisions"][f"main@{revision}"]["status"] == "converged"


def test_an_app_can_be_declared_anew_after_it_went_while_it_was_suspended(world: World) -> None:
    world.commit(app(web=process()))
    world.settle()
    world.act(Suspend(SITE))
    world.commit(remove=[app_id()])
    world.node_state("node-a", "offline")
    world.node_state("node-b", "offline")
    world.settle()
    world.commit(app(web=process("v2")))
    world.act(Resume("app/acme/shop/prod/site"))
    for node_id in ("node-a", "node-b"):
        world.node_state(node_id, "active")
    world.settle()
    assert images(world) == ["v2"]


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_a_rollout_stops_where_it_is_and_goes_on_later(world: World, passes: int) -> None:
    world.commit(app(web=process("v1", replicas=3)))
    world.settle()
    world.commit(app(web=process("v2", replicas=3)))
    for _ in range(passes):
        world.run_pass()
        world.agents_act()
    world.act(Suspend(SITE))
    before = images(world)
    assert set(before) == {"v1", "v2"}
    world.settle()
    assert images(world) == before
    assert world.deployment()["status"] == "rolling"
    world.act(Resume(SITE))
    world.settle()
    assert images(world) == ["v2"] * 3
    assert world.deployment()["status"] == "succeeded"


def test_a_suspended_app_is_kept_up_as_it_is(world: World) -> None:
    """Nodes that go, an instance that somebody stops, a node that drains: another of the same takes its place."""
    world.commit(secret("1"), app(web=process("v1", replicas=2, secrets=("keys",))))
    world.settle()
    world.act(Suspend(SITE))
    world.commit(secret("2"), app(web=process("v2", replicas=4, secrets=("keys",))))
    hashes = {row["spec_hash"] for row in world.ready()}
    world.act(StopInstance(world.ready()[0]["instance_id"]))
    world.settle()
    assert len(world.ready()) == 2
    world.node_state("node-a", "offline")
    world.settle()
    assert nodes_of(row for row in world.ready() if row["node_id"] == "node-b") == ["node-b"] * 2
    world.node_state("node-a", "active")
    world.settle()
    world.act(SetDuty("node-b", "draining"))
    serve_throughout(world, 2)
    assert nodes_of(world.ready()) == ["node-a"] * 2
    assert {row["spec_hash"] for row in world.ready()} == hashes, "of the same release, with the same secrets"
    assert {row["secrets"][0]["version_id"] for row in world.ready()} == {"1"}


def test_a_suspension_said_anew_keeps_what_was_frozen(world: World) -> None:
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    world.act(Suspend(SITE))
    world.commit(app(web=process("v2", replicas=5)))
    for node_id in ("node-a", "node-b"):
        world.act(SetDuty(node_id, "draining"))
    world.act(StopInstance(world.ready()[0]["instance_id"]))
    world.settle()
    assert len(world.ready()) == 1
    world.act(Suspend(SITE), reason="still looking")
    world.act(Suspend("env/prod"), reason="and all of it")
    for node_id in ("node-a", "node-b"):
        world.act(SetDuty(node_id, "active"))
    world.settle()
    assert images(world) == ["v1"] * 2, "as many as there were when the first began"
    world.commit(remove=[app_id()])
    world.act(Suspend(SITE), reason="and still")
    world.act(Resume("env/prod"))
    world.settle()
    assert images(world) == ["v1"] * 2


def test_other_apps_follow_git_meanwhile(world: World) -> None:
    world.commit(app(web=process()), app("shop", web=process()))
    world.settle()
    world.act(Suspend(SITE))
    revision = world.commit(app("shop", web=process("v2", replicas=2)))
    world.settle()
    assert len(world.ready(name="shop")) == 2
    assert world.views["revisions"][f"main@{revision}"]["status"] == "converged"


def test_names_of_scopes(world: World) -> None:
    world.commit(app(web=process()))
    for scope in ("env/test", "prod/shop", "source/none", "nothing", "env/", ""):
        with pytest.raises(Refusal) as caught:
            world.act(Suspend(scope))
        assert caught.value.code == "not_found", scope
    refusal = world.act(Resume(SITE))
    assert refusal is not None
    assert refusal.code == "transition_invalid"
    for scope in ("source/main", "env/prod", SITE, "app/prod/site"):
        assert world.act(Suspend(scope)) is None
    assert sorted(world.views["acts"]) == ["app/acme/shop/prod/site", "env/acme/shop/prod", "source/main"]


# --- holds


def two_releases(world: World) -> tuple[str, str]:
    releases = []
    for image in ("v1", "v2"):
        world.commit(app(web=process(image, replicas=2)))
        world.settle()
        releases.append(str(world.app_row()["release_id"]))
    return releases[0], releases[1]


def test_a_hold_rolls_back_and_stays_against_git_until_git_says_something_else(world: World) -> None:
    first, second = two_releases(world)
    world.act(Hold(SITE, first), reason="v2 loses mails")
    world.settle()
    assert images(world) == ["v1"] * 2
    assert (world.deployment()["kind"], world.deployment()["reason"]) == ("rollback", "hold")
    hold = world.app_row()["hold"]
    assert (hold["defied_release_id"], hold["defied_commit"]) == (second, world.app_row()["origin"]["commit"])
    revision = world.commit(app(web=process("v2", replicas=3)))
    world.settle()
    assert images(world) == ["v1"] * 3, "how many is not what the hold defies"
    assert world.views["revisions"][f"main@{revision}"]["status"] == "applied", "not converged: it is defied"
    revision = world.commit(app(web=process("v3", replicas=3)))
    world.settle()
    assert images(world) == ["v3"] * 3
    assert (world.app_row()["hold"], world.views["acts"]) == (None, {})
    assert world.views["revisions"][f"main@{revision}"]["status"] == "converged"


def test_a_revert_to_the_held_release_ends_the_hold_and_restarts_nothing(world: World) -> None:
    first, _ = two_releases(world)
    world.act(Hold(SITE, first))
    world.settle()
    before = set(world.views["instances"])
    revision = world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    assert (world.views["acts"], set(world.views["instances"])) == ({}, before)
    assert world.views["revisions"][f"main@{revision}"]["status"] == "converged"


def test_a_hold_that_is_released_becomes_what_git_says(world: World) -> None:
    first, second = two_releases(world)
    world.act(Hold(SITE, first))
    world.settle()
    world.act(ReleaseHold(SITE))
    world.settle()
    assert images(world) == ["v2"] * 2
    assert (world.app_row()["release_id"], world.deployment()["reason"]) == (second, "hold_ended")
    world.act(Hold(SITE, first))
    world.settle()
    assert images(world) == ["v1"] * 2, "and it can be held again"


def test_a_held_release_keeps_the_processes_that_git_has_no_more(world: World) -> None:
    world.commit(app(web=process(), worker=process(replicas=3)))
    world.settle()
    first = str(world.app_row()["release_id"])
    world.commit(app(web=process()))
    world.act(Hold(SITE, first))
    world.settle()
    assert len(world.ready("worker")) == 3
    world.act(ReleaseHold(SITE))
    world.settle()
    assert world.instances("worker") == []


def test_a_secret_rolls_a_held_app_on_its_held_release(world: World) -> None:
    uses = ("keys",)
    world.commit(secret("1"), app(web=process("v1", secrets=uses)))
    world.settle()
    first = str(world.app_row()["release_id"])
    world.commit(app(web=process("v2", secrets=uses)))
    world.act(Hold(SITE, first))
    world.commit(secret("2"), app(web=process("v2", replicas=2, secrets=uses)))
    world.settle()
    assert images(world) == ["v1"] * 2
    assert {row["secrets"][0]["version_id"] for row in world.ready()} == {"2"}
    assert "app/site" not in world.views["acts"]


def test_a_hold_goes_with_its_app(world: World) -> None:
    first, _ = two_releases(world)
    world.act(Hold(SITE, first))
    world.commit(remove=[app_id()])
    world.settle()
    assert (world.views["acts"], world.instances()) == ({}, [])


def test_what_cannot_be_held_is_refused(world: World) -> None:
    first, second = two_releases(world)
    world.commit(app("shop", web=process()))
    for wanted, code in ((second, "transition_invalid"), ("r-none", "not_found")):
        refusal = world.act(Hold(SITE, wanted))
        assert refusal is not None
        assert refusal.code == code
    unknown = world.act(Hold("prod/shop", first))
    assert unknown is not None
    assert (unknown.code, unknown.fix) == ("not_found", "it never had another release")
    released = world.act(ReleaseHold(SITE))
    assert released is not None
    assert released.code == "transition_invalid"


# --- stop


def test_a_stopped_instance_is_replaced_by_its_like(world: World) -> None:
    world.commit(app(web=process(replicas=2)))
    world.settle()
    stopped = world.ready()[0]["instance_id"]
    world.act(StopInstance(stopped), reason="it hangs")
    world.settle()
    assert len(world.ready()) == 2
    assert stopped not in world.views["instances"]
    told = next(each for each in world.events if each.event_type == "instance.desired_state_changed")
    assert (told.cause.actor_id, told.payload["reason_code"]) == ("operator:ann", "terminated_by_operator")
    for again, code in ((stopped, "not_found"), ("i-none", "not_found")):
        refusal = world.act(StopInstance(again))
        assert refusal is not None
        assert refusal.code == code
