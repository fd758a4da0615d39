"""The rows of the views by the node that a plan of them is for, kept so while they change. Pure.

Held by `reconciler.server.plan_source`, which moves it from one picture of the views to the next. A fleet has many
nodes, and each asks for its plan at every change that concerns it: none of them should cost a walk over all rows.
`node_plan` gives the same for `of_node` as for all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Doc = Mapping[str, Any]
Change = tuple[str, Doc | None, Doc | None]
"""Key, the row before, the row now; None: there is none."""

_NODE_IN: Mapping[str, str] = {"instances": "node_id", "resources": "home_node", "tombstones": "node_id"}
_NO_ROW: Doc = {}


class NodeRows:
    """By node: its instances, the volumes whose home it is, the tombstones of what was there."""

    def __init__(self) -> None:
        self._views: dict[str, dict[str, dict[str, Doc]]] = {view: {} for view in _NODE_IN}

    def take(self, view: str, changes: Iterable[Change]) -> None:
        if view not in _NODE_IN:
            return
        nodes, field = self._views[view], _NODE_IN[view]
        for key, before, now in changes:
            if node := (before or _NO_ROW).get(field):
                nodes[node].pop(key)
                if not nodes[node]:
                    del nodes[node]
            if now and (node := now.get(field)):
                nodes.setdefault(node, {})[key] = now

    def of_node(self, node_id: str) -> Mapping[str, Mapping[str, Doc]]:
        return {view: nodes.get(node_id, {}) for view, nodes in self._views.items()}


def changes(before: Mapping[str, Doc], now: Mapping[str, Doc]) -> list[Change]:
    """Of two pictures of a view. A row that is the same object in both has not changed: nobody writes to a row."""
    return [] if before is now else list(_changes(before, now))


def _changes(before: Mapping[str, Doc], now: Mapping[str, Doc]) -> Iterator[Change]:
    for key, row in now.items():
        old = before.get(key)
        if old is not row:
            yield key, old, row
    for key in before.keys() - now.keys():
        yield key, before[key], None
