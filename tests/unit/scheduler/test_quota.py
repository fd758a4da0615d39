"""A quota is never mixed up with capacity, and never stops an update that fits one by one."""

from __future__ import annotations

from dataclasses import replace

from reconciler.core.acts import SetDuty
from reconciler.core.claims import Claims
from reconciler.core.commands import Conflict
from reconciler.core.events import Event
from reconciler.core.model import UpdatePolicy, VolumeUse
from reconciler.core.scheduler.record import appends
from reconciler.core.upcasts import current
from tests.unit.scheduler.world import MIB, OVERHEAD_MIB, ROOM_MIB, World, app, environment, process, volume


def a_world(*nodes: str, memory_mib: int = 4096) -> World:
    world = World()
    for node_id in nodes or ("node-a",):
        world.node(node_id, memory_mib=memory_mib)
    return world


def shrunk(world: World, **quota: int) -> None:
    """A limit below what is declared can only come after it."""
    world.commit(environment(**quota))


def test_what_the_quota_does_not_allow_is_said_with_the_dimension_and_the_numbers() -> None:
    world = a_world()
    world.commit(app(web=process(replicas=3)))
    shrunk(world, instances=2)
    world.settle()
    assert len(world.ready()) == 2
    said = world.app_row()["unschedulable"]["web"]
    assert said["reason"] == "env_quota_exceeded:instances"
    assert said["message"] == "the quota of acme/shop/prod allows instances 2; 2 are used and one more takes 1"
    shrunk(world, instances=3)
    world.settle()
    assert (len(world.ready()), world.app_row()["unschedulable"]) == (3, {})


def test_memory_is_limited_as_the_scheduler_takes_it_machine_included() -> None:
    world = a_world()
    each = 100 + OVERHEAD_MIB
    world.commit(app(web=process(replicas=3, memory_mib=100)))
    shrunk(world, memory_bytes=(2 * each + 50) * MIB)
    world.settle()
    assert len(world.ready()) == 2
    said = world.app_row()["unschedulable"]["web"]
    assert said["reason"] == "env_quota_exceeded:memory_bytes"
    told = f"allows memory_bytes {2 * each + 50} MiB; {2 * each} MiB are used and one more takes {each} MiB"
    assert told in said["message"]
    (scope,) = [key for kind, key in world.log.claims if kind == "quota" and key.count("/") == 2]
    assert f"memory_bytes={2 * each * MIB}" in world.log.claims["quota", scope].partition("|")[2]


def test_what_was_allocated_before_machines_counted_counts_as_it_did() -> None:
    """The event says what was counted: a replay gives the sums of then, whatever a machine costs now."""
    world = a_world()
    world.commit(app(web=process(memory_mib=100)))
    (append,) = [
        each
        for each in appends(world.decide(), world.snapshot.event_id, "")
        if each.events[0].event_type == "instance.allocated"
    ]
    (new,) = append.events
    old = {key: value for key, value in new.payload.items() if key != "overhead_bytes"}
    event = Event(9, "", "instance", new.aggregate_id, 1, "instance.allocated", 1, "c", append.cause, old)
    for told, counted in ((current(event), 100), (replace(event, payload=new.payload), 100 + OVERHEAD_MIB)):
        claims = Claims()
        claims.apply(told)
        assert claims.held["use", new.aggregate_id].owner.endswith(f"memory_bytes={counted * MIB}")
    assert {claim.kind: claim.owner for claim in append.take}["use"] == claims.held["use", new.aggregate_id].owner


def test_capacity_is_said_as_capacity() -> None:
    world = a_world(memory_mib=2 * ROOM_MIB)
    world.commit(environment(instances=3), app(web=process(replicas=3)))
    world.settle()
    assert world.app_row()["unschedulable"]["web"]["reason"] == "no_capacity_memory"


