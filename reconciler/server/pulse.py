"""When this process last heard each node. In memory, for people who look; it decides nothing.

Whether a node is offline is decided from the heartbeats in the database (`reconciler.store.heartbeats`), because that
has to survive a restart of the controller.
"""

from __future__ import annotations

from kit.clock import Clock


class Pulse:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard_s: dict[str, float] = {}

    def beat(self, node_id: str) -> None:
        """`node_id` is an enrolled node, so this is bounded by their number."""
        self._heard_s[node_id] = self._clock.now_s()

    def ages_s(self) -> dict[str, float]:
        """A node that this process has not heard yet is absent."""
        now_s = self._clock.now_s()
        return {node_id: now_s - heard_s for node_id, heard_s in self._heard_s.items()}
