"""What a node and an edge are told, and whom an event wakes."""

from __future__ import annotations

from typing import Any

from reconciler.core.filters import machine_keys
from reconciler.core.model import VolumeUse
from reconciler.core.plans import node_plan, route_plan
from tests.unit.decide.test_git import route
from tests.unit.scheduler.world import World, app, process, volume, web_port

USE = (VolumeUse("data", "/data"),)


def _world() -> World:
    world = World()
    world.node("node-a")
    world.node("node-b")
    return world


def _node(world: World, node_id: str) -> Any:
    return node_plan(world.views, node_id, log_id="log", generation=world.log.last_event_id)


def _routes(world: World) -> Any:
    return route_plan(world.views, "edge-1", log_id="log", generation=1).routes


def test_a_node_is_told_its_own_instances_and_volumes() -> None:
    world = _world()
    world.commit(volume(), app(db=process(volumes=USE), web=process(replicas=2)))
    world.settle()
    plans = [_node(world, node_id) for node_id in ("node-a", "node-b")]
    told = [planned.instance_id for plan in plans for planned in plan.instances]
    assert sorted(told) == sorted(world.views["instances"])
    assert [[each.desired for each in plan.volumes] for plan in plans] == [["present"], []]
    assert plans[0].generation == world.log.last_event_id


def test_a_deleted_volume_is_removed_after_its_instance_and_then_forgotten() -> None:
    world = _world()
    world.commit(volume(), app(db=process(volumes=USE)))
    world.settle()
    world.commit(remove=[volume().id, app(db=process()).id])
    assert _node(world, "node-a").volumes == (), "the instance still holds it: neither present nor deleted"
    world.settle()
    (planned,) = _node(world, "node-a").volumes
    assert (planned.volume_id, planned.name, planned.desired) == (str(volume().id), "data", "deleted")


def test_a_route_has_the_backends_that_are_wanted_and_ready() -> None:
    world = _world()
    world.commit(route(), app(web=process(replicas=3, ports=web_port())))
    world.run_pass()
    assert _routes(world)[0].backends == ()
    first, second, third = sorted(row["instance_id"] for row in world.instances())
    world.report(first, "ready")
    world.report(second, "unready", reason_code="healthcheck_failed")
    assert [backend.instance_id for backend in _routes(world)[0].backends] == [first]
    world.report(second, "ready")
    world.report(third, "ready")
    assert [backend.instance_id for backend in _routes(world)[0].backends] == [first, second, third]
    world.commit(app(web=process(replicas=2, ports=web_port())))
    world.run_pass()
    assert [backend.instance_id for backend in _routes(world)[0].backends] == [second, third], "draining is out"


def test_of_routes_with_one_listener_the_eldest_is_in_the_plan() -> None:
    world = _world()
    world.commit(route("a.example", "one"), route("b.example", "two"))
    rows = world.views["resources"]
    rows[str(route(name="two").id)]["spec"] = {**rows[str(route(name="two").id)]["spec"], "hostname": "a.example"}
    assert [planned.route_id.rsplit("/", 1)[1] for planned in _routes(world)] == ["one"]


def test_events_wake_exactly_those_whom_they_concern() -> None:
    world = _world()
    world.commit(route(), volume(), app(db=process(volumes=USE)))
    world.settle()
    found = {event.event_type: machine_keys(event) for event in world.events}
    assert found["instance.allocated"] == {"node:node-a", "edge"}
    assert found["instance.status_changed"] == {"node:node-a", "edge"}
    assert found["volume.placed"] == {"node:node-a"}
    assert found["route.created"] == {"edge"}
    assert found["app.created"] == found["deployment.created"] == found["release.created"] == frozenset()
    assert found["node.enrolled"] == {"node:node-b"}
