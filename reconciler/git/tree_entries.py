"""What one tree object holds: its entries, and what is wrong with them. Nothing in it is trusted.

`tree_walk` and `tree_diff` read trees with it. A tree object is a row of: mode in octal, space, name, NUL, 20 bytes of
object id. Regular files named *.yaml or *.yml are manifests.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kit.errors import Transient
from reconciler.core.findings import Finding, Severity

NAME_BYTES_MAX = 255
NAMES_KEPT = 50_000
ID_BYTES = 20
_FOLDER = 0o40000
_FOLDER_ROWS = (b"40000 ", b"040000 ")
_LINK, _SUBMODULE = 0o120000, 0o160000
_REGULAR = frozenset({0o100644, 0o100755, 0o100664})
_ROW = re.compile(rb"[0-7]{5,6} [^\x00]+\x00.{20}", re.DOTALL)
_NAME = re.compile(rb"[0-7]{5,6} ([^\x00]+)\x00.{20}", re.DOTALL)


class Entry(NamedTuple):
    mode: int
    name: bytes
    object_id: str

    @property
    def is_file(self) -> bool:
        return self.mode in _REGULAR


def rows_of(raw: bytes) -> list[bytes]:
    """The entries of a tree, each as it is stored."""
    rows: list[bytes] = _ROW.findall(raw)
    if sum(map(len, rows)) != len(raw):
        raise Transient("read a Git tree", "the object is damaged", fix="run git fsck", code="source_unreadable")
    return rows


def entry_of(row: bytes) -> Entry:
    mode, _, rest = row.partition(b" ")
    return Entry(int(mode, 8), rest[: -ID_BYTES - 1], rest[-ID_BYTES:].hex())


def parse_tree(raw: bytes) -> list[Entry]:
    return [entry_of(row) for row in rows_of(raw)]


def is_folder(row: bytes) -> bool:
    return row.startswith(_FOLDER_ROWS)


def names_differ(raw: bytes) -> bool:
    """No name is in the tree twice."""
    names = _NAME.findall(raw)
    return len(set(names)) == len(names)


def is_manifest(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


@functools.lru_cache(maxsize=NAMES_KEPT)
def readable(name: bytes) -> str | None:
    """The name as text, unless something about it is wrong (then `findings_of` says what)."""
    if name in (b".", b"..") or name.lower() == b".git" or b"/" in name or len(name) > NAME_BYTES_MAX:
        return None
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def findings_of(entries: Iterable[Entry]) -> Iterator[Finding]:
    """What is wrong with the entries of one tree, by name. What is hidden (.github and the like) is only looked at for
    its name."""
    seen: set[bytes] = set()
    for entry in entries:
        name = readable(entry.name)
        if entry.name in seen:
            yield _finding(_shown(entry.name), "name_twice", "the folder has two entries of this name", "error")
        elif name is None:
            yield _invalid(entry)
        if name is not None and not name.startswith(".") and entry.mode != _FOLDER and not entry.is_file:
            yield _special(entry, name)
        seen.add(entry.name)


def _invalid(entry: Entry) -> Finding:
    hidden = entry.name not in (b".", b"..") and entry.name.lower() != b".git" and b"/" not in entry.name
    harmless = hidden and entry.mode != _FOLDER and not entry.name.endswith((b".yaml", b".yml"))
    message = "this is not a name that a manifest or folder may have"
    return _finding(_shown(entry.name), "name_invalid", message, "warning" if harmless else "error")


def _shown(name: bytes) -> str:
    text = name[:NAME_BYTES_MAX].decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _special(entry: Entry, name: str) -> Finding:
    """Neither a folder nor a regular file."""
    if entry.mode == _LINK:
        severity: Severity = "error" if is_manifest(name) else "warning"
        return _finding(name, "symbolic_link", "a symbolic link; links are never followed", severity)
    if entry.mode == _SUBMODULE:
        return _finding(name, "submodule", "a submodule; submodules are never followed", "warning")
    return _finding(name, "mode_unknown", f"an entry of the unknown mode {entry.mode:o}", "error")


def _finding(name: str, code: str, message: str, severity: Severity) -> Finding:
    fix = "rename or remove it" if code.startswith("name") else "put the file itself there, or remove it"
    return Finding(name, 0, 0, "", code, message, fix, severity)
