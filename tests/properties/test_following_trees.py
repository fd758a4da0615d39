"""A tree that is listed after another one is listed as if it were the first, whatever changed and is wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.findings import Finding
from reconciler.git import tree_walk
from reconciler.git.tree_folders import Changes
from reconciler.git.tree_walk import Listing, TreeWalk

Tree = tuple[tuple[bytes, bytes, "bytes | Tree"], ...]
"""Mode, name, content: in any order, with any name twice."""

NAMES = st.sampled_from((b"a.yaml", b"b.yml", b"c.txt", b"d", b"e", b".git", b"f\n.yaml", b"..", b"g\xff", b"40000 h"))
MODES = st.sampled_from((b"100644", b"100755", b"120000", b"160000", b"100000"))
FILES = st.tuples(MODES, NAMES, st.binary(max_size=1))
GOOD_FILES = st.tuples(st.just(b"100644"), st.sampled_from((b"a.yaml", b"b.yml", b"c.txt")), st.binary(max_size=1))


def _folder(below: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    folders = st.tuples(st.sampled_from((b"40000", b"40000", b"040000")), NAMES, below)
    good_folders = st.tuples(st.just(b"40000"), st.sampled_from((b"d", b"e", b"f")), below)
    good = st.lists(st.one_of(GOOD_FILES, good_folders), max_size=5, unique_by=lambda entry: entry[1])
    return st.one_of(good, good, st.lists(st.one_of(FILES, GOOD_FILES, folders), max_size=4)).map(tuple)


TREES = st.recursive(st.just(()), _folder, max_leaves=12)


@st.composite
def histories(draw: st.DrawFn) -> list[Tree]:
    """Trees that have much in common: each holds some of the same entries, at the top and in a folder."""
    pool = [*draw(TREES), *draw(TREES)]
    some = st.lists(st.sampled_from(pool), max_size=6).map(tuple) if pool else st.just(())
    if draw(st.booleans()):
        return draw(st.lists(some, min_size=2, max_size=5))
    return [
        ((b"40000", b"d", below), *top) for top, below in draw(st.lists(st.tuples(some, some), min_size=2, max_size=5))
    ]


@dataclass
class Stored:
    """As `reconciler.git.objects.Objects`, of trees. `reads`: how many."""

    objects: dict[str, bytes] = field(default_factory=dict)
    reads: int = 0

    def tree(self, object_id: str) -> bytes:
        self.reads += 1
        return self.objects[object_id]

    def store(self, tree: Tree) -> str:
        rows = [mode + b" " + name + b"\0" + bytes.fromhex(self._content(content)) for mode, name, content in tree]
        return self._put(b"".join(rows))

    def _content(self, content: bytes | Tree) -> str:
        return self._put(b"blob" + content) if isinstance(content, bytes) else self.store(content)

    def _put(self, raw: bytes) -> str:
        object_id = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        self.objects[object_id] = raw
        return object_id


def _walk(stored: Stored) -> TreeWalk:
    return TreeWalk(stored)  # type: ignore[arg-type]  # it is asked for trees only


def _said(listing: Listing) -> tuple[object, ...]:
    root = listing.root
    return (
        sorted(listing.files),
        sorted(listing.findings),
        root and (root.entries, root.depth, root.findings_below, root.name_twice),
    )


def _check(trees: list[Tree], parts: tuple[str, ...]) -> None:
    stored = Stored()
    following, before = _walk(stored), None
    for tree in trees:
        object_id = stored.store(tree)
        found, alone = following.list(object_id, parts, before), _walk(stored).list(object_id, parts)
        assert _said(found) == _said(alone)
        if before is not None and found.changes is not None:
            old, new = frozenset(before.files), frozenset(found.files)
            assert found.changes == Changes(old - new, new - old)
        elif before is not None and before.root and found.root:
            assert before.root.name_twice or found.root.name_twice
        before = found


@given(histories())
def test_listed_after_another_a_tree_is_what_it_is(trees: list[Tree]) -> None:
    _check(trees, ())


@given(histories())
def test_so_it_is_below_a_folder(trees: list[Tree]) -> None:
    _check(trees, ("d",))


@given(histories())
def test_so_it_is_at_its_bounds(trees: list[Tree]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_walk, "DEPTH_MAX", 1)
        patch.setattr(tree_walk, "ENTRIES_MAX", 5)
        _check(trees, ())


def test_the_work_follows_the_change() -> None:
    """One file of a thousand folders: the trees on its way are read, and no listing from before is remembered."""

    def tree(level: bytes) -> Tree:
        files = ((b"100644", b"app.yaml", level * (number == 7)) for number in range(1000))
        apps = tuple((b"40000", b"a%d" % number, (file,)) for number, file in enumerate(files))
        return ((b"40000", b"apps", apps), (b"120000", b"link", b""))

    stored = Stored()
    walk = _walk(stored)
    listing = walk.list(stored.store(tree(b"")), ())
    stored.reads = 0
    for number in range(50):
        listing = walk.list(stored.store(tree(b"%d" % number)), (), listing)
        assert listing.changes and len(listing.changes.added) == len(listing.changes.removed) == 1
    assert stored.reads == 50 * 3
    assert [each.code for each in listing.findings] == ["symbolic_link"]
    assert len(walk._known) < 30


def test_a_finding_keeps_its_path() -> None:
    stored = Stored()
    walk = _walk(stored)
    bad: Tree = ((b"40000", b"d", ((b"40000", b"e", ((b"120000", b"a.yaml", b""),)),)),)
    first = walk.list(stored.store(()), ())
    found = walk.list(stored.store(bad), (), first)
    assert [(each.path, each.code) for each in found.findings if isinstance(each, Finding)] == [
        ("d/e/a.yaml", "symbolic_link")
    ]


FILE: Tree = ((b"100644", b"a.yaml", b""),)
LINK: Tree = ((b"120000", b"link", b""),)


@pytest.mark.parametrize(
    "trees",
    [
        (((b"40000", b"d", LINK),), ((b"40000", b"d", LINK), (b"40000", b"e", FILE))),
        (((b"40000", b"d", (*FILE, *FILE)),), ((b"40000", b"d", (*FILE, *FILE)), (b"40000", b"e", FILE))),
        (FILE, ((b"100755", b"a.yaml", b""),)),
        (((b"40000", b"d", ((b"40000", b"e", FILE),)),), ((b"40000", b"d", FILE), (b"40000", b"e", FILE))),
    ],
    ids=["a finding elsewhere", "a name twice elsewhere", "a mode", "a folder becomes less deep"],
)
def test_what_is_easily_forgotten(trees: tuple[Tree, ...]) -> None:
    _check([*trees, *reversed(trees)], ())


def test_the_bound_that_is_met_first_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_walk, "ENTRIES_MAX", 5)
    files: Tree = tuple((b"100644", b"%d.yaml" % number, b"") for number in range(6))
    below: Tree = ((b"40000", b"f", files), *(entry for entry in files[:5]))
    _check([((b"40000", b"d", FILE),), ((b"40000", b"d", (*files, (b"40000", b"f", files))), *below)], ())
