"""Who restarts, in which order, with what surge, and for how long nothing serves."""

from __future__ import annotations

import pytest

from reconciler.core.model import UpdatePolicy, VolumeUse
from reconciler.core.preview.document import Gap
from tests.unit.preview.plans import acts, planned, roll_out
from tests.unit.scheduler.world import MIB, ROOM_MIB, World, app, app_id, environment, process, secret, volume

USE = (VolumeUse("data", "/data"),)


def fleet(memory_mib: int = 4096) -> World:
    world = World()
    world.node("node-a", memory_mib)
    world.node("node-b", memory_mib)
    return world


def test_a_stateless_process_is_replaced_by_surge_and_serves_throughout() -> None:
    world = fleet()
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    old = sorted(row["instance_id"] for row in world.instances())
    told = roll_out(planned(world, app(web=process("v2", replicas=2))))
    assert acts(told) == [
        "1 start new-1 node-a",
        f"2 drain {old[0]} node-a",
        "3 start new-2 node-b",
        f"4 drain {old[1]} node-b",
    ]
    assert (told.starts, told.stops, told.at_once_max, told.serving_least) == (2, 2, 3, 2)
    assert told.gap is None
    assert told.placed == {"node-a": 1, "node-b": 1}
    assert told.outcome == "succeeded"


def test_a_stateful_process_has_a_gap_of_drain_and_start() -> None:
    world = fleet()
    update = UpdatePolicy(drain_grace_s=5.0, start_timeout_s=30.0)
    world.commit(volume(), app(db=process("v1", volumes=USE, update=update)))
    world.settle()
    told = roll_out(planned(world, app(db=process("v2", volumes=USE, update=update))), "db")
    assert told.stateful
    assert told.gap is not None
    assert (told.gap.from_step, told.gap.to_step, told.gap.at_most_s) == (1, 2, 35.0)
    assert [each.act for each in told.steps] == ["drain", "start"]
    assert told.at_once_max == 1


def test_a_gap_that_waits_for_room_is_as_long_as_what_it_waits_for() -> None:
    """Site takes the room that tail leaves; tail starts when site has given some back: drain, start, drain, start."""
    world = World()
    world.node("node-a", 2 * ROOM_MIB + 100)
    slow = UpdatePolicy(drain_grace_s=5.0, start_timeout_s=30.0)
    data = volume(owner="tail")
    world.commit(data, app("site", web=process("v1", update=slow)))
    world.commit(app("tail", db=process("v1", volumes=USE, update=slow)))
    world.settle()
    document = planned(
        world,
        app("site", web=process("v2", update=slow, memory_mib=96)),
        app("tail", db=process("v2", volumes=USE, update=slow, memory_mib=96)),
    )
    told = roll_out(document, "db", "prod/app/tail")
    assert [(each.step, each.act) for each in told.steps] == [(1, "drain"), (4, "start")]
    assert told.gap == Gap(1, 4, 70.0)


def test_without_surge_one_replica_is_a_gap() -> None:
    world = fleet()
    world.commit(app(web=process("v1", update=UpdatePolicy(surge=0))))
    world.settle()
    told = roll_out(planned(world, app(web=process("v2", update=UpdatePolicy(surge=0)))))
    assert told.gap is not None
    assert told.gap.at_most_s == 130.0


def test_more_replicas_restart_nothing() -> None:
    world = fleet()
    world.commit(app(web=process("v1")))
    world.settle()
    told = roll_out(planned(world, app(web=process("v1", replicas=3))))
    assert (told.starts, told.stops) == (2, 0)


def test_a_new_version_of_a_secret_restarts_who_uses_it() -> None:
    world = fleet()
    world.commit(secret("1"), app(web=process("v1", secrets=("keys",)), job=process("v1")))
    world.settle()
    document = planned(world, secret("2"))
    assert [(each.process, each.starts) for each in document.roll_outs] == [("web", 1)]


def test_no_room_is_told_with_what_is_free() -> None:
    world = fleet(ROOM_MIB)
    world.commit(app(web=process("v1")))
    world.settle()
    told = roll_out(planned(world, app(web=process("v1", replicas=4))))
    assert told.unschedulable == "no_capacity_memory"
    assert "the most that is free is 0 MiB" in told.unschedulable_message
    assert told.serving_after == 2


def test_a_gap_that_does_not_end_has_no_length() -> None:
    world = fleet()
    world.commit(volume(), app(db=process("v1", volumes=USE)))
    world.settle()
    document = planned(world, app(db=process("v1", volumes=USE)), remove=[volume().id], message="x\n\nnothing")
    assert document.roll_outs == ()
    assert [change.verb for change in document.changes] == ["retain"]


def test_an_app_that_goes_stops_everywhere() -> None:
    world = fleet()
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    told = roll_out(planned(world, remove=[app_id()]))
    assert (told.starts, told.stops, told.wanted_after, told.serving_after) == (0, 2, 0, 0)
    assert told.gap is None


def test_what_moves_anyway_is_told_apart() -> None:
    world = fleet()
    world.commit(app("site", web=process("v1")), app("other", web=process("v1")))
    world.settle()
    world.commit(app("other", web=process("v2")))
    document = planned(world, app("site", web=process("v2")))
    assert {(each.app, each.by_commit) for each in document.roll_outs} == {
        ("prod/app/site", True),
        ("prod/app/other", False),
    }


def test_nodes_and_environments_before_and_after() -> None:
    world = fleet()
    world.commit(app("site", web=process("v1")), app("other", web=process("v1")))
    world.settle()
    document = planned(world, app("site", web=process("v2", memory_mib=128)))
    (use,) = document.environments
    assert (use.instances_before, use.instances_after) == (2, 2)
    assert (use.memory_after_bytes - use.memory_before_bytes) == 64 * MIB
    assert sum(node.used_after_bytes for node in document.nodes) > 0
    for node in document.nodes:
        assert node.used_peak_bytes >= max(node.used_before_bytes, node.used_after_bytes)


@pytest.mark.parametrize("status", ["failed", "unready"])
def test_an_instance_that_fails_now_is_taken_to_fail_on(status: str) -> None:
    world = fleet()
    world.commit(app("site", web=process("v1")))
    world.settle()
    (row,) = world.instances()
    world.report(row["instance_id"], status)
    told = roll_out(planned(world, app("site", web=process("v1", replicas=2))))
    assert told.serving_before == 0
    assert told.serving_after == 1
    assert told.outcome == "succeeded", "the deployment had succeeded before"


def test_without_room_for_a_surge_in_the_quota_an_old_one_goes_first() -> None:
    """What the plan leaves out, since nothing changes there, counts all the same."""
    world = fleet()
    world.commit(environment(instances=4), app(web=process("v1", replicas=2)), app("rest", web=process(replicas=2)))
    world.settle()
    old = sorted(row["instance_id"] for row in world.instances())
    told = roll_out(planned(world, app(web=process("v2", replicas=2))))
    assert acts(told)[:2] == [f"1 drain {old[0]} node-a", "2 start new-1 node-a"]
    assert (told.at_once_max, told.serving_least, told.outcome) == (2, 1, "succeeded")
