"""The largest source may be declared by one commit: its batch is within all bounds."""

from __future__ import annotations

import dataclasses

from reconciler.core.cross_checks import RESOURCES_MAX, Tree
from reconciler.core.decide.git import GitState, decide_revision
from reconciler.core.model import Resource
from reconciler.core.planner import plan, revision_of
from reconciler.core.revisions import CommitInfo, Refused
from reconciler.store.append_checks import check_batch
from tests.unit.planner.trees import ENVIRONMENT, SOURCE, app, tree


def _apps(count: int) -> Tree:
    (one,) = (each for each in tree({"e": ENVIRONMENT, "a": app()}).resources.values() if each.id.kind == "app")
    ids = (dataclasses.replace(one.id, app=f"a{number}", name=f"a{number}") for number in range(count))
    return Tree({each: Resource(each, one.spec, one.origin) for each in ids})


def test_the_largest_first_commit() -> None:
    planned = plan(None, _apps(RESOURCES_MAX), source=SOURCE, info=CommitInfo("c" * 40, "Dev", "All"))
    revision = revision_of(planned, SOURCE, CommitInfo("c" * 40, "Dev", "All"))
    batch = decide_revision(GitState({}, {}, {}, source={"source_id": "main"}), revision, planned.commands)
    assert not isinstance(batch, Refused)
    texts = check_batch(batch, lambda event: None)
    assert len(texts) == 3 + 3 * RESOURCES_MAX


def test_a_release_counts_those_of_its_app_only() -> None:
    releases = {f"r-{number}": {"app": f"app-{number % 3}"} for number in range(10)}
    state = GitState({}, releases, {})
    assert [state.release_count(f"app-{number}") for number in range(4)] == [4, 3, 3, 0]
