"""How often one thing may be told of. Used by the reports of agents and edges. Pure but for its own memory: the time is
an argument.

A subject (an instance, a volume, a route) may change BURST times at once and every EVERY_S in the long run; what
changes more often is told level-triggered, by its newest state. So an instance that flaps for an hour, however fast,
becomes at most 1,810 events. Memory: subjects that were told of in the last BURST * EVERY_S seconds.
"""

from __future__ import annotations

BURST = 10
EVERY_S = 2.0


class Pace:
    def __init__(self) -> None:
        self._full_at_s: dict[str, float] = {}
        """When a subject will have all of its burst again."""

    def __len__(self) -> int:
        return len(self._full_at_s)

    def allowance(self, subject: str, now_s: float) -> int:
        """How many reports of it may go out now."""
        missing_s = max(0.0, self._full_at_s.get(subject, now_s) - now_s)
        return max(0, int(BURST - missing_s / EVERY_S + 1e-9))

    def told(self, subject: str, now_s: float) -> None:
        """One went out."""
        self._full_at_s[subject] = max(now_s, self._full_at_s.get(subject, now_s)) + EVERY_S

    def forget(self, now_s: float) -> None:
        """Those that have all of their burst."""
        for subject in [subject for subject, full_at_s in self._full_at_s.items() if full_at_s <= now_s]:
            del self._full_at_s[subject]
