"""A commit's tree of resources: its files, with their secrets opened, joined.

`reconciler.git.judge` keeps one `TreeReader` per source. Where the files come from is a matter of `Files`: in the
controller a process of its own reads them, and this side, which holds the platform's key, only sees checked documents.
Secrets are opened here, once for each version of a file. Call it in a worker thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.declared import ManifestFile, settle
from reconciler.core.findings import Finding
from reconciler.core.secret_file import ResolveSecret
from reconciler.git.tree_files import TREES_KEPT, TreeDelta


class Files(Protocol):
    """As `TreeFiles.read`."""

    def read(self, commit: str, base: str = "") -> TreeDelta: ...


@dataclass(frozen=True, slots=True)
class _Tree:
    """`settled`: the files that are done with; one whose secrets could not be opened is tried again each time, since
    what was wrong with it may lie outside of it."""

    files: Mapping[str, ManifestFile]
    settled: Mapping[str, ManifestFile]
    findings: tuple[Finding, ...]


class TreeReader:
    """Keeps the two trees that it read last. `parsed`: how many files the last `read` parsed."""

    def __init__(self, files: Files, resolve: ResolveSecret) -> None:
        self._files = files
        self._resolve = resolve
        self._trees: OrderedDict[str, _Tree] = OrderedDict()
        self.parsed = 0

    def read(self, commit: str) -> Assembled:
        """Everything that the commit declares, and all findings. `Transient` when an object cannot be read."""
        known = self._trees.get(commit)
        self.parsed = 0
        if known is None:
            base = next(reversed(self._trees), "")
            delta = self._files.read(commit, base)
            self.parsed = delta.parsed
            if delta.unusable:
                return assemble([], delta.findings)
            known = _apply(delta, self._trees.get(delta.base))
        tree, files = self._settle(known)
        self._trees[commit] = tree
        self._trees.move_to_end(commit)
        while len(self._trees) > TREES_KEPT:
            self._trees.popitem(last=False)
        return assemble(files, tree.findings)

    def _settle(self, tree: _Tree) -> tuple[_Tree, list[ManifestFile]]:
        settled = dict(tree.settled)
        files = []
        for path, file in tree.files.items():
            done = settled.get(path)
            if done is None:
                done = settle(file, self._resolve)
                if len(done.findings) == len(file.findings):
                    settled[path] = done
            files.append(done)
        return _Tree(tree.files, settled, tree.findings), files


def _apply(delta: TreeDelta, base: _Tree | None) -> _Tree:
    files = dict(base.files) if base else {}
    settled = dict(base.settled) if base else {}
    for path in (*delta.removed, *(file.path for file in delta.files)):
        files.pop(path, None)
        settled.pop(path, None)
    files.update((file.path, file) for file in delta.files)
    return _Tree(files, settled, delta.findings)
