"""What an agent reports of its instances, and what an operator does to one. Called by `reconciler.handlers`.

A report is known by (node, instance, epoch, counter): sent twice, it is one event. An agent may speak about its own
instances only, and only about the epoch that was allocated. A report about an instance that is gone is old news: its
`stopped` was recorded before, so it is accepted and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kit.canonical import digest
from kit.codec import to_json
from kit.errors import Refusal
from kit.wire import InstanceReport
from reconciler.core.acts import Order, cause_of
from reconciler.core.claims import as_claims, of_instance
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent, newest_version
from reconciler.core.lifecycles import INSTANCE_STATUS, allowed

Doc = Mapping[str, Any]

STATUS, DESIRED = "instance.status_changed", "instance.desired_state_changed"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an instance, the reports of this batch that came before included."""

    row: Doc
    status: str
    counter: int
    seq: int

    @classmethod
    def of(cls, row: Doc) -> Known:
        return cls(row, row["status"], int(row.get("counter") or 0), row["aggregate_seq"])


def decide_report(
    known: Known | None, node_id: str, report: InstanceReport, cause: Cause
) -> tuple[Append, Known] | Refusal | None:
    """The append, and what is known after it."""
    if known is None or _recorded(known, report):
        return None
    refusal = _refusal(known, node_id, report)
    if refusal is not None:
        return refusal
    payload = {"node_id": node_id, "app": known.row["app"], **to_json(report)}
    append = Append(
        command_id=f"report-{node_id}-{report.instance_id}-{report.epoch}-{report.counter}",
        body_hash=digest(payload),
        cause=cause,
        events=(NewEvent("instance", report.instance_id, STATUS, payload, newest_version(STATUS)),),
        expected={("instance", report.instance_id): known.seq},
        free=as_claims(of_instance(known.row)) if _is_gone(known, report) else (),
    )
    return append, Known(known.row, report.status, report.counter, known.seq + 1)


def decide_stop(row: Doc | None, instance_id: str, order: Order) -> Append | Refusal:
    """It drains as long as it may, and ends. What Git says has not changed, so the scheduler puts another in its
    place."""
    attempted = f"stop instance {instance_id}"
    if row is None:
        return Refusal(attempted, "there is no such instance", fix="`trueup status` shows the apps", code="not_found")
    if row["desired"] != "running":
        return Refusal(attempted, f"it shall be {row['desired']} already", code="transition_invalid")
    over = row["status"] == "stopped"
    payload = {
        "instance_id": instance_id,
        "node_id": row["node_id"],
        "app": row["app"],
        "desired": "stopped" if over else "draining",
        "drain_grace_s": row["drain_grace_s"],
        "reason": order.reason,
        "reason_code": "terminated_by_operator",
    }
    return Append(
        command_id=order.command_id,
        body_hash=order.body_hash,
        cause=cause_of(order, row["app"].split("/", 1)[0]),
        events=(NewEvent("instance", instance_id, DESIRED, payload, newest_version(DESIRED)),),
        expected={("instance", instance_id): row["aggregate_seq"]},
        free=as_claims(of_instance(row)) if over else (),
    )


def _recorded(known: Known, report: InstanceReport) -> bool:
    return report.epoch == known.row["epoch"] and report.counter <= known.counter


def _is_gone(known: Known, report: InstanceReport) -> bool:
    return report.status == "stopped" and known.row["desired"] != "running"


def _refusal(known: Known, node_id: str, report: InstanceReport) -> Refusal | None:
    row, attempted = known.row, f"record {report.status} of instance {report.instance_id} from node {node_id}"
    if row["node_id"] != node_id:
        return Refusal(attempted, f"it belongs to node {row['node_id']}", code="instance_foreign")
    if report.epoch != row["epoch"]:
        why = f"the report is of epoch {report.epoch}, the instance is in epoch {row['epoch']}"
        return Refusal(attempted, why, code="epoch_stale")
    if not allowed(INSTANCE_STATUS, known.status, report.status):
        return Refusal(attempted, f"it is {known.status or 'not seen yet'}", code="transition_invalid")
    return None
