"""Patterns, and whose word counts for a path."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.signing.approvals import approves, vouched
from reconciler.core.signing.globs import complaint, matches

NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("glob", "good", "bad"),
    [
        ("prod/**", ["prod/a", "prod/a/b.yaml", "prod"], ["production/a", "a/prod/b", "Prod/a"]),
        ("prod/", ["prod/a", "prod/a/b"], ["prod.yaml"]),
        ("*.yaml", ["a.yaml", ".yaml"], ["a/b.yaml", "a.yml"]),
        ("**/secret.yaml", ["secret.yaml", "a/b/secret.yaml"], ["a/secret.yaml/b", "asecret.yaml"]),
        ("a/**/b/?.yaml", ["a/b/c.yaml", "a/x/y/b/c.yaml"], ["a/b/cc.yaml", "a/b/.yaml", "b/c.yaml"]),
        ("a[b]*", ["a[b]", "a[b]c"], ["ab"]),
        ("**", ["a", "a/b", "\udcff/b"], []),
    ],
)
def test_patterns(glob: str, good: list[str], bad: list[str]) -> None:
    assert not complaint(glob)
    assert [path for path in good if not matches(glob, path)] == []
    assert [path for path in bad if matches(glob, path)] == []


@given(st.text("ab*?", min_size=1, max_size=12), st.text("ab", max_size=12))
def test_names_match_as_the_shell_has_it(glob: str, name: str) -> None:
    if not complaint(glob) and "**" not in glob:
        assert matches(glob, name) == fnmatch.fnmatchcase(name, glob)


def test_a_hostile_pattern_takes_no_time() -> None:
    began = time.monotonic()
    assert not matches("*a" * 90 + "b", "a" * 250)
    assert not matches("**/a/" * 35 + "b", "/".join("a" * 2000))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("glob", ["", "/a", "a//b", "../a", "a/./b", "a**", "x" * 201])
def test_patterns_that_are_none(glob: str) -> None:
    assert complaint(glob)


def test_who_vouches_for_what() -> None:
    changed = frozenset({"a", "b", "c"})
    assert vouched(changed, NONE, [frozenset({"a"})], ()) == {"a"}, "wrote a; b and c were like that before"
    assert vouched(changed, frozenset({"a"}), [frozenset({"a", "b"})], ()) == {"b"}, "its a is not the head's"
    assert vouched(changed, NONE, [frozenset({"a"}), frozenset({"b"})], ()) == NONE, "a merge that only takes over"
    assert vouched(changed, NONE, [frozenset({"a", "b"}), frozenset({"b"})], ()) == {"b"}, (
        "a merge that writes b itself"
    )
    assert vouched(changed, frozenset({"c"}), [NONE], ("**",)) == {"a", "b"}, "approved, but not another c"
    assert vouched(changed, NONE, [NONE], ("a",)) == {"a"}


def test_approvals_are_trailers() -> None:
    assert approves("Approve\n\nTrueup-Approve: prod/**\nTrueup-Approve: a\n") == ("prod/**", "a")
    assert approves("Trueup-Approve: prod/** is what one writes\n\nmore") == ()
    assert approves("x\n\nTrueup-Approve: /etc\n") == ()
    assert len(approves("x\n\n" + "Trueup-Approve: a\n" * 100)) == 20
