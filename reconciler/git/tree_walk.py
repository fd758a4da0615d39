"""The manifest files of a tree, and how they differ from those of another: a bounded walk over raw tree objects.

`tree_files` calls `TreeWalk.list`. Names that begin with a dot are left out (.github and the like). What a tree holds
is known by its object id for as long as some listing has it, and a folder that differs from the one before is made from
that one: so the next commit reads only the trees on the way to its changes and looks at the entries that differ, and a
dozen objects that describe a billion paths stay a dozen reads and end at the bound of entries.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reconciler.core.findings import Finding
from reconciler.git.objects import Objects, ObjectTooLarge
from reconciler.git.tree_entries import entry_of, findings_of, is_folder, names_differ, parse_tree, rows_of
from reconciler.git.tree_folders import (
    Changes,
    Folder,
    Key,
    changes_between,
    files_below,
    findings_below,
    joined,
    rows_in,
    visible_name,
)

DEPTH_MAX = 8
ENTRIES_MAX = 60_000
"""Files and folders: 10,000 apps with a folder and a few files each."""


@dataclass(frozen=True, slots=True)
class Listing:
    """`root`: the folder that was listed, at the path `prefix`; None when there is none that could be. `findings`: with
    full paths. `changes`: from the listing that was given as the base; None when that cannot be said."""

    root: Folder | None = None
    prefix: str = ""
    findings: tuple[Finding, ...] = ()
    changes: Changes | None = None

    @property
    def files(self) -> tuple[Key, ...]:
        """All manifests, by full path."""
        return tuple(files_below(self.root, self.prefix)) if self.root else ()


_NO_FOLDERS: Mapping[bytes, Folder] = MappingProxyType({})


class WalkRefused(Exception):
    """The tree is beyond a bound; the finding says which."""

    def __init__(self, path: str, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.finding = Finding(path, 0, 0, "", code, message, fix)


class TreeWalk:
    """Knows the trees of all listings that somebody still has. Blocks on the disk; one thread at a time."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: weakref.WeakValueDictionary[str, Folder] = weakref.WeakValueDictionary()

    def list(self, tree: str, parts: tuple[str, ...], base: Listing | None = None) -> Listing:
        """The manifests below the folder `parts`. Never raises for what the tree holds: a bound or a missing folder is
        an error finding. `base`: of another tree, at the same folder."""
        prefix = "/".join(parts)
        try:
            found = self._descend(tree, parts)
            if found is None:
                return Listing(findings=(_path_missing(prefix),))
            root = self._folder(found, base.root if base else None, prefix, 0)
        except WalkRefused as refused:
            # Which bound is met first depends on the order, and the order on the base.
            return self.list(tree, parts) if base else Listing(findings=(refused.finding,))
        findings = tuple(findings_below(root, prefix))
        return Listing(root, prefix, findings, changes_between(base.root, root, prefix) if base and base.root else None)

    def blob(self, tree: str, path: str) -> str | None:
        """The id of the regular file at a full path, None where there is none."""
        *parts, name = path.split("/")
        folder = self._descend(tree, tuple(parts))
        entries = parse_tree(self._read(folder, path)) if folder else ()
        return next((each.object_id for each in entries if each.name == name.encode() and each.is_file), None)

    def _descend(self, tree: str, parts: tuple[str, ...]) -> str | None:
        for part in parts:
            rows = rows_of(self._read(tree, part))
            here = next((row for row in rows if entry_of(row).name == part.encode()), b"")
            if not is_folder(here):
                return None
            tree = entry_of(here).object_id
        return tree

    def _folder(self, tree: str, like: Folder | None, path: str, depth: int) -> Folder:
        if depth > DEPTH_MAX:
            raise _too_deep(path)
        folder = self._known.get(tree)
        if folder is None:
            raw = self._read(tree, path)
            folder = (self._onto(like, raw, path, depth) if like else None) or self._anew(raw, path, depth)
            self._known[tree] = folder
        if depth + folder.depth > DEPTH_MAX:
            raise _too_deep(path)
        return folder

    def _anew(self, raw: bytes, path: str, depth: int) -> Folder:
        rows = rows_of(raw)
        _bound_entries(len(rows), path)
        total, folders = len(rows), dict[bytes, Folder]()
        for row, name in _folder_rows(rows):
            folders[row] = found = self._folder(entry_of(row).object_id, None, joined(path, name), depth + 1)
            total += found.entries
            _bound_entries(total, path)
        below = folders.values()
        findings = tuple(findings_of(map(entry_of, rows)))
        return Folder(
            raw,
            folders or _NO_FOLDERS,
            total,
            max((each.depth + 1 for each in below), default=0),
            findings,
            bool(findings) or any(each.findings_below for each in below),
            any(each.code == "name_twice" for each in findings) or any(each.name_twice for each in below),
        )

    def _onto(self, like: Folder, raw: bytes, path: str, depth: int) -> Folder | None:
        """By the rows that `like` does not have. None when there is anything to say about an entry of either, or the
        deepest folder has to be looked for."""
        before, after = rows_in(like), frozenset(rows_of(raw))
        new = {row: entry_of(row) for row in after - before}
        if like.findings or not names_differ(raw) or any(findings_of(new.values())):
            return None
        gone = {entry_of(row).name: row for row in before - after}
        folders = dict(like.folders)
        left = [folders.pop(row) for row in gone.values() if row in folders]
        come = []
        for row, name in _folder_rows(new):
            former = like.folders.get(gone.get(new[row].name, b""))
            folders[row] = below = self._folder(new[row].object_id, former, joined(path, name), depth + 1)
            come.append(below)
        deepest, left_depth = (max((each.depth + 1 for each in some), default=0) for some in (come, left))
        if deepest < left_depth == like.depth:
            return None
        total = like.entries - len(gone) + len(new) + _entries(come) - _entries(left)
        _bound_entries(total, path)
        unclean = any(each.findings_below for each in (folders.values() if like.findings_below else come))
        name_twice = any(each.name_twice for each in (folders.values() if like.name_twice else come))
        return Folder(raw, folders or _NO_FOLDERS, total, max(like.depth, deepest), (), unclean, name_twice)

    def _read(self, tree: str, path: str) -> bytes:
        try:
            return self._objects.tree(tree)
        except ObjectTooLarge as error:
            raise WalkRefused(
                path, "tree_too_large", f"the folder's Git object is too large: {error.why}", ""
            ) from None


def _entries(folders: Iterable[Folder]) -> int:
    return sum(each.entries for each in folders)


def _folder_rows(rows: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
    """Those of folders that are looked into, with their names."""
    for row in rows:
        if is_folder(row) and (name := visible_name(entry_of(row))):
            yield row, name


def _bound_entries(total: int, path: str) -> None:
    if total > ENTRIES_MAX:
        fix = "give the source a path to the folder that holds the manifests"
        raise WalkRefused(path, "too_many_entries", f"more than {ENTRIES_MAX} files and folders", fix)


def _too_deep(path: str) -> WalkRefused:
    return WalkRefused(path, "too_deep", f"folders are nested more than {DEPTH_MAX} deep", "move the manifests up")


def _path_missing(prefix: str) -> Finding:
    message = f"the folder {prefix} is not in this commit; nothing is deleted for it"
    return Finding(prefix, 0, 0, "", "path_missing", message, "restore the folder, or change the source's path")
