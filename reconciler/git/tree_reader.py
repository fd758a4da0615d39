"""A commit's tree of resources, out of the object store.

`reconciler.tasks.git_sync` and `trueup plan` keep one `TreeReader` per source. Files that did not change are not read
and not parsed again: the work of a commit follows what it changes, except for the cross-checks, which look at all
identities in memory. Call it in a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.findings import Finding
from reconciler.core.manifest import ManifestFile, Scope, read_file
from reconciler.core.secret_file import ResolveSecret
from reconciler.core.yaml_reader import FILE_BYTES_MAX, file_too_large
from reconciler.git.objects import ObjectStore, ObjectTooLarge
from reconciler.git.tree_walk import TreeWalk

TREE_MANIFEST_BYTES_MAX = 32 << 20
"""Of all manifests of a source together; parsing takes a few seconds per MiB."""


@dataclass(frozen=True, slots=True)
class _Read:
    file: ManifestFile
    size_bytes: int


class TreeReader:
    """Keeps the files of the two trees that it read last. `parsed`: how many blobs the last `read` parsed."""

    def __init__(self, objects: ObjectStore, scope: Scope, resolve: ResolveSecret, parts: tuple[str, ...]) -> None:
        self._objects = objects
        self._scope = scope
        self._resolve = resolve
        self._parts = parts
        self._walk = TreeWalk(objects)
        self._newest: dict[tuple[str, str], _Read] = {}
        self._older: dict[tuple[str, str], _Read] = {}
        self.parsed = 0

    def fork(self, objects: ObjectStore) -> TreeReader:
        """Another reader, for another thread, that knows the files that this one knows."""
        made = TreeReader(objects, self._scope, self._resolve, self._parts)
        made._newest, made._older = self._newest, self._older  # replaced as a whole, never changed
        return made

    def read(self, commit: str) -> Assembled:
        """Everything that the commit declares, and all findings. `Transient` when an object cannot be read."""
        listing = self._walk.list(self._objects.commit(commit).tree, self._parts)
        self.parsed = 0
        total_bytes = 0
        current: dict[tuple[str, str], _Read] = {}
        for key in listing.files:
            current[key] = self._known(key) or self._parse(*key)
            total_bytes += current[key].size_bytes
            if total_bytes > TREE_MANIFEST_BYTES_MAX:
                return assemble([], [_tree_too_large(key[0])])
        self._older, self._newest = self._newest, current
        return assemble([each.file for each in current.values()], listing.findings)

    def _known(self, key: tuple[str, str]) -> _Read | None:
        """A file with findings is read anew: what was wrong with it may lie outside of it (the platform's key)."""
        known = self._newest.get(key) or self._older.get(key)
        return known if known and not known.file.findings else None

    def _parse(self, path: str, blob: str) -> _Read:
        self.parsed += 1
        try:
            content = self._objects.blob(blob, FILE_BYTES_MAX)
        except ObjectTooLarge as error:
            finding = file_too_large(path, error.size_bytes)
            return _Read(ManifestFile(path, opaque=True, findings=(finding,)), 0)
        return _Read(read_file(content, path, blob, self._scope, self._resolve), len(content))


def _tree_too_large(path: str) -> Finding:
    message = f"the manifests together have more than {TREE_MANIFEST_BYTES_MAX} bytes"
    return Finding(path, 0, 0, "", "tree_too_large", message, "split the repository into several sources")
