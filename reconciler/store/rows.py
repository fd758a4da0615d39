"""A row of the table `events` as an `Event`. Called by the event log."""

from __future__ import annotations

from datetime import UTC

import asyncpg

from reconciler.core.events import Cause, Event
from reconciler.core.upcasts import current

COLUMNS = (
    "event_id, occurred_at, aggregate_type, aggregate_id, aggregate_seq, event_type, event_version, command_id,"
    " actor_type, actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id, payload"
)


def event_of(row: asyncpg.Record) -> Event:
    event_id, occurred_at, *values = row
    utc = occurred_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    place, cause, payload = values[:6], values[6:15], values[15]
    return current(Event(event_id, utc, *place, cause=Cause(*cause), payload=payload))  # type: ignore[misc]  # six fields
