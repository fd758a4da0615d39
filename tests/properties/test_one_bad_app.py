"""One bad app does not hold back the others, whatever the history.

A history is a row of trees of a few apps (files that move, hostnames that are passed round, volumes that come and go),
in which apps break in all the ways that files break. It is followed by the real judge, and beside it runs the same
history in which the files of every app that was held back are as they last were good: both must have the same rows all
along. `Followed` holds each plan to it that nothing of a held app is touched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.model import ResourceId
from tests.unit.isolation.followed import Followed, codes
from tests.unit.planner.trees import ENVIRONMENT, app, route, volume

NAMES = ("a", "b", "c")
HOSTS = ("one", "two", "three", "four")
BREAKS = ("", "field", "port", "volume", "twice", "unreadable", "unreadable route", "nameless")
OPAQUE = ("unreadable", "unreadable route", "nameless")
Files = dict[str, str]


@dataclass(frozen=True)
class App:
    """`folder`: where its files are; `joined`: in one file. `broken`: how, "" for not at all."""

    name: str
    replicas: int
    host: str
    has_volume: bool
    folder: str
    joined: bool
    broken: str = ""

    def files(self) -> Files:
        mistake = "      replicaz: 1\n" if self.broken == "field" else ""
        mounts = "      volumes: [{name: nowhere, path: /v}]\n" if self.broken == "volume" else ""
        made = {
            "app": app(self.name, f"      replicas: {self.replicas}\n{mistake}{mounts}"),
            "route": route("r", self.host, self.name, "nowhere" if self.broken == "port" else "https"),
        }
        if self.has_volume:
            made["volume"] = volume("data", app_name=self.name)
        if self.broken == "nameless":
            made["app"] = made["app"].replace(f"name: {self.name}, ", "")
        if self.broken.startswith("unreadable"):
            broken = "route" if self.broken == "unreadable route" else "app"
            made[broken] = made[broken].replace("metadata: {", "metadata: [")
        if self.broken == "twice":
            made["again"] = app(self.name)
        if self.joined:
            return {f"{self.folder}/{self.name}.yaml": "---\n".join(made.values())}
        return {f"{self.folder}/{self.name}-{part}.yaml": text for part, text in made.items()}

    def readable(self) -> Files:
        """Without a file that nobody can read, and that nobody knows to be about this app: it is as if it were not
        there."""
        lost = "" if self.broken not in OPAQUE else self.name if self.joined else f"{self.name}-route"
        return {path: text for path, text in self.files().items() if not lost or path != f"{self.folder}/{lost}.yaml"}


Commit = tuple[App, ...]


@st.composite
def commits(draw: st.DrawFn, breaks: Iterable[str] = BREAKS) -> Commit:
    hosts = draw(st.permutations(HOSTS))
    present = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    return tuple(
        App(
            name,
            draw(st.integers(1, 2)),
            hosts[NAMES.index(name)],
            draw(st.booleans()),
            draw(st.sampled_from(("x", "y"))),
            draw(st.booleans()),
            draw(st.sampled_from(("", "", *breaks))),
        )
        for name in sorted(present)
    )


def tree(commit: Iterable[App]) -> Files:
    files = {"env.yaml": ENVIRONMENT}
    for each in commit:
        files |= each.files()
    return files


def mended(commit: Commit) -> Commit:
    return tuple(dataclasses.replace(each, broken="") for each in commit)


def backward(followed: Followed) -> set[str]:
    return {ResourceId.parse(each).name for each in followed.held if each}


@given(st.lists(commits(), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_others_are_as_if_the_bad_change_had_not_been_made(history: list[Commit]) -> None:
    real, clean = Followed(), Followed()
    good: dict[str, Files] = {name: {} for name in NAMES}
    for commit in history:
        judged = real.commit(tree(commit))
        assert codes(judged) == [], "every mistake here is some app's own"
        back = backward(real)
        here = {each.name: each.readable() for each in commit}
        good |= {name: here.get(name, {}) for name in NAMES if name not in back}
        beside = clean.commit(
            {path: text for files in ({"env.yaml": ENVIRONMENT}, *good.values()) for path, text in files.items()}
        )
        assert (codes(beside), beside.held) == ([], ())
        assert real.rows == clean.rows


@given(st.lists(commits(), min_size=1, max_size=4), commits(("",)))
@settings(max_examples=100, deadline=None)
def test_once_all_is_mended_it_is_as_if_the_last_tree_had_come_at_once(history: list[Commit], last: Commit) -> None:
    patient, fresh = Followed(), Followed()
    for commit in history:
        patient.commit(tree(commit))
    judged = patient.commit(tree(last))
    fresh.commit(tree(last))
    assert (codes(judged), judged.held) == ([], ())
    assert patient.live() == fresh.live()
    for text in fresh.rows:
        assert patient.rows[text]["spec"] == fresh.rows[text]["spec"]


@given(st.lists(commits(("field", "port", "volume")), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_only_the_broken_are_held_back(history: list[Commit]) -> None:
    """Where every app keeps its hostname and every file can be read, nobody else has to wait."""
    followed = Followed()
    for commit in history:
        settled = tuple(dataclasses.replace(each, host=HOSTS[NAMES.index(each.name)]) for each in commit)
        followed.commit(tree(settled))
        assert backward(followed) == {each.name for each in settled if each.broken}


@given(st.lists(commits(), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_G3_the_same_commits_give_the_same_commands(history: list[Commit]) -> None:
    one, two = Followed(), Followed()
    for commit in history:
        one.commit(tree(commit))
        two.commit(dict(reversed(tree(commit).items())))
    assert (one.plans, one.held) == (two.plans, two.held)
    ids = [command.command_id for made in one.plans for command in made.commands]
    assert len(ids) == len(set(ids))


@given(st.lists(commits(), min_size=2, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_a_held_app_loses_nothing_that_it_did_not_lose_when_it_was_good(
    history: list[Commit], data: st.DataObject
) -> None:
    """Held against the worst case: all files of the tree but the environment become unreadable, or vanish, at once."""
    followed = Followed()
    for commit in history:
        followed.commit(tree(mended(commit)))
    before = followed.live()
    files = tree(mended(history[-1]))
    broken = {
        path: "kind: {\n" if path != "env.yaml" and data.draw(st.booleans(), label=path) else text
        for path, text in files.items()
    }
    gone = {path for path in broken if path != "env.yaml" and data.draw(st.booleans(), label=f"drop {path}")}
    left = {path: text for path, text in broken.items() if path not in gone}
    judged = followed.commit(left)
    lost = before.keys() - followed.live().keys()
    if any(text == "kind: {\n" for text in left.values()):
        assert lost == set(), codes(judged)
