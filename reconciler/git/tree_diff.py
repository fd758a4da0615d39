"""Which files differ between two trees, by path: for the rules that need several signers. Called by `signatures`.

A bounded walk over raw tree objects that goes into a folder only where its id differs. Unlike `tree_walk` it sees all
files, manifests or not, since a rule may name any path. Paths are text with surrogates for bytes that are no UTF-8, so
that different paths stay different.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator

from reconciler.git.objects import Objects, ObjectTooLarge
from reconciler.git.tree_entries import parse_tree

PATHS_MAX = 20_000
DEPTH_MAX = 64
ENTRIES_LOOKED_AT_MAX = 5_000_000
TREES_KEPT_MAX = 10_000
_FOLDER = 0o40000
_Entry = tuple[int, str]  # mode, object id


class DiffRefused(Exception):
    """The trees cannot be compared within the bounds, or are not such as git writes; the message says why."""


class TreeDiff:
    """Keeps the trees that it read; the bound of entries is that of all calls together."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._trees: dict[str, dict[str, _Entry]] = {}
        self._looked_at = 0

    def paths(self, one: str, other: str, among: frozenset[str] | None = None) -> frozenset[str]:
        """Of the files that only one of the trees has, or both have differently. "" is the empty tree. `among`: no
        other paths are looked at."""
        found: set[str] = set()
        wanted = among and _with_folders(among)
        for path in self._differing(one, other, "", 0, wanted):
            if among is not None and path not in among:
                continue
            found.add(path)
            if len(found) > PATHS_MAX:
                raise DiffRefused(f"more than {PATHS_MAX} files differ")
        return frozenset(found)

    def _differing(self, one: str, other: str, above: str, depth: int, wanted: Container[str] | None) -> Iterator[str]:
        if one == other:
            return
        if depth > DEPTH_MAX:
            raise DiffRefused(f"folders are nested more than {DEPTH_MAX} deep")
        left, right = self._tree(one), self._tree(other)
        self._looked_at += len(left) + len(right)
        if self._looked_at > ENTRIES_LOOKED_AT_MAX:
            raise DiffRefused("there is too much to compare")
        for name in sorted({name for name, _ in left.items() ^ right.items()}):
            path = f"{above}{name}"
            if wanted is not None and path not in wanted:
                continue
            before, after = left.get(name), right.get(name)
            if any(entry and entry[0] != _FOLDER for entry in (before, after)):
                yield path
            yield from self._differing(_folder(before), _folder(after), f"{path}/", depth + 1, wanted)

    def _tree(self, tree: str) -> dict[str, _Entry]:
        if not tree:
            return {}
        if tree not in self._trees:
            if len(self._trees) >= TREES_KEPT_MAX:
                self._trees.clear()
            self._trees[tree] = self._read(tree)
        return self._trees[tree]

    def _read(self, tree: str) -> dict[str, _Entry]:
        try:
            entries = parse_tree(self._objects.tree(tree))
        except ObjectTooLarge as error:
            raise DiffRefused(f"a folder's Git object is too large: {error.why}") from error
        found = {entry.name.decode("utf-8", "surrogateescape"): (entry.mode, entry.object_id) for entry in entries}
        if len(found) != len(entries) or any("/" in name for name in found):
            raise DiffRefused(f"the folder with the id {tree} has a name twice, or a / in a name")
        return found


@functools.lru_cache(maxsize=2)
def _with_folders(paths: frozenset[str]) -> frozenset[str]:
    """The paths and every folder on the way to them."""
    folders = {path[:end] for path in paths for end, letter in enumerate(path) if letter == "/"}
    return paths | folders


def _folder(entry: _Entry | None) -> str:
    return entry[1] if entry and entry[0] == _FOLDER else ""
