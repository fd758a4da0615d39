"""What the agent's pure rules talk about: a machine as it is seen, and what the agent remembers of an instance.

`agent.observe` and the drivers make `Machine`; `agent.ledger` keeps `InstanceRecord` and `VolumeRecord` on disk;
`converge` compares them with the plan. Times named `_s` are seconds of the host's monotonic clock, which counts on over
a restart of the agent but not over one of the host: `InstanceRecord.host_boot_id` tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kit.wire import Endpoint, InstanceStatus, PlannedInstance, PlannedVolume

Presence = Literal["absent", "unknown", "alive"]
"""`unknown`: it cannot be seen whether the machine lives. On that ground nothing is started and nothing forgotten."""

Phase = Literal["new", "starting", "running", "stopping", "failed", "ended"]
"""What the agent last did for an instance.

new       nothing, or an attempt that left nothing behind
starting  the intent to start a machine is on disk; its process was not seen started yet
running   the guest said STARTED
stopping  the stop was asked for; `kill_at_s` is when patience ends
failed    no machine; the next attempt is at `retry_at_s`, or never when that is None
ended     final for this epoch
"""

PHASES_AFTER: dict[Phase, frozenset[Phase]] = {
    "new": frozenset({"starting", "running", "failed", "ended"}),
    "starting": frozenset({"new", "running", "stopping", "failed", "ended"}),
    "running": frozenset({"new", "stopping", "failed", "ended"}),
    "stopping": frozenset({"new", "failed", "ended"}),
    "failed": frozenset({"new", "starting", "running", "ended"}),
    "ended": frozenset({"new"}),
}
"""The table of phases. `failed` to `running`: a machine that was believed dead is found alive and adopted. `new` is
reached from everywhere: a greater epoch begins from nothing."""


@dataclass(frozen=True, slots=True)
class Exit:
    """Why a machine is not, or no longer, running. `reason_code` is one of `kit.wire.REASON_CODES`.

    `permanent`: trying the same again will hardly help, so it is tried again only slowly.
    """

    reason_code: str
    detail: str
    exit_code: int | None = None
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """What can be seen of one instance's machine. `epoch` is 0 if it is not known. `last_words`: what the guest, or the
    kernel, said about its end."""

    presence: Presence
    started: bool = False
    boot_id: str = ""
    last_words: Exit | None = None
    epoch: int = 0


ABSENT = Machine("absent")


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """Everything that the agent has to remember of an instance. One JSON file each.

    `generation`: of the newest plan of `log_id` that named it. `attempt` counts starts. `failures` counts failures in
    a row, `failure_times_s` those of the last window, `restarts` all that were made. `started_once`: the workload's
    process has run at least once in this epoch. `reported` and `reported_reason`: the transition that was told last.
    """

    planned: PlannedInstance
    log_id: str
    generation: int
    host_boot_id: str
    phase: Phase = "new"
    attempt: int = 0
    started_at_s: float | None = None
    ready_since_s: float | None = None
    draining_since_s: float | None = None
    kill_at_s: float | None = None
    retry_at_s: float | None = None
    failures: int = 0
    failure_times_s: tuple[float, ...] = ()
    restarts: int = 0
    started_once: bool = False
    last_exit: Exit | None = None
    boot_id: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    reported: InstanceStatus | None = None
    reported_reason: str = ""

    @property
    def instance_id(self) -> str:
        return self.planned.instance_id

    @property
    def epoch(self) -> int:
        return self.planned.epoch

    @property
    def was_ready(self) -> bool:
        return self.ready_since_s is not None


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """What the agent remembers of a volume. `writer`: the instance whose machine has it open, and that one's epoch."""

    planned: PlannedVolume
    status: Literal["absent", "available", "in_use", "deleted", "failed"] = "absent"
    reason_detail: str = ""
    writer: str = ""
    writer_epoch: int = 0
    reported: str = ""


def move(record: InstanceRecord, phase: Phase) -> InstanceRecord:
    """The record in another phase, if the table allows that step."""
    assert phase == record.phase or phase in PHASES_AFTER[record.phase], (record.phase, phase)
    return replace(record, phase=phase)


def after_host_reboot(record: InstanceRecord, host_boot_id: str) -> InstanceRecord:
    """The record on a host that booted anew: no machine lives, and the old clock readings mean nothing."""
    if record.host_boot_id == host_boot_id:
        return record
    return replace(
        record,
        host_boot_id=host_boot_id,
        started_at_s=None,
        ready_since_s=None,
        draining_since_s=None if record.draining_since_s is None else 0.0,
        kill_at_s=None if record.kill_at_s is None else 0.0,
        retry_at_s=None if record.retry_at_s is None else 0.0,
        failure_times_s=(),
    )


def as_adopted(record: InstanceRecord, machine: Machine) -> InstanceRecord:
    """The record for a living machine of a greater epoch than was remembered: it is taken for what it is."""
    if machine.epoch <= record.epoch:
        return record
    return replace(record, planned=replace(record.planned, epoch=machine.epoch))