def test_an_update_without_room_for_a_surge_drains_first_and_one_by_one() -> None:
    world = a_world()
    world.commit(environment(instances=3), app(web=process(replicas=3)))
    world.settle()
    world.commit(app(web=process("v2", replicas=3)))
    least = 3
    for _ in range(40):
        world.run_pass()
        least = min(least, len(world.ready()))
        assert len([row for row in world.instances() if row["desired"] != "stopped"]) <= 3
        world.agents_act()
    assert least == 2, "one at a time"
    assert [row["workload"]["image"][-2:] for row in world.ready()] == ["v2"] * 3
    drains = [each.payload["reason"] for each in world.events if each.event_type == "instance.desired_state_changed"]
    assert sum("the quota leaves no room for a surge" in reason for reason in drains) == 3
    assert "app.unschedulable" not in {each.event_type for each in world.events}
    assert world.deployment()["status"] == "succeeded"


def test_a_surge_uses_what_the_quota_leaves() -> None:
    world = a_world()
    world.commit(environment(instances=5), app(web=process(replicas=4, update=UpdatePolicy(surge=3))))
    world.settle()
    world.commit(app(web=process("v2", replicas=4, update=UpdatePolicy(surge=3))))
    for _ in range(40):
        world.run_pass()
        assert len(world.ready()) >= 4
        world.agents_act()
    assert [row["workload"]["image"][-2:] for row in world.ready()] == ["v2"] * 4
    assert "app.unschedulable" not in {each.event_type for each in world.events}


def test_an_update_that_would_not_fit_leaves_the_old_ones_alone() -> None:
    """The quota was lowered below what runs: a drained one could not be replaced."""
    world = a_world()
    world.commit(app(web=process(replicas=3)))
    world.settle()
    shrunk(world, instances=1)
    world.commit(app(web=process("v2", replicas=3)))
    world.settle()
    assert [row["workload"]["image"][-2:] for row in world.ready()] == ["v1"] * 3
    assert world.app_row()["unschedulable"]["web"]["reason"] == "env_quota_exceeded:instances"


def test_a_stateful_one_is_replaced_within_its_own_quota() -> None:
    use = (VolumeUse("data", "/data"),)
    world = a_world()
    world.commit(environment(instances=1), volume(), app(web=process(volumes=use)))
    world.settle()
    world.commit(app(web=process("v2", volumes=use)))
    world.settle()
    assert [row["workload"]["image"][-2:] for row in world.ready()] == ["v2"]


def test_a_lost_instance_is_replaced_though_the_quota_is_used_up() -> None:
    world = a_world("node-a", "node-b")
    world.commit(environment(instances=2, memory_bytes=2 * ROOM_MIB * MIB), app(web=process(replicas=2)))
    world.settle()
    lost = world.ready()[0]["node_id"]
    world.node_state(lost, "offline")
    world.settle()
    assert len([row for row in world.ready() if row["node_id"] != lost]) == 2
    assert world.log.claims["quota", "acme/shop/prod"].count("instances=2 ") == 3, "limit, declared and used"
    world.commit(app(web=process("v2", replicas=2)))
    world.settle()
    assert [row["workload"]["image"][-2:] for row in world.ready()] == ["v2"] * 2, "what is given up does not count"
    assert world.app_row()["unschedulable"] == {}


def test_an_instance_that_moved_on_is_decided_anew() -> None:
    """Else its end would free nothing: the report did not know that it shall stop, nor the drain that it had."""
    world = a_world()
    world.commit(app(web=process()))
    world.settle()
    world.commit(app(web=process(replicas=0)))
    stale = world.decide()
    world.report(world.ready()[0]["instance_id"], "stopped")

    conflict = world.try_append(list(appends(stale, 0, "stale")))
    assert isinstance(conflict, Conflict) and conflict.kind == "version"
    world.settle()
    assert world.instances() == []
    assert {kind for kind, _ in world.log.claims} & {"address", "volume_writer"} == set()
    assert ("quota", "acme") not in world.log.claims, "nothing is used"


def test_a_node_is_drained_though_the_quota_is_used_up() -> None:
    world = a_world("node-a", "node-b")
    world.commit(environment(instances=2), app(web=process(replicas=2)))
    world.settle()
    world.act(SetDuty("node-a", "draining"))
    for _ in range(20):
        world.run_pass()
        assert len(world.ready()) >= 1
        world.agents_act()
    assert [row["node_id"] for row in world.ready()] == ["node-b"] * 2
    assert world.app_row()["unschedulable"] == {}
