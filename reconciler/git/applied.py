"""What is applied, when the next commit is judged: the base commit's tree, and the rows of the live views.

The two say the same of an app that the base commit brought to what it is. Of one that it held back only the rows know
what there is. Used by `judge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from reconciler.core.cross_checks import Assembled, Tree
from reconciler.core.findings import Finding, errors
from reconciler.core.isolation import Situation
from reconciler.core.isolation.live import Live
from reconciler.core.model import ResourceId
from reconciler.git.live_rows import Following, LiveRows, Row
from reconciler.git.reading_ended import ReadingEnded
from reconciler.git.tree_reader import TreeReader

_NOTHING = Assembled(Tree(), ())


@dataclass(frozen=True)
class Applied:
    """`base`: None when there is none, or it cannot be read as it was when it was applied (an accepted rewrite took its
    objects away, the source is bound anew, or the rules have become stricter since). `rows`: none only where nothing
    runs (`trueup plan`). `held`: app -> unreadable files, of the base."""

    base: Assembled | None
    rows: LiveRows
    held: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(
        cls,
        reader: TreeReader,
        base: str,
        rows: LiveRows,
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
        return cls(found, rows, held)

    @cached_property
    def live(self) -> Live:
        return self.rows.live if self.rows or self.base is None else Live.of(self.base.tree)

    @property
    def tree(self) -> Tree:
        """What the plan starts from."""
        if self.base is None or self.held or errors(self.base.findings):
            return self.live.tree
        return self.base.tree

    def differing(self, head: Assembled, following: Following) -> frozenset[ResourceId] | None:
        """Where the head is not as what is live; None when nothing runs. Asked for each commit, one after the other:
        then it is looked for only where something changed."""
        if not self.rows:
            return None
        if self.base is not None:
            following.differing(self.live.tree, self.base.tree)
        return following.differing(self.live.tree, head.tree)

    def situation(self, blamed: Mapping[str, tuple[Finding, ...]]) -> Situation:
        return Situation(self.live, self.base.files if self.base else {}, self.held, blamed)

    def envs(self, head: Assembled) -> frozenset[str]:
        """Every environment that a change may be about."""
        return frozenset(env for env, _ in (*(head.index.paths if head.index else ()), *self.live.by_app))


def held_files(source: Row) -> Mapping[str, tuple[str, ...]]:
    """Of a row of the view `sources`: the apps that its applied commit holds back."""
    return {app: tuple(files) for app, files in (source.get("held_back") or {}).items()}
