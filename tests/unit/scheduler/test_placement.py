"""Where instances go: memory, spread, ties, addresses, nodes that are away."""

from __future__ import annotations

import ipaddress

from tests.unit.scheduler.world import OVERHEAD_MIB, ROOM_MIB, World, app, process, used_memory_bytes


def test_memory_counts_the_overhead_of_each_machine() -> None:
    world = World()
    world.node("node-a", memory_mib=2 * ROOM_MIB - 1)
    world.commit(app(web=process(memory_mib=64, replicas=2)))
    actions = world.run_pass()
    assert len(actions.allocate) == 1
    (said,) = actions.unschedulable
    assert said.reason == "no_capacity_memory"
    assert said.message == (
        f"it needs {ROOM_MIB} MiB (64 and {OVERHEAD_MIB} for the machine); "
        f"the most that is free is {ROOM_MIB - 1} MiB on node-a"
    )
    world.node("node-b", memory_mib=ROOM_MIB)
    actions = world.run_pass()
    assert [each.node_id for each in actions.allocate] == ["node-b"]
    assert [each.process for each in actions.schedulable] == ["web"]


def test_a_full_cluster_keeps_serving_and_says_why_the_new_release_waits() -> None:
    world = World()
    world.node("node-a", memory_mib=2 * ROOM_MIB)
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    world.commit(app(web=process("v2", replicas=2)))
    world.settle()
    assert {row["workload"]["image"][-2:] for row in world.ready()} == {"v1"}
    assert world.app_row()["unschedulable"]["web"]["reason"] == "no_capacity_memory"
    world.node("node-b", memory_mib=2 * ROOM_MIB)
    world.settle()
    assert {row["workload"]["image"][-2:] for row in world.ready()} == {"v2"}
    assert world.app_row()["unschedulable"] == {}


def test_draining_instances_still_use_their_memory() -> None:
    world = World()
    world.node("node-a", memory_mib=2 * ROOM_MIB)
    world.commit(app("one", web=process(replicas=2)))
    world.settle()
    world.commit(app("one", web=process(replicas=0)), app("two", web=process()))
    assert not world.run_pass().allocate
    assert used_memory_bytes(world, "node-a") == 2 * ROOM_MIB << 20
    world.settle()
    assert len(world.ready(name="two")) == 1


def test_a_rollout_ends_as_spread_as_it_began() -> None:
    world = World()
    for node_id in ("node-a", "node-b"):
        world.node(node_id)
    for version in ("v1", "v2", "v3", "v4"):
        world.commit(app(web=process(version, replicas=2)))
        world.settle()
        assert sorted(row["node_id"] for row in world.ready()) == ["node-a", "node-b"], version


def test_ties_go_to_the_lowest_node_and_load_evens_out() -> None:
    world = World()
    for node_id in ("node-c", "node-a", "node-b"):
        world.node(node_id)
    world.commit(app("one", web=process(memory_mib=512)))
    assert [each.node_id for each in world.run_pass().allocate] == ["node-a"]
    world.commit(app("two", web=process()))
    assert [each.node_id for each in world.run_pass().allocate] == ["node-b"]


def test_no_node_is_active() -> None:
    world = World()
    world.commit(app(web=process()))
    assert [each.reason for each in world.run_pass().unschedulable] == ["no_nodes_active"]


def test_an_address_is_free_in_the_nodes_subnet_and_not_used_again_soon() -> None:
    world = World()
    world.node("node-a")
    seen: list[str] = []
    for version in range(30):
        world.commit(app(web=process(f"v{version}")))
        world.settle()
        seen.append(world.ready()[0]["workload"]["address"])
    assert len(set(seen)) == len(seen)
    subnet = ipaddress.IPv6Network(world.views["nodes"]["node-a"]["subnet"])
    assert all(ipaddress.IPv6Address(each) in subnet for each in seen)
    assert min(int(ipaddress.IPv6Address(each)) & 0xFFFF for each in seen) >= 0x10


def test_what_ran_on_a_node_that_is_offline_is_replaced_and_stopped() -> None:
    world = World()
    world.node("node-a")
    world.node("node-b")
    world.commit(app(web=process(replicas=2)))
    world.settle()
    lost = next(row["instance_id"] for row in world.ready() if row["node_id"] == "node-a")
    world.node_state("node-a", "offline")
    actions = world.run_pass()
    assert [each.node_id for each in actions.allocate] == ["node-b"]
    assert [(each.instance_id, each.desired, each.reason_code) for each in actions.stop] == [
        (lost, "stopped", "node_offline")
    ]
    world.settle()
    assert len([row for row in world.ready() if row["node_id"] == "node-b"]) == 2
    world.node_state("node-a", "active")
    world.settle()
    assert lost not in world.views["instances"]


def test_when_every_node_is_out_of_sight_nothing_is_given_up() -> None:
    world = World()
    world.node("node-a")
    world.node("node-b")
    world.commit(app(web=process(replicas=2)))
    world.settle()
    for node_id in ("node-a", "node-b"):
        world.node_state(node_id, "offline")
    actions = world.run_pass()
    assert not actions.stop and not actions.drain
    for node_id in ("node-a", "node-b"):
        world.node_state(node_id, "active")
    kept = {row["instance_id"] for row in world.ready()}
    world.settle()
    assert {row["instance_id"] for row in world.ready()} == kept


def test_a_pass_is_bounded_and_the_next_one_goes_on() -> None:
    world = World()
    world.node("node-a", memory_mib=1 << 20)
    world.commit(app(web=process(replicas=450)))
    sizes = []
    while len(actions := world.run_pass()):
        sizes.append((len(actions.allocate), actions.more))
    assert sizes == [(200, True), (200, True), (50, False)]


def test_an_instance_whose_node_the_view_does_not_know_is_left_alone() -> None:
    world = World()
    world.node("node-a")
    world.commit(app(web=process()))
    world.settle()
    del world.views["nodes"]["node-a"]
    assert len(world.decide()) == 0
