"""Copies of a volume's data: snapshots, backups and restores. What `reconciler.core.decide.copies`, the views
`snapshots`, `backups` and `restores` and the claims have in common. Pure.

A snapshot stands on the home node of its volume. A backup is a snapshot, encrypted and uploaded. A restore fills a
volume that has no data yet. Each is work that one node does once: asked for, queued, running, succeeded or failed;
what came of it goes some day. One that failed is not tried again; another one is asked for, with its own id. While a
restore fills a volume it is that volume's only writer: it holds the claim that an instance would have to take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.core.lifecycles import BACKUP, RESTORE, SNAPSHOT, Transitions

REASONS = (
    "volume_not_found",
    "snapshot_not_found",
    "snapshot_not_succeeded",
    "backup_metadata_missing",
    "backup_object_missing",
    "master_key_unavailable",
    "no_capacity",
    "node_not_eligible",
    "integrity_check_failed",
    "fsck_failed",
    "io_failed",
)
"""Why one is refused, or failed; a closed list. The schemas of the events say the same."""


@dataclass(frozen=True, slots=True)
class Work:
    """`kind`: the aggregate. `made`: what only success tells. `gone`: the status after which there is nothing left, ""
    if there is none. `one_per`: of what there is one at work at a time; the claim of that name holds it. `writes`:
    whether it writes the volume of its payload."""

    kind: str
    table: Transitions
    made: tuple[str, ...]
    gone: str
    one_per: str
    writes: bool = False

    @property
    def id_field(self) -> str:
        return f"{self.kind}_id"

    def claims(self, told: Mapping[str, Any]) -> dict[tuple[str, str], str]:
        """What it holds until it is over: (kind, key) -> its id. `told`: its payload or its row."""
        work_id = str(told[self.id_field])
        written = {("volume_writer", str(told["volume_id"])): work_id} if self.writes else {}
        return {(self.kind, str(told[self.one_per])): work_id, **written}


OVER = frozenset({"succeeded", "failed"})
"""The work is done, well or not."""

WORKS: Mapping[str, Work] = {
    work.kind: work
    for work in (
        Work("snapshot", SNAPSHOT, ("size_bytes", "sha256"), "deleted", "volume_id"),
        Work("backup", BACKUP, ("size_bytes", "sha256", "object", "key_id"), "pruned", "snapshot_id"),
        Work("restore", RESTORE, (), "", "volume_id", writes=True),
    )
}
