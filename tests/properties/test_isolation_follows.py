"""A commit that is judged after others is judged as if nothing had been before it in memory, whatever is held back.

Histories in which apps break in all the ways that files break, come, go and mend, and share hostnames, raw ports,
files, folder defaults and overlays with good ones; the live system objects to some; what cannot be applied is followed
by what can. Each commit is judged by one that has followed all of them, and by one that has seen nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core import incremental
from reconciler.core.cross_checks import assemble
from reconciler.core.findings import Finding, errors
from reconciler.core.isolation import Isolated, Situation, isolate
from reconciler.core.isolation.live import Live
from reconciler.core.removals import differs
from reconciler.git.judge import Judged, judge
from reconciler.git.live_rows import LiveRows
from reconciler.git.tree_reader import TreeReader
from reconciler.vault import resolve_offline
from tests.properties.isolated_anew import isolated_anew
from tests.unit.isolation.followed import Followed, codes, held
from tests.unit.planner.trees import ENVIRONMENT, app, route, secret, volume

RAW = "port: https, listenPort: 9000, protocol: tcp_raw}"
DEFAULTS = "apiVersion: trueup/v1\nkind: Defaults\nspec: {process: {cpu: %s}}\n"
OVERLAY = (
    "apiVersion: trueup/v1\nkind: Overlay\ntarget: {kind: App, name: a, env: prod}\npatch: {processes: {web: %s}}\n"
)
STAGE = ENVIRONMENT.replace("prod", "stage")
UNREADABLE = "kind: {\n"


def _of(name: str) -> dict[str, tuple[str, ...]]:
    """Path -> what may stand there."""
    uses = "      volumes: [{name: data, path: /data}]\n      secrets: [keys]\n"
    routes = [route("r", host, name) for host in ("one", "two", name)]
    return {
        f"{name}/app.yaml": (
            app(name),
            app(name, "      replicas: 2\n"),
            app(name, uses),
            app(name, "      replicaz: 2\n"),
            app(name).replace("web:", "job:"),
            app(name).replace("env: prod", "env: stage"),
            app(name).replace("env: prod", "env: nowhere"),
            app(name) + "---\n" + app("d"),
            UNREADABLE,
        ),
        f"{name}/route.yaml": (
            *routes,
            *(each.replace("port: https}", RAW) for each in routes[1:]),
            routes[0].replace("port: https}", "port: https, listenPort: 9000}"),
            routes[0].replace("https", "nothing"),
            UNREADABLE,
        ),
        f"{name}/more.yaml": (
            volume("data", app_name=name),
            secret("keys", app_name=name),
            volume("data", "lots", name),
            volume("data", app_name=name) + "---\n" + route("s", "two", name),
            app(name),
            UNREADABLE,
        ),
    }


PLACES: dict[str, tuple[str, ...]] = {
    **_of("a"),
    **_of("b"),
    **_of("c"),
    "env.yaml": (ENVIRONMENT, ENVIRONMENT, ENVIRONMENT, ENVIRONMENT + "---\n" + STAGE, UNREADABLE),
    "stage.yaml": (STAGE, UNREADABLE),
    "a/defaults.yaml": (DEFAULTS % "2", DEFAULTS % "lots", UNREADABLE),
    "over.yaml": (OVERLAY % "{replicas: 3}", OVERLAY % "{replicaz: 3}"),
    "new.yaml": (UNREADABLE, app("e"), app("b")),
}
GOOD = {"env.yaml": 0, **{f"{name}/{part}.yaml": 0 for name in "abc" for part in ("app", "more")}}
GOOD |= {f"{name}/route.yaml": 2 for name in "abc"}
IDS = tuple(f"org/project/prod/{name}/app/{name}" for name in "abc")

edits = st.dictionaries(st.sampled_from(sorted(PLACES)), st.none() | st.integers(0, 8), min_size=1, max_size=3)
against = st.sampled_from((*[()] * 6, *((each,) for each in IDS)))
History = list[tuple[dict[str, int | None], tuple[str, ...]]]
histories = st.lists(st.tuples(edits, against), min_size=1, max_size=6)


def _tree(now: Mapping[str, int]) -> dict[str, str]:
    return {path: PLACES[path][each % len(PLACES[path])] for path, each in now.items()}


def _objection(app_id: str) -> Finding:
    return Finding("x.yaml", 1, 0, "", "hostname_taken", f"{app_id} belongs to another source")


def _alone(followed: Followed, head: str, blamed: Mapping[str, tuple[Finding, ...]]) -> Judged:
    """By one that has seen nothing, from the rows and the commits."""
    reader = TreeReader(followed.commits, resolve_offline)
    return judge(
        followed.source,
        followed.commits,  # type: ignore[arg-type]  # the part of it that is asked for without signatures
        reader,
        head=head,
        base=followed.applied,
        rows={text: dict(row) for text, row in followed.rows.items()},
        held=followed.held,
        blamed=blamed,
    )


def _commits(history: History) -> Iterator[tuple[dict[str, str], Mapping[str, tuple[Finding, ...]]]]:
    """Each with what the live system says against apps of it."""
    now: dict[str, int] = dict(GOOD)
    for edit, apps in history:
        now = {path: each for path, each in {**now, **edit}.items() if each is not None}
        yield _tree(now), {each: (_objection(each),) for each in apps}


@given(histories)
@settings(max_examples=100, deadline=None)
def test_judged_after_others_a_commit_is_judged_as_by_itself(history: History) -> None:
    followed = Followed()
    followed.commit(_tree(GOOD))
    for tree, blamed in _commits(history):
        head = followed.commits.add(tree, "change")
        alone = _alone(followed, head, blamed)
        judged = followed.judge(head, blamed)
        assert judged == alone
        if judged.plan is not None and not errors(judged.findings):
            followed.apply(judged)


@given(histories)
@settings(max_examples=100, deadline=None)
def test_what_is_left_is_as_if_it_were_assembled_again(history: History) -> None:
    followed = Followed()
    followed.commit(_tree(GOOD))
    for tree, blamed in _commits(history):
        reader = TreeReader(followed.commits, resolve_offline)
        base = reader.read(followed.applied).files
        live, carried = LiveRows("main").after(followed.rows).live, dict(followed.held)
        judged = followed.commit(tree, against=blamed)
        head = reader.read(judged.info.commit)
        situation = Situation(live, base, carried, blamed)
        found, anew = isolate(head, situation), isolated_anew(head, situation)
        if isinstance(found, Isolated):
            assert anew is not None
            assert (dict(found.tree.resources), {each.app for each in found.held}) == anew
        else:
            assert anew is None


def test_a_commit_beside_a_held_app_is_joined_and_compared_where_it_differs() -> None:
    """The properties above would hold as well if everything were looked at again."""
    names = [f"app{number}" for number in range(30)]
    files = {"env.yaml": ENVIRONMENT}
    for name in names:
        files |= {f"{name}/app.yaml": app(name), f"{name}/route.yaml": route("r", name, name)}
    for bad in (
        "kind: {\n",
        app("app0", "      replicaz: 1\n"),
        app("app0").replace("8443", "8444").replace("https", "x"),
    ):
        followed = Followed()
        followed.commit(files)
        followed.commit(files)  # a first commit is compared as a whole, and so is what it brought
        broken = {**files, "app0/app.yaml": bad}
        steps = [broken]
        for name in names[1:6]:
            steps.append({**steps[-1], f"{name}/app.yaml": app(name, "      replicas: 2\n")})
        steps += [{**steps[-1], "app0/app.yaml": app("app0")}, files]
        for number, step in enumerate(steps):
            with (
                patch.object(incremental, "assemble", wraps=assemble) as joined,
                patch("reconciler.git.live_rows.differs", wraps=differs) as compared,
                patch.object(Live, "of") as anew,
            ):
                judged = followed.commit(step)
            assert (codes(judged), anew.call_count) == ([], 0)
            if bad == UNREADABLE and number in (0, len(steps) - 2):
                continue  # its route speaks of an app that nobody declares: who could be meant is asked of all
            files_joined = sum(len(each) for call in joined.mock_calls for each in call.args[:1])
            assert (files_joined < 16, compared.call_count < 20) == (True, True), number
        assert held(judged) == {}


def test_a_raw_port_that_a_held_app_keeps_is_kept() -> None:
    """From one that had it, breaks, and gives it up in the same change; to one that wants it by name."""
    raw, named = (
        route("r", host, name).replace("port: https}", more)
        for host, name, more in (
            ("one", "a", RAW),
            ("two", "b", "port: https, listenPort: 9000}"),
        )
    )
    followed = Followed()
    apps = {"env.yaml": ENVIRONMENT, "a/app.yaml": app("a"), "b/app.yaml": app("b")}
    followed.commit({**apps, "a/route.yaml": raw})
    taken = {**apps, "a/route.yaml": route("r", "one", "a"), "b/route.yaml": named}
    judged = followed.commit({**taken, "a/app.yaml": app("a", "      replicaz: 2\n")})
    assert set(held(judged)) == {"a", "b"}
    assert held(followed.commit(taken)) == {}


def test_what_changed_in_the_rows_alone_is_seen() -> None:
    """While an app is held back the plan starts from the rows, whoever changed them."""
    followed = Followed()
    tree = {**_tree(GOOD), "a/app.yaml": UNREADABLE}
    followed.commit(tree)
    followed.commit(tree)
    text = "org/project/prod/b/app/b"
    followed.rows[text] = {**followed.rows[text], "spec": {"processes": {}}}
    judged = followed.commit(tree)
    assert judged.plan is not None
    assert [str(each.resource_id) for each in judged.plan.changes] == [text]


def test_a_row_that_is_gone_is_declared_anew() -> None:
    """A resource whose row went stays in nobody's memory."""
    followed = Followed()
    tree = {**_tree(GOOD), "a/app.yaml": UNREADABLE}
    followed.commit(tree)
    followed.commit(tree)
    text = "org/project/prod/b/app/b"
    del followed.rows[text]
    judged = followed.commit(tree)
    assert judged.plan is not None
    assert [str(each.resource_id) for each in judged.plan.changes] == [text]
