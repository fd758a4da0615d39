"""How long to wait before the next try. Pure: chance comes from the caller's `rng`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Chance(Protocol):
    """What a core knows of `random.Random`."""

    def random(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling from `first_s` to `cap_s`, then jitter of up to `jitter` of the delay on top."""

    first_s: float = 0.1
    cap_s: float = 30.0
    jitter: float = 0.25

    def delay_s(self, failures: int, rng: Chance) -> float:
        """The wait after `failures` (1 for the first) failures in a row."""
        exponent = min(max(failures - 1, 0), 32)
        delay = min(self.cap_s, self.first_s * 2.0**exponent)
        return delay * (1 + self.jitter * rng.random())
