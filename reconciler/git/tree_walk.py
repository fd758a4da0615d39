"""The manifest files of a tree: a bounded walk over raw tree objects that trusts nothing in them.

`tree_reader` calls `TreeWalk.list`. Regular files named *.yaml or *.yml are manifests; names that begin with a dot are
left out (.github and the like). A tree is read once: what it holds is kept by its object id, so that the next commit
reads only the trees on the way to its changes, and a dozen objects that describe a billion paths stay a dozen reads
and end at the bound of entries.

A tree object is a row of: mode in octal, space, name, NUL, 20 bytes of object id.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kit.errors import Transient
from reconciler.core.findings import Finding, Severity
from reconciler.git.objects import Objects, ObjectTooLarge

DEPTH_MAX = 8
ENTRIES_MAX = 60_000
"""Files and folders: 10,000 apps with a folder and a few files each."""
NAME_BYTES_MAX = 255
KNOWN_TREES_MAX = 50_000
_ENTRY = re.compile(rb"([0-7]{5,6}) ([^\x00]+)\x00(.{20})", re.DOTALL)
_REST_BYTES = len(b" \0") + 20
_REGULAR = frozenset({0o100644, 0o100755, 0o100664})
_FOLDER, _LINK, _SUBMODULE = 0o40000, 0o120000, 0o160000


class Entry(NamedTuple):
    mode: int
    name: bytes
    object_id: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths relative to the tree that was listed. `entries`: of it and all below; `depth`: of folders below."""

    files: tuple[tuple[str, str], ...] = ()  # path, blob id
    findings: tuple[Finding, ...] = ()
    entries: int = 0
    depth: int = 0


