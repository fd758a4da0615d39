"""Processes that mount a volume: one at most, on the volume's home, the old one stopped before the new one starts."""

from __future__ import annotations

import pytest

from reconciler.core.commands import Append
from reconciler.core.decide.copies import Progress, Restoring, ask_restore, decide_progress
from reconciler.core.events import Cause
from reconciler.core.model import VolumeUse
from reconciler.core.scheduler.record import appends
from tests.unit.scheduler.world import World, app, process, volume

USE = (VolumeUse("data", "/data"),)


@pytest.fixture
def world() -> World:
    made = World()
    made.node("node-a")
    made.node("node-b")
    return made


def test_the_first_instance_gives_the_volume_its_home(world: World) -> None:
    world.commit(volume(), app(db=process(volumes=USE)))
    actions = world.run_pass()
    assert [each.node_id for each in actions.place_volume] == [each.node_id for each in actions.allocate]
    row = world.views["resources"][str(volume().id)]
    assert row["home_node"] == actions.allocate[0].node_id
    assert world.log.claims["volume_writer", str(volume().id)] == actions.allocate[0].instance_id


def test_the_old_one_is_drained_and_stopped_before_the_new_one(world: World) -> None:
    world.commit(volume(), app(db=process("v1", volumes=USE)))
    world.settle()
    (old,) = world.ready("db")
    world.commit(volume(), app(db=process("v2", volumes=USE)))
    first = world.run_pass()
    assert ([each.instance_id for each in first.drain], first.allocate) == ([old["instance_id"]], ())
    world.report(old["instance_id"], "draining")
    assert len(world.run_pass()) == 0, "it waits, and has nothing to complain of"
    world.report(old["instance_id"], "stopped")
    (fresh,) = world.run_pass().allocate
    assert fresh.node_id == old["node_id"]
    world.settle()
    assert world.deployment()["status"] == "succeeded"


def test_the_old_one_is_not_drained_for_one_that_has_no_place(world: World) -> None:
    world.commit(volume(), app(db=process("v1", volumes=USE)))
    world.settle()
    world.commit(app(db=process("v2", volumes=USE, memory_mib=8192)))
    actions = world.run_pass()
    assert not actions.drain
    assert [each.reason for each in actions.unschedulable] == ["no_capacity_memory"]


def test_never_more_than_one(world: World) -> None:
    world.commit(volume(), app(db=process(volumes=USE, replicas=3)))
    world.settle()
    assert len(world.instances("db")) == 1
    assert world.deployment()["status"] == "succeeded"


def test_it_stays_with_a_node_that_is_offline_and_that_is_said(world: World) -> None:
    world.commit(volume(), app(db=process(volumes=USE)))
    world.settle()
    (row,) = world.ready("db")
    world.node_state(row["node_id"], "offline")
    actions = world.run_pass()
    assert (actions.allocate, actions.stop, actions.drain) == ((), (), ())
    assert [each.reason for each in actions.unschedulable] == ["volume_home_node_offline"]
    world.node_state(row["node_id"], "active")
    world.settle()
    assert [each["instance_id"] for each in world.ready("db")] == [row["instance_id"]]
    assert world.app_row()["unschedulable"] == {}


def test_a_volume_that_another_process_writes_is_in_use(world: World) -> None:
    world.commit(volume(), app(db=process(volumes=USE)))
    world.settle()
    world.commit(app(db=process(volumes=USE), extra=process(volumes=USE)))
    actions = world.run_pass()
    assert [(each.process, each.reason) for each in actions.unschedulable] == [("extra", "volume_in_use")]


def test_a_volume_that_is_not_declared_is_missing(world: World) -> None:
    world.commit(app(db=process(volumes=USE)))
    assert [each.reason for each in world.run_pass().unschedulable] == ["volume_missing"]


def test_volumes_with_different_homes_have_no_node(world: World) -> None:
    both = (VolumeUse("data", "/data"), VolumeUse("logs", "/logs"))
    world.commit(volume(), volume("logs"), app(db=process(volumes=USE), log=process(volumes=both[1:])))
    world.settle()
    world.commit(remove=[app(db=process()).id])
    world.settle()
    homes = {world.views["resources"][str(volume(name).id)]["home_node"] for name in ("data", "logs")}
    assert len(homes) == 2
    world.commit(app(db=process(volumes=both)))
    assert [each.reason for each in world.run_pass().unschedulable] == ["volume_locality_no_node"]


def test_a_volume_declared_anew_avoids_the_node_where_the_old_data_still_is(world: World) -> None:
    world.commit(volume(), app(db=process(volumes=USE)))
    world.settle()
    home = world.views["resources"][str(volume().id)]["home_node"]
    world.commit(remove=[volume().id, app(db=process()).id])
    world.settle()
    assert set(world.views["tombstones"]) == {f"{volume().id}@{home}"}
    world.commit(volume(), app(db=process(volumes=USE)))
    world.settle()
    assert world.views["resources"][str(volume().id)]["home_node"] != home


def restore(world: World) -> Append:
    """Of the volume, which nothing has used yet, from a snapshot on node-a."""
    volume_id = str(volume().id)
    row = world.views["resources"][volume_id]
    origin = {"volume_id": volume_id, "node_id": "node-a", "volume_bytes": 1, "status": "succeeded", "aggregate_seq": 0}
    wanted = Restoring("snapshot", "s-1", origin, volume_id, row, world.views["nodes"]["node-a"])
    asked = ask_restore("w-1", wanted, Cause("user", "ann", row["org"]))
    assert isinstance(asked, Append)
    return asked


def tell(world: World, status: str) -> None:
    row, volume_row = world.views["restores"]["w-1"], world.views["resources"][str(volume().id)]
    cause = Cause("service_principal", "node:node-a", volume_row["org"])
    told = decide_progress("restore", row, "node-a", Progress(status), cause, volume_row)
    assert isinstance(told, Append)
    world.append([told])


@pytest.mark.parametrize("read_only", [False, True])
def test_nothing_that_uses_a_volume_is_placed_while_a_restore_fills_it(world: World, read_only: bool) -> None:
    world.commit(volume(), app(db=process(volumes=(VolumeUse("data", "/data", read_only=read_only),))))
    world.append([restore(world)])
    actions = world.run_pass()
    assert (actions.allocate, actions.place_volume) == ((), ())
    assert [(each.reason, each.message) for each in actions.unschedulable] == [
        ("volume_in_use", f"volume {volume().id} is being filled by restore w-1")
    ]
    tell(world, "running")
    assert len(world.run_pass()) == 0
    tell(world, "succeeded")
    (fresh,) = world.run_pass().allocate
    assert fresh.node_id == "node-a", "where its data is"
    assert world.log.claims.get(("volume_writer", str(volume().id))) == (None if read_only else fresh.instance_id)


def test_a_pass_that_did_not_know_of_the_restore_does_not_get_through(world: World) -> None:
    world.commit(volume(), app(db=process(volumes=USE)))
    late = appends(world.decide(), world.snapshot.event_id, "")
    world.append([restore(world)])
    conflict = world.try_append(late)
    assert conflict is not None and conflict.subject == f"volume_writer:{volume().id}"


def test_a_restore_that_comes_after_the_pass_is_refused(world: World) -> None:
    world.commit(volume(), app(db=process(volumes=USE)))
    asked = restore(world)
    world.run_pass()
    assert world.try_append([asked]) is not None
