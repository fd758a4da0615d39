"""Which plan counts, and what it says about each instance. Pure. Called by `agent.loop` and `converge`.

Newest wins: an older generation is refused, the same one is a no-op. A log that was restored from a backup has a new
id: its plans count from then on and those of the earlier log are refused, but its silence stops nothing that the
earlier log asked for, because it may simply not know of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from agent.core.model import InstanceRecord
from kit.errors import Refusal
from kit.wire import NodePlan, PlannedInstance

Want = Literal["running", "draining", "stopped", "gone"]
"""`gone`: a newer plan of the same log does not name it any more: drain, stop, forget."""


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """The plan that counts. `past_log_ids`: logs that were left for good; the newest of them, bounded."""

    plan: NodePlan
    past_log_ids: tuple[str, ...] = ()


PAST_LOGS_MAX = 16


def admit(applied: AppliedPlan | None, incoming: NodePlan, node_id: str) -> AppliedPlan | None:
    """The plan that counts from now on, or None if `incoming` is the one that counts already."""
    attempted = f"apply plan {incoming.log_id}.{incoming.generation}"
    if incoming.node_id != node_id:
        raise Refusal(attempted, f"it is for node {incoming.node_id!r}, this is {node_id!r}", code="plan_foreign")
    if applied is None:
        return AppliedPlan(incoming)
    if incoming.log_id != applied.plan.log_id:
        return _change_log(applied, incoming, attempted)
    if incoming.generation < applied.plan.generation:
        why = f"generation {applied.plan.generation} is applied already"
        raise Refusal(attempted, why, code="plan_older")
    return None if incoming.generation == applied.plan.generation else replace(applied, plan=incoming)


def _change_log(applied: AppliedPlan, incoming: NodePlan, attempted: str) -> AppliedPlan:
    if incoming.log_id in applied.past_log_ids:
        why = f"that log was left for {applied.plan.log_id}"
        raise Refusal(attempted, why, fix="look for a second controller on an old database", code="plan_of_past_log")
    past = (*applied.past_log_ids, applied.plan.log_id)[-PAST_LOGS_MAX:]
    return AppliedPlan(incoming, past)


def wanted(record: InstanceRecord, plan: NodePlan | None, named: PlannedInstance | None) -> Want:
    """What is wanted of an instance. `named` is what `plan` says of it, if it does."""
    if named is not None and named.epoch >= record.epoch:
        return named.desired
    if named is not None or plan is None or not _speaks_for(plan, record):
        return record.planned.desired
    return "gone"


def _speaks_for(plan: NodePlan, record: InstanceRecord) -> bool:
    return plan.log_id == record.log_id and plan.generation > record.generation


def remember(record: InstanceRecord | None, named: PlannedInstance, plan: NodePlan, boot_id: str) -> InstanceRecord:
    """The record after `plan` named the instance. A greater epoch waits until the older machine is gone (`renew`)."""
    if record is None:
        return InstanceRecord(named, plan.log_id, plan.generation, boot_id)
    if named.epoch < record.epoch:
        return record
    planned = named if named.epoch == record.epoch else record.planned
    return replace(record, planned=planned, log_id=plan.log_id, generation=plan.generation)
