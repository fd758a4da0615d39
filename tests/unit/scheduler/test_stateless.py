"""Stateless processes: how many, in which order they are replaced, and that there are never fewer ready than wanted."""

from __future__ import annotations

import pytest

from reconciler.core.model import UpdatePolicy
from tests.unit.scheduler.world import World, app, app_id, process


@pytest.fixture
def world() -> World:
    made = World()
    made.node("node-a")
    made.node("node-b")
    return made


def test_as_many_as_wanted_spread_over_the_nodes(world: World) -> None:
    world.commit(app(web=process(replicas=4)))
    actions = world.run_pass()
    assert [each.node_id for each in actions.allocate] == ["node-a", "node-b", "node-a", "node-b"]
    assert len({each.address for each in actions.allocate}) == 4


def test_a_converged_world_gives_no_actions(world: World) -> None:
    world.commit(app(web=process(replicas=2), worker=process()))
    world.settle()
    assert len(world.decide()) == 0
    assert world.deployment()["status"] == "succeeded"


def test_the_same_snapshot_gives_the_same_actions(world: World) -> None:
    world.commit(app(web=process(replicas=3)))
    first, second = world.decide(), world.decide()
    assert [(each.node_id, each.address) for each in first.allocate] == [
        (each.node_id, each.address) for each in second.allocate
    ]


def test_a_new_release_surges_and_drains_one_at_a_time(world: World) -> None:
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    old = {row["instance_id"] for row in world.ready()}
    world.commit(app(web=process("v2", replicas=2)))
    first = world.run_pass()
    assert (len(first.allocate), len(first.drain)) == (1, 0)
    assert len(world.run_pass()) == 0, "nothing is drained before the new one is ready"
    world.report(first.allocate[0].instance_id, "ready")
    second = world.run_pass()
    assert [each.instance_id in old for each in second.drain] == [True]
    assert not second.allocate, "replicas + surge exist; the drained one has not stopped yet"


def test_a_single_replica_surges_too(world: World) -> None:
    world.commit(app(web=process("v1")))
    world.settle()
    world.commit(app(web=process("v2")))
    for _ in range(20):
        world.run_pass()
        assert len(world.ready()) >= 1
        world.agents_act()
    assert [row["workload"]["image"][-2:] for row in world.ready()] == ["v2"]


def test_without_surge_the_old_one_goes_first(world: World) -> None:
    update = UpdatePolicy(surge=0)
    world.commit(app(web=process("v1", replicas=2, update=update)))
    world.settle()
    world.commit(app(web=process("v2", replicas=2, update=update)))
    first = world.run_pass()
    assert (len(first.allocate), len(first.drain)) == (0, 1)
    for _ in range(20):
        assert len([row for row in world.instances() if row["status"] != "stopped"]) <= 2
        world.agents_act()
        world.run_pass()
    assert {row["workload"]["image"][-2:] for row in world.ready()} == {"v2"}


def test_a_changed_spec_is_a_new_instance(world: World) -> None:
    world.commit(app(web=process(environment={"A": "1"})))
    world.settle()
    before = world.ready()[0]["instance_id"]
    world.commit(app(web=process(environment={"A": "2"})))
    world.settle()
    assert world.ready()[0]["instance_id"] != before
    assert world.ready()[0]["workload"]["environment"] == {"A": "2"}


def test_scaling_restarts_nothing_and_makes_no_deployment(world: World) -> None:
    world.commit(app(web=process(replicas=1)))
    world.settle()
    kept, deployment = world.ready()[0]["instance_id"], world.deployment()["deployment_id"]
    world.commit(app(web=process(replicas=3)))
    world.settle()
    assert kept in {row["instance_id"] for row in world.ready()}
    assert len(world.ready()) == 3
    assert world.deployment()["deployment_id"] == deployment


