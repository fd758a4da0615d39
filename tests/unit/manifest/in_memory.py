"""Commits that are only dictionaries, read as the controller reads commits, without Git."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.core.declared import Scope
from reconciler.git.objects import CommitObject
from reconciler.git.tree_files import TreeFiles
from reconciler.git.tree_reader import TreeReader
from reconciler.git.tree_walk import Listing
from reconciler.vault import resolve_offline


@dataclass
class Commits:
    """Path -> text of each commit; a commit's id is its number, a blob's id its content."""

    trees: list[Mapping[str, str]]

    def commit(self, commit: str) -> CommitObject:
        return CommitObject(commit, commit, "", "")

    def blob(self, object_id: str, bound_bytes: int) -> bytes:
        return object_id.encode()

    def list(self, tree: str, parts: tuple[str, ...]) -> Listing:
        """In place of the walk."""
        return Listing(tuple(self.trees[int(tree)].items()))


def reader(commits: Commits) -> TreeReader:
    files = TreeFiles(commits, Scope("o", "p"), ())  # type: ignore[arg-type]  # it answers what it is asked
    files._walk = commits  # type: ignore[assignment]
    return TreeReader(files, resolve_offline)
