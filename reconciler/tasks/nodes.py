"""Which nodes are there. Started by `reconciler.bootstrap`, which also sends every heartbeat through `heard`.

A node that was silent for `offline_after_s` is set offline; one that is heard again is set active. Silence only counts
while this process was listening (`reconciler.store.heartbeats`), so a controller that was down or paused calls nobody
offline for its own absence. Being heard counts only when a heartbeat really came: a list of silent nodes that does not
name a node proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Protocol

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import TrueupError
from kit.wire import Enrolment
from reconciler.handlers import Handlers, Recorded
from reconciler.ports import Views

LOOKS_PER_SILENCE = 12
LOOK_MAX_S = 5.0
"""How often to look: often against the silence that counts, and never more than this apart."""

VIEW_WAIT_S = 5.0

_log = logs.get("nodes")


class Heartbeats(Protocol):
    async def touch(self, node_id: str) -> None: ...

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
        self._heard: set[str] = set()
        self._offline: set[str] = set()
        self._met: set[str] = set()
        self._wake = asyncio.Event()

    async def enrol(self, enrolment: Enrolment) -> Recorded:
        """A node that enrols is there. Returns when the views show it: its next question needs its row."""
        recorded = await self._handlers.enrol_node(enrolment)
        await self._views.wait_for(recorded.last_event_id, ("nodes",), VIEW_WAIT_S)
        await self.heard(enrolment.node_id)
        return recorded

    async def heard(self, node_id: str) -> None:
        """A heartbeat came. The node is set active by the next look, at once if it was offline."""
        await self._heartbeats.touch(node_id)
        self._heard.add(node_id)
        if node_id in self._offline:
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
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
            await self._rest(delay_s, stop)

    async def look(self) -> None:
        """One look at all nodes."""
        self._wake.clear()
        heard, self._heard = self._heard, set()
        silent = set(await self._heartbeats.silent_since(self._offline_after_s))
        rows = (await self._views.snapshot(("nodes",))).rows["nodes"]
        self._offline = {node_id for node_id, row in rows.items() if row["state"] == "offline"}
        for node_id in sorted(set(rows) - self._met - self._offline):
            # Enrolled, but this process never heard it: from now on its silence can be measured.
            if node_id not in heard and node_id not in silent:
                await self._heartbeats.touch(node_id)
            self._met.add(node_id)
        for node_id in sorted((silent - heard) & set(rows) - self._offline):
            await self._set(node_id, "offline", f"not heard for {self._offline_after_s:g} s")
        for node_id in sorted(heard & self._offline):
            await self._set(node_id, "active", "heard again")

    async def _set(self, node_id: str, state: str, reason: str) -> None:
        """One node that cannot be set stops only itself."""
        try:
            await self._handlers.set_node_state(node_id, state, reason)
            _log.info("node state", node_id=node_id, state=state, reason=reason)
        except TrueupError as error:
            if state == "active":
                self._heard.add(node_id)
            _log.warning("node state not set", node_id=node_id, state=state, why=str(error))

    async def _rest(self, delay_s: float, stop: asyncio.Event) -> None:
        waits = [
            asyncio.ensure_future(stop.wait()),
            asyncio.ensure_future(self._wake.wait()),
            asyncio.ensure_future(self._clock.sleep(delay_s)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            for wait in waits:
                with contextlib.suppress(asyncio.CancelledError):
                    await wait