def test_scaling_down_takes_failed_then_unready_then_the_oldest(world: World) -> None:
    world.commit(app(web=process(replicas=5)))
    world.settle()
    ids = sorted(row["instance_id"] for row in world.ready())
    world.report(ids[3], "unready", reason_code="healthcheck_failed")
    world.report(ids[4], "failed", reason_code="process_exited")
    world.commit(app(web=process(replicas=2)))
    actions = world.run_pass()
    assert [each.instance_id for each in actions.drain] == [ids[4], ids[3], ids[0]]


def test_zero_replicas_drain_everything(world: World) -> None:
    world.commit(app(web=process(replicas=2)))
    world.settle()
    world.commit(app(web=process(replicas=0)))
    world.settle()
    assert world.instances() == []


def test_an_app_that_is_gone_is_drained(world: World) -> None:
    world.commit(app(web=process(replicas=2)))
    world.settle()
    world.commit(remove=[app_id()])
    actions = world.run_pass()
    assert [each.desired for each in actions.drain] == ["draining", "draining"]
    world.settle()
    assert world.views["instances"] == {}


def test_a_process_that_is_gone_is_drained(world: World) -> None:
    world.commit(app(web=process(), worker=process()))
    world.settle()
    world.commit(app(web=process()))
    world.settle()
    assert world.instances("worker") == []
    assert world.deployment()["status"] == "succeeded"


def test_an_app_that_cannot_be_read_is_left_as_it_is(world: World) -> None:
    world.commit(app(web=process()), app("shop", web=process()))
    world.settle()
    world.views["resources"][str(app_id())]["spec"] = {"processes": 7}
    world.commit(app("shop", web=process(replicas=2)))
    actions = world.run_pass()
    assert not actions.drain
    assert [each.app for each in actions.allocate] == [str(app_id("shop"))]
    assert set(world.snapshot.unreadable) == {str(app_id())}


def test_a_crash_is_the_agents_business(world: World) -> None:
    world.commit(app(web=process(replicas=2)))
    world.settle()
    crashed = world.ready()[0]["instance_id"]
    world.report(crashed, "failed", reason_code="process_exited", restarts=9)
    assert len(world.run_pass()) == 0
    world.advance(299)
    assert len(world.run_pass()) == 0
    world.report(crashed, "ready")
    assert len(world.run_pass()) == 0


def test_one_that_stays_away_is_replaced_elsewhere_a_few_times(world: World) -> None:
    world.commit(app(web=process()))
    world.settle()
    allocated = 0
    for _ in range(400):
        for row in world.instances():
            if row["desired"] != "running":
                world.report(row["instance_id"], "stopped")
            elif row["status"] != "failed":
                world.report(row["instance_id"], "failed", reason_code="rootfs_build_failed")
        allocated += len(world.run_pass().allocate)
        world.advance(10)
    assert 2 <= allocated <= 4, "three replacements with growing delays, then one an hour"
    assert world.deployment()["status"] == "succeeded"


def test_a_process_that_may_end_is_done_and_not_started_again(world: World) -> None:
    world.commit(app(job=process(restart="never")))
    world.run_pass()
    (row,) = world.instances("job")
    world.report(row["instance_id"], "ready")
    world.report(row["instance_id"], "stopped", exit_code=0)
    world.settle()
    assert world.deployment()["status"] == "succeeded"
    assert [each["instance_id"] for each in world.instances("job")] == [row["instance_id"]]
    world.commit(app(job=process("v2", restart="never")))
    world.run_pass()
    assert row["instance_id"] not in {each["instance_id"] for each in world.instances("job", status="")}


def test_an_app_is_updated_while_a_node_that_it_lost_is_still_away() -> None:
    """What was given up there does not use up the surge."""
    world = World()
    for node_id in ("node-a", "node-b"):
        world.node(node_id)
    world.commit(app(web=process(replicas=2)))
    world.settle()
    world.node_state(world.ready()[0]["node_id"], "offline")
    world.settle()
    world.commit(app(web=process("v2", replicas=2)))
    world.settle()
    assert [row["workload"]["image"][-2:] for row in world.ready()] == ["v2"] * 2
    assert world.deployment()["status"] == "succeeded"