class WalkRefused(Exception):
    """The tree is beyond a bound; the finding says which."""

    def __init__(self, path: str, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.finding = Finding(path, 0, 0, "", code, message, fix)


class TreeWalk:
    """Remembers trees by id. Blocks on the disk; one thread at a time."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: dict[str, Listing] = {}
        self._moved: dict[tuple[str, str], Listing] = {}  # tree, name: its listing as it is in the folder above

    def list(self, tree: str, parts: tuple[str, ...]) -> Listing:
        """The manifests below the folder `parts`, with full paths. Never raises for what the tree holds: a bound or a
        missing folder is an error finding."""
        prefix = "/".join(parts)
        try:
            found = self._descend(tree, parts)
            if found is None:
                return Listing(findings=(_path_missing(prefix),))
            listing = self._listing(found, prefix, 0)
        except WalkRefused as refused:
            return Listing(findings=(refused.finding,))
        if max(len(self._known), len(self._moved)) > KNOWN_TREES_MAX:
            self._known.clear()
            self._moved.clear()
        return _below(listing, prefix)

    def blob(self, tree: str, path: str) -> str | None:
        """The id of the regular file at a full path, None where there is none."""
        *parts, name = path.split("/")
        folder = self._descend(tree, tuple(parts))
        entries = parse_tree(self._read(folder, path)) if folder else ()
        return next((each.object_id for each in entries if each.name == name.encode() and each.mode in _REGULAR), None)

    def _descend(self, tree: str, parts: tuple[str, ...]) -> str | None:
        for part in parts:
            entries = parse_tree(self._read(tree, part))
            here = next((each for each in entries if each.name == part.encode()), None)
            if here is None or here.mode != _FOLDER:
                return None
            tree = here.object_id
        return tree

    def _listing(self, tree: str, path: str, depth: int) -> Listing:
        if depth > DEPTH_MAX:
            raise _too_deep(path)
        known = self._known.get(tree)
        if known is None:
            known = self._known[tree] = self._join(tree, path, depth)
        if depth + known.depth > DEPTH_MAX:
            raise _too_deep(path)
        return known

    def _join(self, tree: str, path: str, depth: int) -> Listing:
        entries = parse_tree(self._read(tree, path))
        total = len(entries)
        _bound_entries(total, path)
        files: list[tuple[str, str]] = []
        findings = [*_bad_names(entries)]
        deepest = 0
        for entry in entries:
            name = _readable(entry.name)
            if name is None or name.startswith("."):
                continue
            if entry.mode == _FOLDER:
                below = self._listing(entry.object_id, f"{path}/{name}".lstrip("/"), depth + 1)
                total += below.entries
                _bound_entries(total, path)
                deepest = max(deepest, below.depth + 1)
                moved = self._moved.get((entry.object_id, name))
                if moved is None:
                    moved = self._moved[entry.object_id, name] = _below(below, name)
                files.extend(moved.files)
                findings.extend(moved.findings)
            elif entry.mode in _REGULAR and is_manifest(name):
                files.append((name, entry.object_id))
            elif entry.mode not in _REGULAR:
                findings.append(_special(entry, name))
        return Listing(tuple(files), tuple(findings), total, deepest)

    def _read(self, tree: str, path: str) -> bytes:
        try:
            return self._objects.tree(tree)
        except ObjectTooLarge as error:
            raise WalkRefused(
                path, "tree_too_large", f"the folder's Git object is too large: {error.why}", ""
            ) from None


def parse_tree(raw: bytes) -> list[Entry]:
    found = _ENTRY.findall(raw)
    if sum(len(mode) + len(name) for mode, name, _ in found) + _REST_BYTES * len(found) != len(raw):
        raise Transient("read a Git tree", "the object is damaged", fix="run git fsck", code="source_unreadable")
    return [Entry(int(mode, 8), name, object_id.hex()) for mode, name, object_id in found]


def is_manifest(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


@functools.lru_cache(maxsize=KNOWN_TREES_MAX)
def _readable(name: bytes) -> str | None:
    """The name as text, unless something about it is wrong (then `_bad_names` says what)."""
    if name in (b".", b"..") or name.lower() == b".git" or b"/" in name or len(name) > NAME_BYTES_MAX:
        return None
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _bad_names(entries: Iterable[Entry]) -> Iterator[Finding]:
    seen: set[bytes] = set()
    for entry in entries:
        if entry.name in seen:
            shown = _shown(entry.name)
            yield _entry_finding(shown, "name_twice", "the folder has two entries of this name", "error")
        elif _readable(entry.name) is None:
            hidden = entry.name not in (b".", b"..") and entry.name.lower() != b".git" and b"/" not in entry.name
            harmless = hidden and entry.mode != _FOLDER and not entry.name.endswith((b".yaml", b".yml"))
            severity: Severity = "warning" if harmless else "error"
            message = "this is not a name that a manifest or folder may have"
            yield _entry_finding(_shown(entry.name), "name_invalid", message, severity)
        seen.add(entry.name)


def _shown(name: bytes) -> str:
    text = name[:NAME_BYTES_MAX].decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _special(entry: Entry, name: str) -> Finding:
    """Neither a folder nor a regular file."""
    if entry.mode == _LINK:
        severity: Severity = "error" if is_manifest(name) else "warning"
        return _entry_finding(name, "symbolic_link", "a symbolic link; links are never followed", severity)
    if entry.mode == _SUBMODULE:
        return _entry_finding(name, "submodule", "a submodule; submodules are never followed", "warning")
    return _entry_finding(name, "mode_unknown", f"an entry of the unknown mode {entry.mode:o}", "error")


def _entry_finding(name: str, code: str, message: str, severity: Severity) -> Finding:
    fix = "rename or remove it" if code.startswith("name") else "put the file itself there, or remove it"
    return Finding(name, 0, 0, "", code, message, fix, severity)


def _below(listing: Listing, folder: str) -> Listing:
    if not folder:
        return listing
    return Listing(
        tuple((f"{folder}/{path}", blob) for path, blob in listing.files),
        tuple(dataclasses.replace(each, path=f"{folder}/{each.path}") for each in listing.findings),
        listing.entries,
        listing.depth,
    )


def _bound_entries(total: int, path: str) -> None:
    if total > ENTRIES_MAX:
        fix = "give the source a path to the folder that holds the manifests"
        raise WalkRefused(path, "too_many_entries", f"more than {ENTRIES_MAX} files and folders", fix)


def _too_deep(path: str) -> WalkRefused:
    return WalkRefused(path, "too_deep", f"folders are nested more than {DEPTH_MAX} deep", "move the manifests up")


def _path_missing(prefix: str) -> Finding:
    message = f"the folder {prefix} is not in this commit; nothing is deleted for it"
    return Finding(prefix, 0, 0, "", "path_missing", message, "restore the folder, or change the source's path")
