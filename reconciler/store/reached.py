"""How far each aggregate had come when this process last appended to it.

Kept by `reconciler.store.event_log` and sent along with each append: an aggregate with many events is then looked up
near its end. It is a hint; what is wrong or missing in it costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.store.limits import REACHED_AGGREGATES_MAX
from reconciler.store.placement import AggregateKey


class Reached:
    def __init__(self) -> None:
        self._seqs: dict[AggregateKey, int] = {}

    def floors(self, keys: Iterable[AggregateKey]) -> list[int]:
        """0 where nothing is known."""
        known = self._seqs
        return [known.get(key, 0) for key in keys]

    def learn(self, keys: Iterable[AggregateKey], found: Iterable[int], appended: Iterable[int]) -> None:
        self._seqs.update((key, seq + more) for key, seq, more in zip(keys, found, appended, strict=True))
        while len(self._seqs) > REACHED_AGGREGATES_MAX:
            del self._seqs[next(iter(self._seqs))]
