"""Commits that are only dictionaries, read as the controller reads commits, without Git."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.declared import Scope
from reconciler.git.objects import CommitObject
from reconciler.git.tree_files import TreeFiles
from reconciler.git.tree_reader import TreeReader
from reconciler.vault import resolve_offline

_FILE, _FOLDER = b"100644", b"40000"


@dataclass
class Commits:
    """Path -> text of each commit; a commit's id is its number. As `reconciler.git.objects.Objects`."""

    trees: list[Mapping[str, str]]
    _objects: dict[str, bytes] = field(default_factory=dict)

    def commit(self, commit: str) -> CommitObject:
        files = {path: text.encode() for path, text in self.trees[int(commit)].items()}
        return CommitObject(commit, self._tree(files), "", "")

    def blob(self, object_id: str, bound_bytes: int) -> bytes:
        return self._objects[object_id]

    def tree(self, object_id: str) -> bytes:
        return self._objects[object_id]

    def _tree(self, files: Mapping[str, bytes]) -> str:
        below: dict[str, dict[str, bytes]] = {}
        rows = {}
        for path, content in files.items():
            name, _, rest = path.partition("/")
            if rest:
                below.setdefault(name, {})[rest] = content
            else:
                rows[name] = (_FILE, self._stored(content))
        rows |= {name: (_FOLDER, self._tree(each)) for name, each in below.items()}
        entries = [mode + b" " + name.encode() + b"\0" + bytes.fromhex(oid) for name, (mode, oid) in rows.items()]
        return self._stored(b"".join(sorted(entries)))

    def _stored(self, content: bytes) -> str:
        object_id = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self._objects[object_id] = content
        return object_id


def reader(commits: Commits) -> TreeReader:
    files = TreeFiles(commits, Scope("o", "p"), ())  # type: ignore[arg-type]  # it answers what it is asked
    return TreeReader(files, resolve_offline)
