"""For any row of trees: joined one onto the other they are what each of them is by itself, and so are the plans.

Trees that are good, trees with mistakes within and between files, files that move, several files for one app and
several apps in one file, hostnames that change hands, raw listeners, ports that routes name.
"""

from __future__ import annotations

import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.declared import ManifestFile
from reconciler.core.findings import Finding, errors
from reconciler.core.incremental import join
from reconciler.core.manifest import Scope, read_file
from reconciler.core.planner import Plan, plan
from reconciler.core.revisions import CommitInfo
from reconciler.vault import resolve_offline
from tests.unit.planner.trees import ENVIRONMENT, SOURCE, app, route, secret, volume

USES = "      volumes: [{name: data, path: /data}]\n      secrets: [keys]\n"
RAW = route("raw", "raw").replace("port: https}", "port: https, listenPort: 9000, protocol: tcp_raw}")
DOCUMENTS = (
    ENVIRONMENT,
    ENVIRONMENT.replace("prod", "stage"),
    app("site"),
    app("site", "      replicas: 2\n"),
    app("site", USES),
    app("site").replace("8443", "9443"),
    app("site").replace("web:", "job:"),
    app("blog"),
    app("blog").replace("env: prod", "env: stage"),
    app("blog", "      env: {LEVEL: info}\n"),
    route("r", "one"),
    route("r", "two"),
    route("r", "one", app_name="blog"),
    route("s", "two", app_name="blog"),
    route("s", "one").replace("port: https}", "port: https, listenPort: 9000}"),
    RAW,
    volume("data"),
    secret("keys"),
    secret("keys", "bb"),
    route("s", "one", app_name="blog"),
    "a: b: c\n",
    app("site", "      wrong: 1\n"),
)
WARNING = Finding("x.yaml", 1, 1, "", "variable_unused", "a warning", "", "warning")
ERROR = Finding("x.yaml", 1, 1, "", "overlay_twice", "an error", "")

trees = st.dictionaries(
    st.sampled_from(["e.yaml", "a.yaml", "b.yaml", "c/d.yaml"]),
    st.lists(st.integers(0, len(DOCUMENTS) - 1), min_size=1, max_size=3, unique=True),
    max_size=4,
)
good = {"e.yaml": [0], "a.yaml": [4, 10], "b.yaml": [7, 16], "c/d.yaml": [17]}
"""All in order, and an app whose parts lie in several files."""
edits = st.dictionaries(
    st.sampled_from(sorted(good)), st.none() | st.lists(st.integers(0, len(DOCUMENTS) - 1), max_size=3), max_size=2
)
findings = st.sampled_from([(), (), (), (WARNING,), (ERROR,)])


@functools.cache
def file(path: str, documents: tuple[int, ...]) -> ManifestFile:
    text = "---\n".join(DOCUMENTS[each] for each in documents)
    return read_file(text.encode(), path, "0" * 40, Scope("org", "project"), resolve_offline)


def as_plan(before: Assembled, after: Assembled) -> Plan:
    info = CommitInfo("c" * 40, "Dev <dev@example.com>", "a subject")
    return plan(before.tree, after.tree, source=SOURCE, info=info, base_commit="b" * 40)


@settings(max_examples=400, deadline=None)
@given(steps=st.lists(st.tuples(edits | trees, findings), min_size=1, max_size=8))
def test_joined_onto_another_a_tree_is_what_it_is(
    steps: list[tuple[dict[str, list[int] | None], tuple[Finding, ...]]],
) -> None:
    now: dict[str, list[int]] = dict(good)
    joined = _joined(now, (), None)
    alone = assemble(joined.files.values())
    assert not errors(alone.findings)
    for edit, more in steps:
        now = {path: each for path, each in {**now, **edit}.items() if each}
        before, joined = joined, _joined(now, more, joined)
        was, alone = alone, assemble([file(path, tuple(each)) for path, each in now.items()], more)
        assert list(joined.tree.resources.items()) == list(alone.tree.resources.items())
        assert joined == alone
        if not errors(was.findings) and not errors(alone.findings):
            assert as_plan(before, joined) == as_plan(was, alone)


def test_a_good_commit_is_joined_onto_the_one_before() -> None:
    """The property above would hold as well if everything were joined anew."""
    before = _joined(good, (), None)
    for edit in ({"a.yaml": [3, 10]}, {"a.yaml": [3, 11]}, {"b.yaml": [16]}, {"c/d.yaml": [18]}, {"new.yaml": [13]}):
        after = _joined({**good, **edit}, (), before)
        tree = after.tree
        assert not errors(after.findings)
        assert tree.base is before.tree.mark, edit
        assert len(tree.touched) < 7


def test_what_another_app_holds_is_seen() -> None:
    """A hostname, an identity: of files that the commit does not touch."""
    before = _joined(good, (), None)
    for document, code in (
        (DOCUMENTS.index(route("s", "one", app_name="blog")), "hostname_twice"),
        (7, "declared_twice"),
    ):
        after = _joined({**good, "new.yaml": [document]}, (), before)
        assert [each.code for each in after.findings] == [code]


def _joined(now: dict[str, list[int]], more: tuple[Finding, ...], before: Assembled | None) -> Assembled:
    files = {path: file(path, tuple(each)) for path, each in now.items()}
    known = before.files if before else {}
    changed = {path for path in {*files, *known} if files.get(path) is not known.get(path)}
    return join(files, more, before, changed)
