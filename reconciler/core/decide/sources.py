"""A source becomes known. Called by `reconciler.handlers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.canonical import digest
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent, newest_version
from reconciler.core.revisions import Source

REGISTERED = "source.registered"


def decide_source(row: Mapping[str, Any] | None, source: Source, cause: Cause) -> Append | None:
    """source.registered when it is new, was removed, or anything of it changed."""
    names = ("source_id", "org", "project", "url", "branch", "path")
    payload = {name: getattr(source, name) for name in names}
    if row is not None and not row.get("removed") and all(row.get(name) == value for name, value in payload.items()):
        return None
    seq, before = (row["aggregate_seq"], row["org"]) if row else (0, "")
    told = {**payload, "previous_org": before}
    event = NewEvent("source", source.source_id, REGISTERED, told, newest_version(REGISTERED))
    return Append(
        command_id=f"source-{digest([payload, seq], length=32)}",
        body_hash=digest(payload),
        cause=cause,
        events=(event,),
        expected={("source", source.source_id): seq},
    )
