"""Plan, machines as seen, memory and time in; named lists of actions out. Pure.

`agent.loop` calls `converge` to see the whole node; each `agent.actors.InstanceActor` calls `decide` for its own
instance with what it sees in its own turn, so that no decision is older than the step before it.

Rules: unknown is not absent, and starts or ends nothing. At most one machine per instance: `start` only when none is.
An older epoch never starts; a greater one starts when the older machine is gone. Only a tombstone deletes a volume, and
only when no machine has it open. What is as wanted gets `nothing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from agent.core.model import InstanceRecord, Machine, VolumeRecord
from agent.core.plans import Want, remember, wanted
from kit.wire import NodePlan, PlannedInstance, PlannedVolume

Kind = Literal[
    "start",
    "adopt",
    "renew",
    "drain",
    "undrain",
    "stop",
    "kill",
    "overdue",
    "exited",
    "finish",
    "remove",
    "restart_at",
    "nothing",
]
LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Action:
    """One step for one instance. `at_s`: when to look again if nothing happens before; None: only when it does."""

    kind: Kind
    instance_id: str
    reason: str
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Convergence:
    """What to do now, by name, in the order of ids. A test can print it and a person can judge it.

    adopt: a live machine that the memory believed gone; renew: begin a greater epoch; undrain: serve again; overdue: it
    did not get ready in time; exited: it ended unasked; finish: it ended as asked; restart_at: start it later.
    """

    start: tuple[Action, ...] = ()
    adopt: tuple[Action, ...] = ()
    renew: tuple[Action, ...] = ()
    drain: tuple[Action, ...] = ()
    undrain: tuple[Action, ...] = ()
    stop: tuple[Action, ...] = ()
    kill: tuple[Action, ...] = ()
    overdue: tuple[Action, ...] = ()
    exited: tuple[Action, ...] = ()
    finish: tuple[Action, ...] = ()
    remove: tuple[Action, ...] = ()
    restart_at: tuple[Action, ...] = ()
    nothing: tuple[Action, ...] = ()
    ensure_volume: tuple[PlannedVolume, ...] = ()
    delete_volume: tuple[PlannedVolume, ...] = ()
    forget_volume: tuple[str, ...] = ()

    def quiet(self) -> bool:
        """Nothing is to be done until something happens or the time comes."""
        passive = ("nothing", "restart_at")
        return not any(getattr(self, f.name) for f in fields(self) if f.name not in passive)


@dataclass(frozen=True, slots=True)
class Ledger:
    instances: Mapping[str, InstanceRecord] = field(default_factory=dict)
    volumes: Mapping[str, VolumeRecord] = field(default_factory=dict)


def converge(
    plan: NodePlan | None, machines: Mapping[str, Machine], ledger: Ledger, now_s: float, host_boot_id: str = ""
) -> Convergence:
    """Everything that the node has to do now. An instance that `machines` does not name was not seen: unknown."""
    named = {each.instance_id: each for each in plan.instances} if plan else {}
    lists: dict[str, list[Action]] = {}
    for instance_id in sorted(named.keys() | ledger.instances.keys()):
        record = ledger.instances.get(instance_id)
        if plan is not None and instance_id in named:
            record = remember(record, named[instance_id], plan, host_boot_id)
        assert record is not None, instance_id
        machine = machines.get(instance_id, Machine("unknown"))
        action = decide(record, plan, named.get(instance_id), machine, now_s)
        lists.setdefault(action.kind, []).append(action)
    ensure, delete, forget = _volumes(plan, machines, ledger)
    by_kind: dict[str, Any] = {kind: tuple(actions) for kind, actions in lists.items()}
    return Convergence(ensure_volume=ensure, delete_volume=delete, forget_volume=forget, **by_kind)


def decide(
    record: InstanceRecord, plan: NodePlan | None, named: PlannedInstance | None, machine: Machine, now_s: float
) -> Action:
    """The next step for one instance."""
    want = wanted(record, plan, named)
    if machine.presence == "unknown":
        return _act("nothing", record, "it cannot be seen whether its machine lives", now_s + LOOK_AGAIN_S)
    if named is not None and named.epoch > record.epoch:
        return _make_way(record, named, machine, now_s)
    if machine.presence == "absent":
        return _without_machine(record, want, named, now_s)
    if record.phase == "ended":
        return _act("kill", record, "its machine lives although it ended")
    if 0 < machine.epoch < record.epoch:
        return _act("kill", record, f"a machine of epoch {machine.epoch} lives")
    if record.phase == "stopping":
        return _await_stop(record, now_s)
    return _keep_running(record, now_s) if want == "running" else _wind_down(record, want, now_s)


def _make_way(record: InstanceRecord, named: PlannedInstance, machine: Machine, now_s: float) -> Action:
    """A greater epoch is planned: the machine of this one goes first."""
    if machine.presence == "absent":
        return _act("renew", record, f"epoch {named.epoch} replaces {record.epoch}")
    if record.phase == "stopping":
        return _await_stop(record, now_s)
    return _act("stop", record, f"epoch {named.epoch} replaces {record.epoch}")


def _without_machine(record: InstanceRecord, want: Want, named: PlannedInstance | None, now_s: float) -> Action:
    if record.phase == "ended":
        return _act("nothing" if named else "remove", record, "it has ended")
    if want != "running" or record.phase == "stopping":
        return _act("finish", record, "its machine is gone, as wanted")
    if record.phase in ("starting", "running"):
        return _act("exited", record, "its machine is gone, unasked")
    if record.phase == "new":
        return _act("start", record, "it has no machine")
    if record.retry_at_s is None:
        return _act("nothing", record, "its restart policy says no")
    if now_s < record.retry_at_s:
        return _act("restart_at", record, "it waits for its next try", record.retry_at_s)
    return _act("start", record, "it is time for the next try")


def _keep_running(record: InstanceRecord, now_s: float) -> Action:
    if record.phase in ("new", "failed"):
        return _act("adopt", record, "its machine lives")
    if record.draining_since_s is not None:
        return _act("undrain", record, "it is wanted again")
    deadline_s = _ready_deadline_s(record)
    if deadline_s is not None and now_s >= deadline_s:
        return _act("overdue", record, f"it was not ready after {record.planned.workload.start_timeout_s:.0f} s")
    return _act("nothing", record, "it runs as wanted", deadline_s)


def _ready_deadline_s(record: InstanceRecord) -> float | None:
    if record.was_ready or record.started_at_s is None:
        return None
    return record.started_at_s + record.planned.workload.start_timeout_s


def _wind_down(record: InstanceRecord, want: Want, now_s: float) -> Action:
    """A live machine that is not wanted. One that never served has nothing to drain."""
    if want == "stopped" or not record.was_ready:
        return _act("stop", record, f"it is wanted {want}")
    if record.draining_since_s is None:
        return _act("drain", record, f"it is wanted {want}")
    stop_at_s = record.draining_since_s + record.planned.drain_grace_s
    if now_s >= stop_at_s:
        return _act("stop", record, f"{record.planned.drain_grace_s:.0f} s to drain are over")
    return _act("nothing", record, "it drains", stop_at_s)


def _await_stop(record: InstanceRecord, now_s: float) -> Action:
    if record.kill_at_s is None or now_s >= record.kill_at_s:
        return _act("kill", record, "it did not stop in time")
    return _act("nothing", record, "it stops", record.kill_at_s)


def _act(kind: Kind, record: InstanceRecord, reason: str, at_s: float | None = None) -> Action:
    return Action(kind, record.instance_id, reason, at_s)


def _volumes(
    plan: NodePlan | None, machines: Mapping[str, Machine], ledger: Ledger
) -> tuple[tuple[PlannedVolume, ...], tuple[PlannedVolume, ...], tuple[str, ...]]:
    """Those to make, those to delete, and the deleted ones that the plan does not name any more."""
    planned = {each.volume_id: each for each in plan.volumes} if plan else {}
    busy = volumes_in_use(machines, ledger)
    ensure = [v for v in planned.values() if v.desired == "present" and _lacks(v, ledger.volumes.get(v.volume_id))]
    delete = [
        v
        for v in planned.values()
        if v.desired == "deleted" and v.volume_id not in busy and _status(ledger, v.volume_id) != "deleted"
    ]
    forget = [key for key, record in ledger.volumes.items() if record.status == "deleted" and key not in planned]
    return tuple(ensure), tuple(delete), tuple(forget)


def volumes_in_use(machines: Mapping[str, Machine], ledger: Ledger) -> frozenset[str]:
    """Volumes that a machine has, or may have, open: an unseen machine counts as one that lives."""
    return frozenset(
        mount.volume_id
        for instance_id, record in ledger.instances.items()
        if machines.get(instance_id, Machine("unknown")).presence != "absent"
        for mount in record.planned.workload.mounts
    )


def _lacks(volume: PlannedVolume, record: VolumeRecord | None) -> bool:
    return (
        record is None
        or record.status in ("absent", "deleted", "failed")
        or record.planned.size_bytes < volume.size_bytes
    )


def _status(ledger: Ledger, volume_id: str) -> str:
    record = ledger.volumes.get(volume_id)
    return record.status if record else "absent"
