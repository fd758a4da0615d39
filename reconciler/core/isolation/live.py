"""What a source has declared and holds, by what it is asked for. Pure; made by `reconciler.git.live_rows`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from reconciler.core.cross_checks import App, Tree, app_of
from reconciler.core.model import Resource, ResourceId

_Key = TypeVar("_Key")
_Ids = frozenset[ResourceId]


@dataclass(frozen=True, slots=True)
class Live:
    """`by_path`: of the file that each resource comes from."""

    tree: Tree = field(default_factory=Tree)
    by_path: Mapping[str, _Ids] = field(default_factory=dict)
    by_app: Mapping[App, _Ids] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: Tree) -> Live:
        return cls().after(tree, tree.resources)

    def after(self, tree: Tree, touched: Collection[ResourceId]) -> Live:
        """`tree`: differs from this one in `touched` at most."""
        old = [found for each in touched if (found := self.tree.resources.get(each))]
        new = [found for each in touched if (found := tree.resources.get(each))]
        return Live(
            tree,
            _moved(self.by_path, old, new, lambda each: each.origin.path),
            _moved(self.by_app, old, new, lambda each: app_of(each.id)),
        )


def _moved(
    before: Mapping[_Key, _Ids], old: Iterable[Resource], new: Iterable[Resource], key_of: Callable[[Resource], _Key]
) -> Mapping[_Key, _Ids]:
    changed: dict[_Key, set[ResourceId]] = {}
    for each in old:
        changed.setdefault(key_of(each), set(before[key_of(each)])).discard(each.id)
    for each in new:
        changed.setdefault(key_of(each), set(before.get(key_of(each), ()))).add(each.id)
    after = {**before, **{key: frozenset(ids) for key, ids in changed.items()}}
    for key, ids in changed.items():
        if not ids:
            del after[key]
    return after
