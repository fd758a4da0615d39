"""The scheduler's decisions into the log, one scheduler at a time. Called by `reconciler.tasks.scheduler`.

Two things stand guard. The lease's fence (`Fence`) shuts out a scheduler whose term has ended. Within one term the
claim `fence:scheduler` puts the batches into a chain: each frees the token of the one before and takes a new one. So a
batch whose outcome was lost with the connection, and that commits after all when the next pass has already decided on
the same picture, makes that pass look again instead of allocating twice (docs/decisions/0004).
"""

from __future__ import annotations

from collections.abc import Sequence

from kit import logs
from kit.clock import Clock
from reconciler.core.commands import Append, Appended, Fence
from reconciler.core.scheduler.actions import Actions
from reconciler.core.scheduler.record import appends, fenced
from reconciler.handlers.appending import Appending, Recorded, first_conflict, lease_lost, under, why_of
from reconciler.ids import Ids
from reconciler.ports import EventLog, Views

_log = logs.get("handlers")


class ScheduleHandlers(Appending):
    """`_fence`: the token of the batch that this scheduler appended last. When another one has taken the fence since,
    its token is learned, and only pictures that are newer than that are acted upon."""

    def __init__(self, log: EventLog, views: Views, ids: Ids, clock: Clock) -> None:
        super().__init__(log, views, ids, clock)
        self._fence = ""
        self._fence_learned_at = 0

    async def apply_schedule(self, actions: Actions, event_id: int, fence: Fence | None = None) -> Recorded:
        """`event_id`: of the snapshot that was scheduled on. An action that a claim stands against is left out and
        logged: it concerns one instance, the others go on."""
        if event_id < self._fence_learned_at:
            return Recorded(stale=True)
        token = self._ids("fence")
        batch = list(appends(actions, event_id, self._fence or token))
        while batch:
            results = await self._event_log.append(under(fenced(batch, self._fence, token), fence), atomic=True)
            conflict = first_conflict(results)
            if conflict is not None and conflict.kind == "fence":
                raise lease_lost("apply the schedule", conflict)
            if conflict is None:
                self._fence = token
                return Recorded(max(result.last_event_id for result in results if isinstance(result, Appended)))
            if conflict.subject.startswith("fence:"):
                self._fence = conflict.found
                self._fence_learned_at = (await self._event_log.head()).last_event_id
                return Recorded(stale=True)
            if conflict.kind == "version":
                return Recorded(stale=True)
            _log.warning("left out of the schedule", command_id=conflict.command_id, why=why_of(conflict))
            batch = [append for append in batch if append.command_id != conflict.command_id]
        return Recorded()

    async def record_outcomes(self, batch: Sequence[Append], fence: Fence | None = None) -> None:
        """What `reconciler.core.scheduler.convergence` found. A conflict only means that the next pass finds it
        again, or that something newer was applied."""
        if batch:
            await self._event_log.append(under(batch, fence), atomic=False)
