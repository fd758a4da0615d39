"""What is told of an instance: transitions only. Pure. Called by `agent.actors`; `agent.report` sends the result."""

from __future__ import annotations

from dataclasses import replace

from agent.core.model import Exit, InstanceRecord
from kit.wire import InstanceReport, InstanceStatus

DETAIL_CHARS_MAX = 1000


def transition(
    record: InstanceRecord, status: InstanceStatus, cause: Exit | None, observed_at: str
) -> tuple[InstanceRecord, InstanceReport | None]:
    """The record with what was told last, and the report if this is news. The reporter gives it its counter."""
    reason = cause.reason_code if cause else ""
    said = f"{record.epoch} {record.attempt} {reason}"
    if (record.reported, record.reported_reason) == (status, said):
        return record, None
    report = InstanceReport(
        instance_id=record.instance_id,
        epoch=record.epoch,
        counter=0,
        status=status,
        observed_at=observed_at,
        boot_id=record.boot_id,
        reason_code=reason,
        reason_detail=cause.detail[:DETAIL_CHARS_MAX] if cause else "",
        exit_code=cause.exit_code if cause else None,
        restarts=record.restarts,
        endpoints=record.endpoints,
    )
    return replace(record, reported=status, reported_reason=said), report
