"""Views `snapshots`, `backups` and `restores`: work on the data of volumes, and what came of it. States: `lifecycles`.

A row lives from KIND.created until what was made is gone; one that failed stays, with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.core.copies import WORKS, Work
from reconciler.core.events import Event
from reconciler.core.lifecycles import require
from reconciler.core.projection import Doc, begun, require_version, stamped

_UNMADE: Mapping[str, Any] = {"size_bytes": None, "sha256": "", "object": "", "key_id": ""}


class WorkView:
    def __init__(self, work: Work) -> None:
        self.name = f"{work.kind}s"
        self.aggregate_types = frozenset({work.kind})
        self._work = work
        self._created = f"{work.kind}.created"
        self._told = ("status", *work.made, "reason_code", "reason_detail")

    def keys(self, event: Event) -> frozenset[str]:
        return frozenset({event.aggregate_id}) if event.aggregate_type == self._work.kind else frozenset()

    def fold(self, key: str, row: Doc | None, event: Event) -> Doc | None:
        require_version(event)
        told, work = event.payload, self._work
        if event.event_type == self._created:
            require(work.table, "" if row is None else row["status"], "queued", event)
            start = {"status": "queued", "reason_code": "", "reason_detail": "", "asked_by": event.cause.actor_id}
            return stamped(None, event, {**told, **start, **{each: _UNMADE[each] for each in work.made}})
        row = begun(row, event)
        require(work.table, row["status"], told["status"], event)
        if told["status"] == work.gone:
            return None
        return stamped(row, event, {name: told[name] for name in self._told})


VIEWS = tuple(WorkView(work) for work in WORKS.values())
