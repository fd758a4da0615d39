"""What a decision about a revision has to know. Gathered by `reconciler.handlers` from the views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reconciler.core.events import NewEvent, newest_version
from reconciler.core.model import ResourceId

Doc = Mapping[str, Any]


@dataclass(frozen=True)
class GitState:
    """Rows of the views. `revision` and `source`: of the revision that is decided. `revisions`: all, or none where
    nobody asks what it takes the place of. What has to be counted or looked up in all rows is, once, when the first
    command of the revision asks."""

    resources: Mapping[str, Doc]
    releases: Mapping[str, Doc]
    deployments: Mapping[str, Doc]
    revision: Doc | None = None
    source: Doc | None = None
    revisions: Mapping[str, Doc] = field(default_factory=dict)

    def expected(self, resource_id: ResourceId) -> dict[tuple[str, str], int]:
        """0: it does not exist. The log takes that of a deleted one too, whose sequence goes on."""
        row = self.resources.get(str(resource_id))
        return {(resource_id.kind, str(resource_id)): row["aggregate_seq"] if row else 0}

    @property
    def applied_commit(self) -> str:
        return str((self.source or {}).get("applied_commit") or "")

    @property
    def revision_status(self) -> str:
        return str(self.revision["status"]) if self.revision else ""

    def release_count(self, app: str) -> int:
        return self._release_counts[app]

    @cached_property
    def _release_counts(self) -> Counter[str]:
        return Counter(row["app"] for row in self.releases.values())


def resource_event(resource_id: ResourceId, verb: str, **payload: Any) -> NewEvent:
    """KIND.VERB about a declared resource."""
    text = str(resource_id)
    event_type = f"{resource_id.kind}.{verb}"
    about = {"resource_id": text, **payload}
    return NewEvent(resource_id.kind, text, event_type, about, event_version=newest_version(event_type))
