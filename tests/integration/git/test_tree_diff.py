"""Which files differ between two trees: as git says it, and within bounds where a tree means harm."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from reconciler.git import tree_diff
from reconciler.git.objects import ObjectStore
from reconciler.git.tree_diff import DiffRefused, TreeDiff
from tests.integration.git.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_the_same_paths_as_git(repository: Repository) -> None:
    """Files, folders that become files and the other way round, modes, names that are no text."""
    rng = random.Random(7)
    names = [b"a", b"b", b"caf\xe9", b"a.b"]

    def tree(depth: int) -> str:
        entries = []
        for name in rng.sample(names, rng.randrange(len(names) + 1)):
            if depth < 3 and rng.random() < 0.5:
                entries.append(("40000", name, tree(depth + 1)))
            else:
                mode = rng.choice(["100644", "100755", "120000"])
                entries.append((mode, name, repository.blob(rng.choice("xy"))))
        entries.sort(key=lambda entry: entry[1] + (b"/" if entry[0] == "40000" else b""))
        return repository.tree(*entries)

    trees = [tree(0) for _ in range(12)]
    diff = TreeDiff(ObjectStore(repository.path))
    for one, other in [(rng.choice(trees), rng.choice(trees)) for _ in range(40)]:
        command = [
            "git",
            "-C",
            str(repository.path),
            "diff-tree",
            "-r",
            "--name-only",
            "-z",
            "--no-renames",
            one,
            other,
        ]
        said = subprocess.run(command, capture_output=True, check=True).stdout
        found = diff.paths(one, other)
        assert {path.encode("utf-8", "surrogateescape") for path in found} == set(said.split(b"\0")) - {b""}
        some = frozenset(path for path in found if rng.random() < 0.5)
        assert diff.paths(one, other, some) == some
        assert diff.paths(other, one) == found


@pytest.mark.parametrize("names", [(b"a", b"a"), (b"a/b",)])
def test_trees_with_two_meanings_are_not_compared(repository: Repository, names: tuple[bytes, ...]) -> None:
    odd = repository.tree(*(("100644", name, repository.blob(str(place))) for place, name in enumerate(names)))
    with pytest.raises(DiffRefused, match="a name twice, or a / in a name"):
        TreeDiff(ObjectStore(repository.path)).paths("", odd)


def test_a_bomb_of_trees_ends_at_the_bound(repository: Repository) -> None:
    tree = repository.tree(*(("100644", b"f%d" % n, repository.blob("x")) for n in range(10)))
    for _ in range(10):
        tree = repository.tree(*(("40000", b"d%d" % n, tree) for n in range(10)))
    began = time.monotonic()
    with pytest.raises(DiffRefused, match="files differ"):
        TreeDiff(ObjectStore(repository.path)).paths("", tree)
    for _ in range(60):
        tree = repository.tree(("40000", b"d", tree))
    with pytest.raises(DiffRefused, match="deep"):
        TreeDiff(ObjectStore(repository.path)).paths("", tree)
    assert time.monotonic() - began < 5


def test_the_bound_of_work_is_that_of_all_calls(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_diff, "ENTRIES_LOOKED_AT_MAX", 10)
    tree = repository.tree(*(("100644", b"f%d" % n, repository.blob("x")) for n in range(4)))
    diff = TreeDiff(ObjectStore(repository.path))
    assert len(diff.paths("", tree)) == len(diff.paths("", tree)) == 4
    with pytest.raises(DiffRefused, match="too much"):
        diff.paths("", tree)
