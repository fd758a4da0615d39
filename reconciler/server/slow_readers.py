"""Who was cut off for taking nothing. It is told when it comes back: the connection that it lost may not have said why.

Used by `reconciler.server.streams`; the count is part of the status. Memory only, of the newest, and for minutes.
"""

from __future__ import annotations

from collections import OrderedDict

from kit.clock import Clock
from reconciler.core.permission import Identity

REASON = "slow_reader"
REMEMBERED_S = 600.0
REMEMBERED_MAX = 10_000
"""Identities, about 200 bytes each."""


class SlowReaders:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cut_off_s: OrderedDict[Identity, float] = OrderedDict()
        self.count = 0
        """Of connections, since the process started."""

    def cut_off(self, identity: Identity) -> None:
        self.count += 1
        self._cut_off_s.pop(identity, None)
        self._cut_off_s[identity] = self._clock.now_s()
        while len(self._cut_off_s) > REMEMBERED_MAX:
            self._cut_off_s.popitem(last=False)

    def why(self, identity: Identity) -> str:
        """Why its last connection was cut off, once; "" when it was not, or that is long ago."""
        at_s = self._cut_off_s.pop(identity, None)
        return REASON if at_s is not None and self._clock.now_s() - at_s <= REMEMBERED_S else ""
