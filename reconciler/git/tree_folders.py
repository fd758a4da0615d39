"""Trees that were read, with all below, and how two of them differ. Made by `tree_walk`.

Paths are found on the way down, so that one folder in memory stands for every place and every commit that has it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.core.findings import Finding
from reconciler.git.tree_entries import Entry, entry_of, is_manifest, readable, rows_of

ROWS_KEPT = 8
Key = tuple[str, str]
"""Path and blob."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Folder:
    """A tree object, `raw` as it is stored, and all below: `folders` by their rows in it. `entries`: how many, with
    those below; `depth`: of folders below. `findings`: of its own entries, by name. `findings_below`: there are some
    here or below. `name_twice`: here or below."""

    raw: bytes
    folders: Mapping[bytes, Folder]
    entries: int
    depth: int
    findings: tuple[Finding, ...]
    findings_below: bool
    name_twice: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """From one listing to another. A path that is in both has another content."""

    removed: frozenset[Key]
    added: frozenset[Key]


@functools.lru_cache(maxsize=ROWS_KEPT)
def rows_in(folder: Folder) -> frozenset[bytes]:
    return frozenset(rows_of(folder.raw))


def visible_name(entry: Entry) -> str:
    name = readable(entry.name)
    return "" if name is None or name.startswith(".") else name


def files_below(folder: Folder, path: str) -> Iterator[Key]:
    for row in rows_of(folder.raw):
        yield from _files_of(folder, row, path)


def _files_of(folder: Folder, row: bytes, path: str) -> Iterator[Key]:
    """Of one entry of the folder: the manifest that it is, or all below."""
    entry = entry_of(row)
    name = visible_name(entry)
    if row in folder.folders:
        yield from files_below(folder.folders[row], joined(path, name))
    elif name and entry.is_file and is_manifest(name):
        yield joined(path, name), entry.object_id


def findings_below(folder: Folder, path: str) -> Iterator[Finding]:
    """Of it and all below, with full paths."""
    if not folder.findings_below:
        return
    for each in folder.findings:
        yield dataclasses.replace(each, path=joined(path, each.path))
    for row, below in folder.folders.items():
        yield from findings_below(below, joined(path, visible_name(entry_of(row))))


def changes_between(before: Folder, after: Folder, path: str) -> Changes | None:
    """None where a name is there twice: paths do not tell files apart then."""
    if before.name_twice or after.name_twice:
        return None
    removed, added = set[Key](), set[Key]()
    _differ(before, after, path, removed, added)
    return Changes(frozenset(removed - added), frozenset(added - removed))


def _differ(before: Folder, after: Folder, path: str, removed: set[Key], added: set[Key]) -> None:
    if before is after:
        return
    old, new = rows_in(before) - rows_in(after), rows_in(after) - rows_in(before)
    was = {entry_of(row).name: row for row in old if row in before.folders}
    for row in new:
        former = was.pop(entry_of(row).name, None) if row in after.folders else None
        if former is None:
            added.update(_files_of(after, row, path))
        else:
            inside = joined(path, visible_name(entry_of(row)))
            _differ(before.folders[former], after.folders[row], inside, removed, added)
    left = {*was.values()}
    for row in old:
        if row not in before.folders or row in left:
            removed.update(_files_of(before, row, path))


def joined(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
