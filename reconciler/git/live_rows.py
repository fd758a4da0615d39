"""A source's rows of the view `resources`, read where they changed, and held against the trees of its commits.

`judge` asks. Whoever judges one commit after the other keeps a `Following`, so that the work follows the commit whether
an app is held back or not; without one everything is read and compared, to the same end.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.core.cross_checks import Tree
from reconciler.core.isolation.live import Live
from reconciler.core.model import Marks, Origin, Resource, ResourceId
from reconciler.core.removals import differs

Row = Mapping[str, Any]
COMPARED_MAX = 2
"""Trees: of the applied commit, and of the one that is judged."""


@dataclass(frozen=True, slots=True)
class LiveRows:
    """`rows`: those that it was made of, of all sources; a row that changes is another object. `retained`: what the
    source keeps although a commit removed it; all else is in `live`."""

    source_id: str
    rows: Mapping[str, Row] = field(default_factory=dict)
    live: Live = field(default_factory=Live)
    retained: frozenset[ResourceId] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.live.tree.resources or self.retained)

    def after(self, rows: Mapping[str, Row]) -> LiveRows:
        changed = [text for text, row in rows.items() if self.rows.get(text) is not row]
        gone = self.rows.keys() - rows.keys()
        mine = [text for text in (*changed, *gone) if self._has(rows.get(text)) or self._has(self.rows.get(text))]
        if not mine:
            return LiveRows(self.source_id, rows, self.live, self.retained)
        touched = frozenset(map(ResourceId.parse, mine))
        now = {
            identity: rows[text] for text in mine if self._has(rows.get(text)) and (identity := ResourceId.parse(text))
        }
        retained = self.retained - touched | {identity for identity, row in now.items() if row.get("retained")}
        tree = self._tree_after(touched, now)
        return LiveRows(self.source_id, rows, self.live.after(tree, touched), retained)

    def _has(self, row: Row | None) -> bool:
        origin: Row = (row or {}).get("origin") or {}
        return origin.get("source_id") == self.source_id

    def _tree_after(self, touched: frozenset[ResourceId], now: Mapping[ResourceId, Row]) -> Tree:
        resources = dict(self.live.tree.resources)
        for identity in touched:
            resources.pop(identity, None)
        resources.update((each, _resource(each, row)) for each, row in now.items() if not row.get("retained"))
        return Tree(resources, base=self.live.tree.mark, touched=touched)

    def outside_of(self, org: str, project: str) -> list[ResourceId]:
        """In order."""
        every = (*self.live.tree.resources, *self.retained)
        return sorted(each for each in every if each.project != project or each.org != org)


def _resource(identity: ResourceId, row: Row) -> Resource:
    origin = Origin(str(row["origin"].get("path", "")), int(row["origin"].get("line", 0)))
    return Resource(identity, row["spec"], origin, Marks(bool(row.get("protect")), row.get("removal") or ""))


@dataclass(frozen=True, slots=True)
class _Compared:
    live: object
    differing: frozenset[ResourceId]


class Following:
    """Of one source. One judgement at a time."""

    def __init__(self, source_id: str) -> None:
        self._rows = LiveRows(source_id)
        self._compared: OrderedDict[object, _Compared] = OrderedDict()

    def read(self, rows: Mapping[str, Row]) -> LiveRows:
        """`rows`: of the view, of all sources or of this one."""
        self._rows = self._rows.after(rows)
        return self._rows

    def differing(self, live: Tree, tree: Tree) -> frozenset[ResourceId]:
        """The resources that are not the same in both."""
        candidates = self._candidates(live, tree)
        if candidates is None:
            candidates = live.resources.keys() | tree.resources.keys()
        found = frozenset(each for each in candidates if differs(live.resources.get(each), tree.resources.get(each)))
        self._compared[tree.mark] = _Compared(live.mark, found)
        self._compared.move_to_end(tree.mark)
        while len(self._compared) > COMPARED_MAX:
            self._compared.popitem(last=False)
        return found

    def _candidates(self, live: Tree, tree: Tree) -> Collection[ResourceId] | None:
        """What can differ after what was compared before; None when it could be everything."""
        own = self._compared.get(tree.mark)
        known = own or self._compared.get(tree.base)
        if known is None or known.live not in (live.mark, live.base):
            return None
        changed = known.differing | (tree.touched if own is None else frozenset())
        return changed | live.touched if known.live is not live.mark else changed
