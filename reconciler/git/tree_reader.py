"""A commit's tree of resources: its files, with their secrets opened, joined.

`reconciler.git.judge` keeps one `TreeReader` per source. Where the files come from is a matter of `Files`: in the
controller a process of its own reads them, and this side, which holds the platform's key, only sees checked documents.
Secrets are opened here, once for each version of a file. Call it in a worker thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.declared import ManifestFile, settle
from reconciler.core.findings import Finding
from reconciler.core.incremental import join
from reconciler.core.secret_file import ResolveSecret
from reconciler.git.tree_files import TREES_KEPT, TreeDelta


class Files(Protocol):
    """As `TreeFiles.read`."""

    def read(self, commit: str, base: str = "") -> TreeDelta: ...


@dataclass(frozen=True, slots=True)
class _Tree:
    """`files`: as they were read. `joined`: with their secrets opened. `open`: the paths of those whose secrets could
    not be opened; they are tried again each time, since what was wrong with them may lie outside of them."""

    files: Mapping[str, ManifestFile]
    findings: tuple[Finding, ...]
    joined: Assembled
    open: frozenset[str]


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
            known = self._apply(delta, self._trees.get(delta.base))
        elif known.open:
            known = self._join(known.files, known.findings, known, known.open)
        self._trees[commit] = known
        self._trees.move_to_end(commit)
        while len(self._trees) > TREES_KEPT:
            self._trees.popitem(last=False)
        return known.joined

    def _apply(self, delta: TreeDelta, base: _Tree | None) -> _Tree:
        files = dict(base.files) if base else {}
        changed = {*delta.removed, *(file.path for file in delta.files)}
        for path in delta.removed:
            files.pop(path, None)
        files.update((file.path, file) for file in delta.files)
        return self._join(files, delta.findings, base, changed | base.open if base else files.keys())

    def _join(
        self,
        files: Mapping[str, ManifestFile],
        findings: tuple[Finding, ...],
        base: _Tree | None,
        changed: AbstractSet[str],
    ) -> _Tree:
        """`changed`: the paths at which `files` differs from those of `base`, or that are still open there."""
        settled = dict(base.joined.files) if base else {}
        still_open = set[str]()
        for path in changed:
            if path not in files:
                settled.pop(path, None)
                continue
            settled[path] = settle(files[path], self._resolve)
            if len(settled[path].broken) != len(files[path].broken):
                still_open.add(path)
        joined = join(settled, findings, base.joined if base else None, changed)
        return _Tree(files, findings, joined, frozenset(still_open))
