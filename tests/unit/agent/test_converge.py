"""Each rule of the pure decisions, on its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.converge import Ledger, converge, decide
from agent.core.model import ABSENT, Exit, InstanceRecord, Machine, VolumeRecord, after_host_reboot, move
from agent.core.plans import AppliedPlan, admit, remember, wanted
from kit.errors import Refusal
from kit.wire import Mount, NodePlan, PlannedInstance, PlannedVolume
from tests.unit.agent.parts import instance, plan, record

ALIVE = Machine("alive", started=True, boot_id="b")
UNKNOWN = Machine("unknown")


def step(have: InstanceRecord, named: PlannedInstance | None, machine: Machine, now_s: float = 100.0) -> str:
    the_plan = plan(5, *((named,) if named else ()))
    return decide(have, the_plan, named, machine, now_s).kind


@pytest.mark.parametrize(
    ("phase", "desired", "machine", "kind"),
    [
        ("new", "running", ABSENT, "start"),
        ("new", "running", UNKNOWN, "nothing"),
        ("new", "running", ALIVE, "adopt"),
        ("starting", "running", ALIVE, "nothing"),
        ("starting", "running", ABSENT, "exited"),
        ("running", "running", ABSENT, "exited"),
        ("running", "running", UNKNOWN, "nothing"),
        ("running", "running", ALIVE, "nothing"),
        ("failed", "running", ALIVE, "adopt"),
        ("failed", "running", ABSENT, "nothing"),
        ("ended", "running", ABSENT, "nothing"),
        ("ended", "running", ALIVE, "kill"),
        ("stopping", "running", ABSENT, "finish"),
        ("new", "stopped", ABSENT, "finish"),
        ("running", "stopped", ALIVE, "stop"),
        ("running", "stopped", UNKNOWN, "nothing"),
        ("running", "stopped", ABSENT, "finish"),
        ("failed", "stopped", ABSENT, "finish"),
        ("ended", "stopped", ABSENT, "nothing"),
        ("starting", "draining", ALIVE, "stop"),
        ("running", "draining", ABSENT, "finish"),
    ],
)
def test_one_step(phase: str, desired: str, machine: Machine, kind: str) -> None:
    named = instance(desired=desired)  # type: ignore[arg-type]  # a table of words
    assert step(record(named, phase=phase), named, machine) == kind


def test_a_failed_instance_waits_for_its_time() -> None:
    failed = record(phase="failed", retry_at_s=130.0)
    action = decide(failed, plan(5, instance()), instance(), ABSENT, 100.0)
    assert (action.kind, action.at_s) == ("restart_at", 130.0)
    assert step(failed, instance(), ABSENT, 130.0) == "start"


def test_what_served_is_drained_for_its_grace_and_then_stopped() -> None:
    named = instance(desired="draining", grace_s=10.0)
    serving = record(named, phase="running", ready_since_s=1.0)
    assert step(serving, named, ALIVE) == "drain"
    draining = replace(serving, draining_since_s=100.0)
    action = decide(draining, plan(5, named), named, ALIVE, 105.0)
    assert (action.kind, action.at_s) == ("nothing", 110.0)
    assert step(draining, named, ALIVE, 110.0) == "stop"


def test_a_drain_that_is_taken_back_serves_again() -> None:
    draining = record(phase="running", ready_since_s=1.0, draining_since_s=99.0)
    assert step(draining, instance(), ALIVE) == "undrain"


def test_a_stop_that_is_not_obeyed_becomes_a_kill() -> None:
    named = instance(desired="stopped")
    stopping = record(named, phase="stopping", kill_at_s=115.0)
    assert step(stopping, named, ALIVE, 114.9) == "nothing"
    assert step(stopping, named, ALIVE, 115.0) == "kill"


def test_what_is_not_ready_in_time_is_overdue() -> None:
    named = instance(start_timeout_s=20.0)
    starting = record(named, phase="starting", started_at_s=80.0)
    assert step(starting, named, ALIVE, 99.9) == "nothing"
    assert step(starting, named, ALIVE, 100.0) == "overdue"
    assert step(replace(starting, ready_since_s=90.0), named, ALIVE, 100.0) == "nothing"


def test_an_unnamed_instance_is_drained_stopped_and_removed() -> None:
    serving = record(phase="running", ready_since_s=1.0)
    assert step(serving, None, ALIVE) == "drain"
    assert step(replace(serving, draining_since_s=1.0), None, ALIVE) == "stop"
    assert step(replace(serving, phase="stopping"), None, ABSENT) == "finish"
    assert step(replace(serving, phase="ended"), None, ABSENT) == "remove"


def test_the_silence_of_another_log_stops_nothing() -> None:
    serving = record(phase="running", ready_since_s=1.0)
    silent = plan(900, log_id="log-2")
    assert decide(serving, silent, None, ALIVE, 100.0).kind == "nothing"
    assert wanted(serving, silent, None) == "running"


def test_no_plan_at_all_keeps_things_going() -> None:
    assert decide(record(phase="running"), None, None, ABSENT, 100.0).kind == "exited"
    assert decide(record(phase="failed", retry_at_s=1.0), None, None, ABSENT, 100.0).kind == "start"


def test_a_greater_epoch_starts_when_the_older_machine_is_gone() -> None:
    newer = instance(epoch=2)
    assert step(record(phase="running"), newer, ALIVE) == "stop"
    assert step(record(phase="running"), newer, UNKNOWN) == "nothing"
    assert step(record(phase="running"), newer, ABSENT) == "renew"
    assert step(record(phase="ended"), newer, ABSENT) == "renew"


def test_an_older_epoch_is_not_listened_to() -> None:
    have = record(instance(epoch=2), phase="running")
    older = instance(epoch=1, desired="stopped")
    assert step(have, older, ALIVE) == "nothing"
    assert remember(have, older, plan(9, older), "boot-1") is have


def test_plans_are_admitted_by_generation_node_and_log() -> None:
    applied = admit(None, plan(5), "node-a")
    assert applied is not None
    assert admit(applied, plan(5), "node-a") is None
    newer = admit(applied, plan(6), "node-a")
    assert newer is not None
    for refused, code in (
        (plan(4), "plan_older"),
        (NodePlan("node-b", "log-1", 9), "plan_foreign"),
    ):
        with pytest.raises(Refusal) as caught:
            admit(applied, refused, "node-a")
        assert caught.value.code == code


def test_a_log_that_was_left_does_not_come_back() -> None:
    moved = admit(AppliedPlan(plan(50)), plan(3, log_id="log-2"), "node-a")
    assert moved is not None
    assert moved.plan.generation == 3
    with pytest.raises(Refusal) as caught:
        admit(moved, plan(51), "node-a")
    assert caught.value.code == "plan_of_past_log"


VOLUME = PlannedVolume("o/p/e/a/volume/d", "d", 1 << 20, "present")
TOMBSTONE = replace(VOLUME, desired="deleted")


def test_only_a_tombstone_deletes_a_volume_and_only_a_free_one() -> None:
    known = {VOLUME.volume_id: VolumeRecord(VOLUME, "available")}
    user = record(instance(mounts=(Mount(VOLUME.volume_id, "/data"),)), phase="running")
    ledger = Ledger({"i-1": user}, known)
    assert converge(plan(5), {}, Ledger({}, known), 0.0).delete_volume == ()
    assert converge(plan(5, volumes=(TOMBSTONE,)), {}, Ledger({}, known), 0.0).delete_volume == (TOMBSTONE,)
    for machine in (ALIVE, UNKNOWN):
        assert converge(plan(5, volumes=(TOMBSTONE,)), {"i-1": machine}, ledger, 0.0).delete_volume == ()
    assert converge(plan(5, volumes=(TOMBSTONE,)), {"i-1": ABSENT}, ledger, 0.0).delete_volume == (TOMBSTONE,)


def test_a_volume_is_made_grown_and_made_again() -> None:
    larger = replace(VOLUME, size_bytes=2 << 20)
    for have, wanted_volume, made in (
        (None, VOLUME, True),
        (VolumeRecord(VOLUME, "available"), VOLUME, False),
        (VolumeRecord(VOLUME, "available"), larger, True),
        (VolumeRecord(larger, "available"), VOLUME, False),
        (VolumeRecord(TOMBSTONE, "deleted"), VOLUME, True),
        (VolumeRecord(VOLUME, "failed"), VOLUME, True),
    ):
        ledger = Ledger({}, {VOLUME.volume_id: have} if have else {})
        todo = converge(plan(5, volumes=(wanted_volume,)), {}, ledger, 0.0)
        assert bool(todo.ensure_volume) is made, have


def test_the_whole_node_in_named_lists() -> None:
    named = (instance("i-new"), instance("i-on"), instance("i-off", "stopped"))
    ledger = Ledger(
        {
            "i-on": record(named[1], phase="running"),
            "i-off": record(named[2], phase="running"),
            "i-gone": record(instance("i-gone"), phase="ended"),
        }
    )
    machines = {"i-new": ABSENT, "i-on": ALIVE, "i-off": ALIVE, "i-gone": ABSENT}
    todo = converge(plan(5, *named), machines, ledger, 100.0)
    assert [a.instance_id for a in todo.start] == ["i-new"]
    assert [a.instance_id for a in todo.stop] == ["i-off"]
    assert [a.instance_id for a in todo.remove] == ["i-gone"]
    assert [a.instance_id for a in todo.nothing] == ["i-on"]
    assert not todo.quiet()


def test_clock_readings_of_an_earlier_boot_of_the_host_count_for_nothing() -> None:
    old = record(
        phase="failed",
        retry_at_s=9999.0,
        draining_since_s=5000.0,
        failure_times_s=(1.0,),
        last_exit=Exit("vm_died", ""),
    )
    new = after_host_reboot(old, "boot-2")
    assert (new.retry_at_s, new.draining_since_s, new.failure_times_s) == (0.0, 0.0, ())
    assert after_host_reboot(old, "boot-1") is old


def test_phases_follow_their_table() -> None:
    with pytest.raises(AssertionError):
        move(record(phase="ended"), "running")
