"""A commit that is read after another one: it costs what differs, and nobody misses what he inherits."""

from __future__ import annotations

from reconciler.core.findings import errors
from tests.unit.manifest.in_memory import Commits, reader
from tests.unit.planner.trees import ENVIRONMENT, app

DEFAULTS = "apiVersion: trueup/v1\nkind: Defaults\nmetadata: {env: prod}\nspec:\n  process: {cpu: %s}\n"
TREE = {"defaults.yaml": DEFAULTS % 1, "e.yaml": ENVIRONMENT, "a.yaml": app("a"), "b.yaml": app("b")}


def test_a_changed_default_reaches_the_files_that_did_not_change() -> None:
    following = reader(Commits([TREE, {**TREE, "defaults.yaml": DEFAULTS % 2}]))
    following.read("0")
    found = following.read("1")
    assert not errors(found.findings)
    cpus = [each.spec["processes"]["web"]["cpu"] for each in found.tree.resources.values() if each.id.kind == "app"]
    assert cpus == [2, 2]


def test_a_changed_app_is_the_only_file_that_is_parsed() -> None:
    following = reader(Commits([TREE, {**TREE, "b.yaml": app("b", "      replicas: 2\n")}]))
    before = following.read("0").tree
    after = following.read("1").tree
    assert following.parsed == 1
    assert after.base is before.mark
    assert {each.short for each in after.touched} == {"environment/prod", "prod/app/b"}
