"""What each node and edge was sent last, as digests, so that the next time only what changed is sent.

Used by `reconciler.server.agents`. Memory only: who comes with a plan that is not known here, after a restart or from
another controller, gets the whole. Bounded in items; who was not heard for longest is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from kit.canonical import digest
from kit.plan_delta import Items, delta, items_of

ITEMS_MAX = 1_000_000
"""About 150 bytes each."""


class SentPlans:
    def __init__(self, items_max: int = ITEMS_MAX) -> None:
        self._items_max = items_max
        self._sent: OrderedDict[str, tuple[str, Items]] = OrderedDict()
        self._items = 0

    def answer(self, reader: str, document: Mapping[str, Any], base: str) -> Mapping[str, Any]:
        """The plan with its digest, or what changed since the one whose digest is `base`. `reader`: who asks."""
        items = items_of(document)
        known = self._sent.pop(reader, None)
        if known is not None:
            self._items -= _count(known[1])
        whole = digest(items)
        self._sent[reader] = whole, items
        self._items += _count(items)
        while self._items > self._items_max:
            _, (_, forgotten) = self._sent.popitem(last=False)
            self._items -= _count(forgotten)
        if known is None or not base or known[0] != base:
            return {**document, "digest": whole}
        return delta(document, items, base, known[1])


def _count(items: Items) -> int:
    return 1 + sum(map(len, items.values()))
