"""When each node was last heard, by this controller or another. For people who look; it decides nothing.

A heartbeat comes to any controller and is written to the database (`reconciler.store.heartbeats`), where all of them
read it; what this process has heard itself is known at once. Whether a node is offline is decided elsewhere
(`reconciler.tasks.nodes`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping

from kit.clock import Clock


class Pulse:
    """`shared_ages_s`: node -> how long ago any controller heard it."""

    def __init__(self, clock: Clock, shared_ages_s: Callable[[], Awaitable[Mapping[str, float]]]) -> None:
        self._clock = clock
        self._shared_ages_s = shared_ages_s
        self._heard_s: dict[str, float] = {}

    def beat(self, node_id: str) -> None:
        """`node_id` is an enrolled node, so this is bounded by their number."""
        self._heard_s[node_id] = self._clock.now_s()

    async def ages_s(self) -> dict[str, float]:
        """A node that was never heard is absent."""
        ages_s = dict(await self._shared_ages_s())
        now_s = self._clock.now_s()
        for node_id, heard_s in self._heard_s.items():
            ages_s[node_id] = min(now_s - heard_s, ages_s.get(node_id, math.inf))
        return ages_s
