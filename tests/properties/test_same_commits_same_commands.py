"""G3 and the planner's main promise: going commit by commit ends where the last tree says, whatever the history.

A history is a row of trees over a small universe of names, with confirmations now and then. A model applies each plan's
commands one by one, as a follower of the log would, and holds it to the rules while it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.core.commands import DeclareResource, RemoveResource, RetainResource
from reconciler.core.cross_checks import Tree
from reconciler.core.model import KINDS, NO_PART, STATEFUL_KINDS, Kind, Origin, Resource, ResourceId
from reconciler.core.planner import Plan, plan
from reconciler.core.removals import same_meaning
from reconciler.core.revisions import CommitInfo, Source
from reconciler.core.trailers import Confirmations

SOURCE = Source("main", "org", "project", "/repository")
HOSTS = ("a.example.test", "b.example.test", "c.example.test")


def identity(kind: Kind, app: str, name: str) -> ResourceId:
    return ResourceId("org", "project", "prod", app, kind, name)


UNIVERSE = (
    identity("environment", NO_PART, "prod"),
    *(identity("app", name, name) for name in ("one", "two")),
    *(identity(kind, "one", name) for kind in ("secret", "volume", "route") for name in ("x", "y")),
    identity("route", "two", "x"),
)


def spec(resource_id: ResourceId, variant: int) -> Mapping[str, object]:
    match resource_id.kind:
        case "route":
            return {"hostname": HOSTS[variant % 3], "listen_port": 443, "protocol": "tls_passthrough"}
        case "secret":
            return {"version_id": f"sv-{variant % 2}", "keys": ["KEY"], "blob": f"{variant}"}
        case _:
            return {"variant": variant}


@dataclass(frozen=True)
class Commit:
    number: int
    tree: Tree
    confirmations: Confirmations


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Any set of resources; no two routes with one hostname, as the cross-checks see to."""
    chosen = draw(st.lists(st.sampled_from(UNIVERSE), unique=True))
    hosts = draw(st.permutations(range(3)))
    resources: dict[ResourceId, Resource] = {}
    for resource_id in sorted(chosen):
        is_route = resource_id.kind == "route"
        routes = sum(other.kind == "route" for other in resources)
        variant = hosts[routes] if is_route else draw(st.integers(0, 3))
        origin = Origin(draw(st.sampled_from(("a.yaml", "b.yaml"))), draw(st.integers(1, 3)))
        resources[resource_id] = Resource(resource_id, spec(resource_id, variant), origin)
    return Tree(resources)


@st.composite
def histories(draw: st.DrawFn) -> list[Commit]:
    stateful = [each.short for each in UNIVERSE if each.kind in STATEFUL_KINDS]
    return [
        Commit(number, draw(trees()), Confirmations(draw(st.frozensets(st.sampled_from(stateful)))))
        for number in range(draw(st.integers(1, 6)))
    ]


@dataclass
class Follower:
    """What a follower of the log holds, and the rules that it holds every command to."""

    declared: dict[ResourceId, Resource] = field(default_factory=dict)
    retained: set[ResourceId] = field(default_factory=set)
    plans: list[Plan] = field(default_factory=list)

    def follow(self, history: Sequence[Commit]) -> None:
        base: Commit | None = None
        for commit in history:
            self.apply(make(base, commit, frozenset(self.retained)), commit)
            base = commit

    def apply(self, made: Plan, commit: Commit) -> None:
        self.plans.append(made)
        swapping = _swap(self.declared, commit.tree)
        for command in made.commands:
            match command:
                case DeclareResource():
                    self.retained.discard(command.resource.id)
                    self.declared[command.resource.id] = command.resource
                    assert swapping or self.hosts_are_single()
                case RetainResource():
                    assert command.resource_id.kind in STATEFUL_KINDS
                    del self.declared[command.resource_id]
                    self.retained.add(command.resource_id)
                case RemoveResource():
                    self.check_removal(command.resource_id, commit)
                    self.declared.pop(command.resource_id, None)
                    self.retained.discard(command.resource_id)

    def check_removal(self, resource_id: ResourceId, commit: Commit) -> None:
        assert resource_id in self.declared or resource_id in self.retained, "removed twice"
        assert resource_id not in commit.tree.resources
        if resource_id.kind == "volume":
            assert resource_id.short in commit.confirmations.deletes

    def hosts_are_single(self) -> bool:
        hosts = [each.spec["hostname"] for each in self.declared.values() if each.id.kind == "route"]
        return len(hosts) == len(set(hosts))


def make(base: Commit | None, head: Commit, retained: frozenset[ResourceId]) -> Plan:
    return plan(
        base.tree if base else None,
        head.tree,
        source=SOURCE,
        info=CommitInfo(f"{head.number:040d}", "Dev <dev@example.com>", "change"),
        base_commit=f"{base.number:040d}" if base else "",
        retained=retained,
        confirmations=head.confirmations,
    )


def _swap(before: Mapping[ResourceId, Resource], after: Tree) -> bool:
    """Whether some routes pass hostnames round in a ring: no order frees a name before it is taken."""
    holder = {each.spec["hostname"]: each.id for each in before.values() if each.id.kind == "route"}
    for start in after.resources.values():
        seen: list[ResourceId] = []
        current: Resource | None = start if start.id.kind == "route" else None
        while current is not None and current.id not in seen:
            seen.append(current.id)
            following = holder.get(current.spec["hostname"])
            current = after.resources.get(following) if following else None
        if current is not None and len(seen) > 1:
            return True
    return False


def agrees(left: Mapping[ResourceId, Resource], right: Mapping[ResourceId, Resource]) -> bool:
    return left.keys() == right.keys() and all(
        same_meaning(left[each].spec, right[each].spec) and left[each].origin == right[each].origin for each in left
    )


@given(histories())
@settings(max_examples=300, deadline=None)
@example([Commit(0, Tree(), Confirmations())])
def test_commit_by_commit_ends_where_the_last_tree_says(history: list[Commit]) -> None:
    follower = Follower()
    follower.follow(history)
    assert agrees(follower.declared, history[-1].tree.resources)
    assert not follower.retained & follower.declared.keys()


@given(histories())
@settings(max_examples=150, deadline=None)
def test_the_same_commits_give_the_same_commands(history: list[Commit]) -> None:
    one, two = Follower(), Follower()
    one.follow(history)
    two.follow([Commit(each.number, _shuffled(each.tree), each.confirmations) for each in history])
    assert one.plans == two.plans
    ids = [command.command_id for made in one.plans for command in made.commands]
    assert len(ids) == len(set(ids))


@given(histories())
@settings(max_examples=150, deadline=None)
def test_missed_commits_change_nothing_about_the_end(history: list[Commit]) -> None:
    """A controller that slept and sees only the last commit declares the same."""
    patient, sleeper = Follower(), Follower()
    patient.follow(history)
    sleeper.follow([history[0], history[-1]] if len(history) > 1 else history)
    assert agrees(patient.declared, sleeper.declared)


@given(histories())
@settings(max_examples=150, deadline=None)
def test_every_plan_keeps_the_safe_order(history: list[Commit]) -> None:
    follower = Follower()
    follower.follow(history)
    for made in follower.plans:
        declared = [KINDS.index(c.resource.id.kind) for c in made.commands if isinstance(c, DeclareResource)]
        removed = [KINDS.index(c.resource_id.kind) for c in made.commands if isinstance(c, RemoveResource)]
        assert declared == sorted(declared)
        assert removed == sorted(removed, reverse=True)


def _shuffled(tree: Tree) -> Tree:
    return Tree(dict(reversed(list(tree.resources.items()))))
