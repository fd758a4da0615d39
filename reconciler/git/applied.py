"""What is applied, when the next commit is judged: the base commit's tree, and the rows of the live views.

The two say the same of an app that the base commit brought to what it is. Of one that it held back only the rows know
what there is. Used by `judge`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reconciler.core.cross_checks import Assembled, Tree
from reconciler.core.findings import Finding, errors
from reconciler.core.isolation import Situation
from reconciler.core.model import Marks, Origin, Resource, ResourceId
from reconciler.git.reading_ended import ReadingEnded
from reconciler.git.tree_reader import TreeReader

Row = Mapping[str, Any]
_NOTHING = Assembled(Tree(), ())


@dataclass(frozen=True)
class Applied:
    """`base`: None when there is none, or it cannot be read as it was when it was applied (an accepted rewrite took its
    objects away, the source is bound anew, or the rules have become stricter since). `rows`: none only where nothing
    runs (`trueup plan`). `held`: app -> unreadable files, of the base."""

    base: Assembled | None
    rows: Collection[Row]
    retained: frozenset[ResourceId]
    held: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(
        cls,
        reader: TreeReader,
        base: str,
        rows: Collection[Row],
        held: Mapping[str, tuple[str, ...]],
        *,
        readable: bool,
    ) -> Applied:
        """Raises `ReadingEnded` when nothing can be said."""
        found = _NOTHING if readable or not base else None
        if readable:
            try:
                found = reader.read(base)
            except ReadingEnded:
                if not rows:
                    raise
                found = None
        return cls(found, rows, _retained(rows), held)

    @cached_property
    def live(self) -> Tree:
        """Made only for a commit that has to be held against it: its cost is that of the whole source."""
        return _tree_of_rows(self.rows) if self.rows or self.base is None else self.base.tree

    @property
    def tree(self) -> Tree:
        """What the plan starts from."""
        if self.base is None or self.held or errors(self.base.findings):
            return self.live
        return self.base.tree

    def situation(self, blamed: Mapping[str, tuple[Finding, ...]]) -> Situation:
        files = {file.path: file for file in (self.base.files if self.base else ())}
        return Situation(self.live.resources, files, self.held, blamed)

    def envs(self, head: Assembled) -> frozenset[str]:
        """Every environment that a change may be about."""
        named = (each.resource.id.env for file in head.files for each in file.declared)
        return frozenset((*named, *(identity.env for identity in self.live.resources)))


def held_files(source: Row) -> Mapping[str, tuple[str, ...]]:
    """Of a row of the view `sources`: the apps that its applied commit holds back."""
    return {app: tuple(files) for app, files in (source.get("held_back") or {}).items()}


def _retained(rows: Iterable[Row]) -> frozenset[ResourceId]:
    return frozenset(ResourceId.parse(row["resource_id"]) for row in rows if row.get("retained"))


def _tree_of_rows(rows: Iterable[Row]) -> Tree:
    declared = {}
    for row in rows:
        if not row.get("retained"):
            identity = ResourceId.parse(row["resource_id"])
            origin = Origin(str(row["origin"].get("path", "")), int(row["origin"].get("line", 0)))
            marks = Marks(bool(row.get("protect")), row.get("removal") or "")
            declared[identity] = Resource(identity, row["spec"], origin, marks)
    return Tree(declared)
