"""The removal of a source into the log. Called by `reconciler.followed_sources`, which holds the source's lease."""

from __future__ import annotations

from dataclasses import replace

from kit.errors import Refusal
from reconciler.core.commands import Append, Fence
from reconciler.core.decide.git.source_removal import Removal, decide_removal
from reconciler.handlers.appending import Appending, Recorded

_VIEWS = ("resources", "sources")


class SourceRemovalHandlers(Appending):
    async def remove_source(self, removal: Removal, fence: Fence) -> Recorded:
        """All of it in one append. `Refusal` when the order does not fit what is there."""

        async def decide() -> Append | Refusal | None:
            snapshot = await self._fresh(_VIEWS)
            rows = [
                row
                for row in snapshot.rows["resources"].values()
                if (row.get("origin") or {}).get("source_id") == removal.source_id
            ]
            decision = decide_removal(removal, snapshot.rows["sources"].get(removal.source_id), rows)
            return replace(decision, fence=fence) if isinstance(decision, Append) else decision

        return await self._one(f"remove the source {removal.source_id}", _VIEWS, decide)
