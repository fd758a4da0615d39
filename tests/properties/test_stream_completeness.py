"""S3: whatever changes what a machine should do is told to that machine.

Its filter is made from single events, its plan from folds of them; nothing but this test holds the two together. For
random histories, of the real deciders and of any that they could write one day: when an event changes a node's plan, or
the routes, it concerns that node's key, or the edges'. A removal is told only of what the plan does not hold any more.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.core.events import Event, NewEvent
from reconciler.core.filters import EDGE, node_key, told
from reconciler.core.lifecycles import VOLUME, allowed
from reconciler.core.model import VolumeUse
from reconciler.core.plans import node_plan, route_plan
from reconciler.core.replay import apply
from reconciler.core.views import PROJECTIONS
from tests.properties.test_scheduler import NODES, _apply, operations
from tests.unit.decide.test_git import route
from tests.unit.projections.samples import CAUSE, SPECS, new_event
from tests.unit.scheduler.world import World, app, process, secret, volume, web_port

APP = "acme/shop/prod/site/app/site"


class Machines:
    """What each of them should do, event by event."""

    def __init__(self) -> None:
        self.views: dict[str, dict[str, Any]] = {name: {} for name in PROJECTIONS}
        self._plans = self._now()
        self.changes = self.removals = 0

    def hear(self, event: Event) -> None:
        apply(self.views, event)
        before, self._plans = self._plans, self._now()
        for key, plan in self._plans.items():
            what = told(event, key)
            if plan != before[key]:
                assert what, f"{event.event_type} {dict(event.payload)} changes the plan of {key}, which is not told"
                self.changes += 1
            if what == "removal":
                assert event.aggregate_id not in {each.volume_id for each in plan.volumes if each.desired == "present"}
                self.removals += 1

    def _now(self) -> dict[str, Any]:
        nodes = {node_key(each): node_plan(self.views, each, log_id="", generation=0) for each in NODES}
        return {**nodes, EDGE: route_plan(self.views, "edge-a", log_id="", generation=0)}


more_operations = st.one_of(
    operations,
    st.tuples(st.just("resize"), st.integers(1, 4)),
    st.tuples(st.just("route"), st.sampled_from(("a.example", "b.example"))),
    st.tuples(st.just("no volume")),
    st.tuples(st.just("no route")),
)


def change(world: World, declared: dict[str, Any], operation: tuple[Any, ...]) -> None:
    present = world.views["resources"]
    match operation:
        case ("resize", size):
            declared_volume = volume()
            world.commit(replace(declared_volume, spec={**declared_volume.spec, "size_bytes": size << 30}))
        case ("route", hostname):
            world.commit(route(hostname))
        case ("no volume",) if str(volume().id) in present and "db" not in declared:
            world.commit(remove=[volume().id])
        case ("no route",) if str(route().id) in present:
            world.commit(remove=[route().id])
        case ("no volume",) | ("no route",):
            pass
        case _:
            _apply(world, declared, operation)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(more_operations, min_size=5, max_size=40))
def test_S3_every_event_of_the_deciders_that_changes_a_plan_is_told(steps: list[tuple[Any, ...]]) -> None:
    world, declared = World(), dict[str, Any]()
    for node_id in NODES:
        world.node(node_id)
    world.commit(secret("1"), volume(), route())
    declared["db"] = process(volumes=(VolumeUse("data", "/data"),), memory_mib=256)
    declared["web"] = process(replicas=2, ports=web_port(), secrets=("keys",), memory_mib=128)
    world.commit(app(**declared))
    world.run_pass()
    machines = Machines()
    for step in steps:
        change(world, declared, step)
    for event in world.events:
        machines.hear(event)
    assert machines.changes > 2


class Fleet:
    """Writes events that fit what is there: of volumes that move and come again, of instances, of routes. `rng` chooses
    everything."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._numbers = 0
        self.machines = Machines()

    def step(self) -> None:
        kind = self._rng.choice((self._volume, self._volume, self._instance, self._route))
        kind()

    def _write(self, event: NewEvent) -> None:
        self._numbers += 1
        self.machines.hear(
            Event(
                self._numbers,
                "2026-01-01T00:00:00.000Z",
                event.aggregate_type,
                event.aggregate_id,
                self._numbers,
                event.event_type,
                event.event_version,
                f"c-{self._numbers}",
                CAUSE,
                event.payload,
            )
        )

    def _volume(self) -> None:
        name = f"acme/shop/prod/site/volume/{self._rng.choice('vw')}"
        row = self.machines.views["resources"].get(name)
        waiting = [each for each in self.machines.views["tombstones"].values() if each["resource_id"] == name]
        if waiting and self._rng.random() < 0.4:
            self._report(name, self._rng.choice(waiting)["node_id"], self._rng.choice(("deleted", "failed")))
        elif row is None:
            self._write(new_event("volume.created", resource_id=name))
        else:
            self._present_volume(name, row["home_node"])

    def _present_volume(self, name: str, home: str) -> None:
        about = {"resource_id": name, "node_id": home}
        match self._rng.choice(("place", "resize", "move", "mark", "retain", "delete", "report")):
            case "place":
                node_id = self._rng.choice(NODES)
                self._write(new_event("volume.placed", resource_id=name, node_id=node_id, previous_node_id=home))
            case "resize":
                spec = {**SPECS["volume"], "size_bytes": self._rng.randint(1, 5)}
                self._write(new_event("volume.updated", **about, spec=spec))
            case "move" | "mark" | "retain" as what:
                past = {"move": "moved", "mark": "marked", "retain": "retained"}[what]
                self._write(new_event(f"volume.{past}", resource_id=name))
            case "delete":
                self._write(new_event("volume.deleted", **about))
            case _ if home:
                self._report(name, home, "available")

    def _report(self, name: str, node_id: str, status: str) -> None:
        row = self.machines.views["resources"].get(name)
        if row is None or row["home_node"] != node_id or allowed(VOLUME, row["status"], status):
            self._write(new_event("volume.status_changed", resource_id=name, node_id=node_id, status=status))

    def _instance(self) -> None:
        name = f"i-{self._rng.choice('12')}"
        row = self.machines.views["instances"].get(name)
        node_id = row["node_id"] if row else self._rng.choice(NODES)
        about = {"instance_id": name, "node_id": node_id, "app": APP}
        match self._rng.choice(("allocate", "want", "report", "report")):
            case "allocate":
                volume_id = f"acme/shop/prod/site/volume/{self._rng.choice('vw')}"
                sample = new_event("instance.allocated").payload["workload"]
                workload = {**sample, "mounts": [{"volume_id": volume_id, "path": "/data", "read_only": False}]}
                epoch = row["epoch"] + 1 if row else 1
                self._write(new_event("instance.allocated", **about, epoch=epoch, process="web", workload=workload))
            case "want" if row and row["desired"] != "stopped":
                desired = "stopped" if row["desired"] == "draining" else self._rng.choice(("draining", "stopped"))
                self._write(new_event("instance.desired_state_changed", **about, desired=desired))
            case "report" if row and row["status"] != "stopped":
                status = self._rng.choice(("ready", "unready", "failed", "stopped"))
                told_now = {**about, "epoch": row["epoch"], "status": status}
                self._write(new_event("instance.status_changed", **told_now))

    def _route(self) -> None:
        name = f"acme/shop/prod/site/route/{self._rng.choice('rs')}"
        row = self.machines.views["resources"].get(name)
        spec = {**SPECS["route"], "hostname": self._rng.choice(("a.example", "b.example"))}
        what = self._rng.choice(("updated", "moved", "marked", "deleted")) if row else "created"
        specs = {"created": {"spec": spec}, "updated": {"spec": spec}}.get(what, {})
        self._write(new_event(f"route.{what}", resource_id=name, **specs))


@settings(max_examples=60, deadline=None)
@given(rng=st.randoms(use_true_random=False), steps=st.integers(20, 120))
def test_S3_every_event_that_could_change_a_plan_is_told(rng: random.Random, steps: int) -> None:
    fleet = Fleet(rng)
    for _ in range(steps):
        fleet.step()
    assert fleet.machines.changes > 0


def test_S7_a_home_that_moves_is_a_removal_for_the_one_and_a_change_for_the_other() -> None:
    fleet = Fleet(random.Random(1))
    name = "acme/shop/prod/site/volume/v"
    fleet._write(new_event("volume.created", resource_id=name))
    fleet._write(new_event("volume.placed", resource_id=name, node_id="node-a"))
    fleet._write(new_event("volume.placed", resource_id=name, node_id="node-b", previous_node_id="node-a"))
    assert (fleet.machines.changes, fleet.machines.removals) == (3, 1)
