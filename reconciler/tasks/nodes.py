"""Which nodes are there. Run by the holder of the lease "nodes"; every controller sends its heartbeats through `heard`.

A node that was silent for `offline_after_s` is set offline; one that is heard again is set active. Silence only counts
while this process was listening (`reconciler.store.heartbeats`), so a controller that was down or paused calls nobody
offline for its own absence. Being heard counts only when a heartbeat really came, to whichever controller: the time of
a node's last one differs from what it was at the look before. A list of silent nodes that does not name a node proves
nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import TrueupError
from kit.waiting import first_of
from kit.wire import Enrolment
from reconciler.core.commands import Fence
from reconciler.handlers import Handlers, Recorded
from reconciler.ports import Views

LOOKS_PER_SILENCE = 12
LOOK_MAX_S = 5.0
"""How often to look: often against the silence that counts, and never more than this apart."""

VIEW_WAIT_S = 5.0

_log = logs.get("nodes")


class Heartbeats(Protocol):
    async def touch(self, node_id: str) -> None: ...

    async def expect(self, node_id: str) -> None: ...

    async def beats(self) -> Mapping[str, datetime]: ...

    async def silent_since(self, seconds: float) -> tuple[str, ...]: ...


class NodeWatch:
    def __init__(
        self,
        handlers: Handlers,
        views: Views,
        heartbeats: Heartbeats,
        clock: Clock,
        rng: random.Random,
        *,
        offline_after_s: float,
    ) -> None:
        self._handlers = handlers
        self._views = views
        self._heartbeats = heartbeats
        self._clock = clock
        self._rng = rng
        self._offline_after_s = offline_after_s
        self._look_every_s = min(LOOK_MAX_S, offline_after_s / LOOKS_PER_SILENCE)
        self._fence: Fence | None = None
        self._beats: Mapping[str, datetime] | None = None
        self._again: set[str] = set()
        self._offline: set[str] = set()
        self._wake = asyncio.Event()

    async def enrol(self, enrolment: Enrolment) -> Recorded:
        """A node that enrols is there. Returns when the views show it: its next question needs its row."""
        recorded = await self._handlers.enrol_node(enrolment)
        await self._views.wait_for(recorded.last_event_id, ("nodes",), VIEW_WAIT_S)
        await self.heard(enrolment.node_id)
        return recorded

    async def heard(self, node_id: str) -> None:
        """A heartbeat came. The node is set active by the next look of the lease's holder: at once if that is this
        controller and the node was offline."""
        await self._heartbeats.touch(node_id)
        if node_id in self._offline:
            self._wake.set()

    async def run(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set. `fence`: of the term in which it runs; nothing is remembered from an older one."""
        self._fence, self._beats, self._again, self._offline = fence, None, set(), set()
        backoff, failures = Backoff(first_s=0.2, cap_s=LOOK_MAX_S), 0
        while not stop.is_set():
            delay_s = self._look_every_s
            try:
                await self.look()
                failures = 0
            except Exception as error:
                failures += 1
                delay_s = min(delay_s, backoff.delay_s(failures, self._rng))
                known = isinstance(error, TrueupError)
                _log.error("look failed", failures=failures, why=str(error), exc=None if known else error)
            await first_of(stop.wait(), self._wake.wait(), self._clock.sleep(delay_s))

    async def look(self) -> None:
        """One look at all nodes."""
        self._wake.clear()
        # The heartbeats last: one that comes in between must not be overlooked.
        silent = set(await self._heartbeats.silent_since(self._offline_after_s))
        beats = await self._heartbeats.beats()
        heard = self._heard_since(beats)
        rows = (await self._views.snapshot(("nodes",))).rows["nodes"]
        self._offline = {node_id for node_id, row in rows.items() if row["state"] == "offline"}
        for node_id in sorted(set(rows) - set(beats)):
            await self._heartbeats.expect(node_id)  # enrolled, and never heard
        for node_id in sorted((silent - heard) & set(rows) - self._offline):
            await self._set(node_id, "offline", f"not heard for {self._offline_after_s:g} s")
        for node_id in sorted(heard & self._offline):
            await self._set(node_id, "active", "heard again")

    def _heard_since(self, beats: Mapping[str, datetime]) -> set[str]:
        """The nodes that were heard since the last look of this term. What is seen for the first time is only noted."""
        before, self._beats = self._beats, beats
        again, self._again = self._again, set()
        if before is None:
            return again
        return again | {
            node_id for node_id, last_at in beats.items() if node_id in before and last_at > before[node_id]
        }

    async def _set(self, node_id: str, state: str, reason: str) -> None:
        """One node that cannot be set stops only itself."""
        try:
            await self._handlers.set_node_state(node_id, state, reason, self._fence)
            _log.info("node state", node_id=node_id, state=state, reason=reason)
        except TrueupError as error:
            if state == "active":
                self._again.add(node_id)
            _log.warning("node state not set", node_id=node_id, state=state, why=str(error))
