"""What a plan says is what happens: a commit is previewed, and then really applied by the handlers and the scheduler.

The fleet is the test twin: the real handlers, deciders, scheduler and projections on a log in memory. Agents behave as
docs/PLANS.md says, one turn after each pass. The histories before it leave nodes offline, instances failing, volumes
placed, apps without room, so that what moves anyway and what stands still are both there.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from kit.clock import SystemClock
from kit.codec import to_json
from kit.wire import MACHINE_OVERHEAD_BYTES, Enrolment, InstanceReport, NodeReport
from reconciler.core.cross_checks import Tree
from reconciler.core.model import AppSpec, Origin, Resource, ResourceId, SecretSpec, UpdatePolicy, VolumeSpec, VolumeUse
from reconciler.core.planner import Plan, plan, revision_of
from reconciler.core.preview import Asked, PlanDocument, preview
from reconciler.core.revisions import CommitInfo, Refused, Source
from reconciler.core.scheduler.actions import Allocate, Drain
from reconciler.core.trailers import Confirmations
from reconciler.core.views import PROJECTIONS
from reconciler.handlers import Handlers
from reconciler.tasks.scheduler import Scheduler
from tests.twin import MemoryLog, MemoryViews
from tests.unit.scheduler.world import MIB, process

ORG, PROJECT, ENV = "acme", "shop", "prod"
SOURCE = Source("main", ORG, PROJECT, "file:///repo")
APPS = ("api", "jobs", "shop", "site")
NODES = ("node-a", "node-b", "node-c")
STEPS_MAX = 60
WAY = ("", "preparing", "booting")


class FrozenClock(SystemClock):
    """No time passes: the model of a plan has none."""

    def now_s(self) -> float:
        return 1000.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def identity(app: str, kind: Any, name: str) -> ResourceId:
    return ResourceId(ORG, PROJECT, ENV, app, kind, name)


@dataclass(frozen=True)
class AppShape:
    """What the tests vary about an app."""

    version: int = 1
    replicas: int = 1
    surge: int = 1
    volume: bool = False
    secret: int = 0
    memory_mib: int = 64
    job: bool = False
    line: int = 1

    def resources(self, name: str) -> list[Resource]:
        uses = (VolumeUse("data", "/data"),) if self.volume else ()
        web = process(
            f"v{self.version}",
            replicas=1 if self.volume else self.replicas,
            memory_mib=self.memory_mib,
            volumes=uses,
            secrets=("keys",) if self.secret else (),
            update=UpdatePolicy(surge=self.surge),
        )
        processes = {"web": web, **({"job": process("v1", memory_mib=64)} if self.job else {})}
        found = [_resource(identity(name, "app", name), AppSpec(processes), self.line)]
        if self.volume:
            found.append(_resource(identity(name, "volume", "data"), VolumeSpec(1 << 30)))
        if self.secret:
            spec = SecretSpec(version_id=f"sv-{self.secret}", keys=("A",), blob="b" * 40)
            found.append(_resource(identity(name, "secret", "keys"), spec))
        return found


def _resource(resource_id: ResourceId, spec: Any, line: int = 1) -> Resource:
    return Resource(resource_id, to_json(spec), Origin(f"{resource_id.app}/{resource_id.kind}.yaml", line))


Shapes = dict[str, AppShape]


def tree(shapes: Shapes) -> Tree:
    return Tree({each.id: each for name, shape in shapes.items() for each in shape.resources(name)})


@dataclass
class Fleet:
    """The twin, and agents that are played."""

    log: MemoryLog = field(default_factory=MemoryLog)
    shapes: Shapes = field(default_factory=dict)
    commits: int = 0

    def __post_init__(self) -> None:
        self.views, self.clock, self._numbers = MemoryViews(self.log), FrozenClock(), 0
        self.handlers = Handlers(self.log, self.views, self._id, self.clock)
        self.scheduler = Scheduler(
            self.log,
            self.views,
            self.handlers,
            self._id,
            self.clock,
            random.Random(1),
        )

    def _id(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}-{self._numbers:06d}"

    async def begin(self, memory_mib: int) -> None:
        await self.handlers.register_source(SOURCE)
        for number, node_id in enumerate(NODES, start=1):
            told = Enrolment(node_id, f"fd00:0:0:{number}::/64", memory_mib * MIB, 4.0, 1 << 40, "age1x", "kvm", "1")
            await self.handlers.enrol_node(told)

    async def rows(self) -> dict[str, dict[str, Any]]:
        return {view: dict(rows) for view, rows in (await self.views.snapshot(PROJECTIONS)).rows.items()}

    async def planned(self, shapes: Shapes, confirm: bool = True) -> tuple[Plan, CommitInfo]:
        """The next commit's plan."""
        applied = ((await self.rows())["sources"]["main"] or {}).get("applied_commit") or ""
        info = CommitInfo(f"{self.commits + 1:040x}", "ann", "a change")
        retained = [row["resource_id"] for row in (await self.rows())["resources"].values() if row["retained"]]
        names = [each.short for each in tree(self.shapes).resources] if confirm else []
        return plan(
            tree(self.shapes),
            tree(shapes),
            source=SOURCE,
            info=info,
            base_commit=applied,
            retained=frozenset(map(ResourceId.parse, retained)),
            confirmations=Confirmations(frozenset(names)),
        ), info

    async def apply(self, shapes: Shapes, planned: Plan, info: CommitInfo) -> None:
        done = await self.handlers.submit_revision(revision_of(planned, SOURCE, info), planned.commands)
        assert not isinstance(done, Refused), done
        self.commits, self.shapes = self.commits + 1, shapes

    async def step(self, broken: frozenset[str] = frozenset()) -> tuple[list[Any], bool]:
        """A pass and a turn of the agents: what the scheduler did, and whether anything happened at all."""
        before = (await self.log.head()).last_event_id
        actions = await self.scheduler.one_pass()
        rows = await self.rows()
        for row in rows["instances"].values():
            status = self._says(row, broken)
            if status and rows["nodes"][row["node_id"]]["state"] != "offline":
                await self._report(row, status)
        return list(actions), (await self.log.head()).last_event_id != before

    def _says(self, row: dict[str, Any], broken: frozenset[str]) -> str:
        if row["desired"] != "running":
            return "stopped"
        if row["app"].rsplit("/", 1)[1] in broken:
            return "" if row["status"] == "failed" else "failed"
        return "ready" if row["status"] in WAY else ""

    async def _report(self, row: dict[str, Any], status: Any) -> None:
        told = InstanceReport(row["instance_id"], row["epoch"], row["counter"] + 1, status, "", restarts=1)
        await self.handlers.record_node_report(NodeReport(row["node_id"], (told,)))

    async def settle(self, broken: frozenset[str] = frozenset(), steps: int = STEPS_MAX) -> list[tuple[Any, ...]]:
        """What the scheduler did, as the plan tells it."""
        acts: list[tuple[Any, ...]] = []
        for number in range(1, steps + 1):
            actions, moved = await self.step(broken)
            acts += [_told(number, each, await self.rows()) for each in actions if isinstance(each, Allocate | Drain)]
            if not moved:
                return acts
        return acts


def _told(step: int, act: Allocate | Drain, rows: dict[str, dict[str, Any]]) -> tuple[Any, ...]:
    if isinstance(act, Allocate):
        return (step, "start", act.instance_id, act.node_id)
    return (step, "drain" if act.desired == "draining" else "stop", act.instance_id, act.node_id)


def said(document: PlanDocument) -> list[tuple[Any, ...]]:
    """Every step of the plan, of what moves anyway too."""
    return sorted((step.step, step.act, step.instance, step.at) for each in document.roll_outs for step in each.steps)


def renamed(acts: list[tuple[Any, ...]], existing: set[str]) -> list[tuple[Any, ...]]:
    """New instances as the plan calls them: by the order in which they were made."""
    made = [act[2] for act in acts if act[1] == "start"]
    names = {instance: f"new-{number}" for number, instance in enumerate(made, start=1)}
    assert not set(names) & existing
    return sorted((step, act, names.get(instance, instance), node) for step, act, instance, node in acts)


shapes = st.builds(
    AppShape,
    version=st.integers(1, 3),
    replicas=st.integers(0, 3),
    surge=st.integers(0, 2),
    volume=st.booleans(),
    secret=st.integers(0, 2),
    memory_mib=st.sampled_from((64, 128)),
    job=st.booleans(),
    line=st.integers(1, 2),
)
trees = st.dictionaries(st.sampled_from(APPS), shapes, max_size=4)
disturbances: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("node"), st.sampled_from(NODES), st.sampled_from(("active", "offline"))),
    st.tuples(st.just("steps"), st.integers(0, 4), st.frozensets(st.sampled_from(APPS), max_size=2)),
)


@st.composite
def next_trees(draw: st.DrawFn, before: Shapes) -> Shapes:
    """Mostly one app changes; the others stand still."""
    if draw(st.booleans()):
        return draw(trees)
    name = draw(st.sampled_from(APPS))
    return {**before, name: draw(shapes)}


async def _history(data: st.DataObject, fleet: Fleet) -> None:
    await fleet.begin(memory_mib=data.draw(st.sampled_from((300, 700, 4096)), label="MiB"))
    for _ in range(data.draw(st.integers(1, 3), label="commits")):
        wanted = data.draw(next_trees(fleet.shapes), label="tree")
        planned, info = await fleet.planned(wanted, data.draw(st.booleans(), label="confirmed"))
        await fleet.apply(wanted, planned, info)
        await fleet.settle(steps=data.draw(st.sampled_from((1, 2, STEPS_MAX)), label="steps"))
    for each in data.draw(st.lists(disturbances, max_size=3), label="disturbances"):
        if each[0] == "steps":
            await fleet.settle(each[2], steps=each[1])
        elif (await fleet.rows())["nodes"][each[1]]["state"] != each[2]:
            await fleet.handlers.set_node_state(each[1], each[2], "test")


async def _check(data: st.DataObject) -> None:
    fleet = Fleet()
    await _history(data, fleet)
    before = await fleet.rows()
    wanted = data.draw(next_trees(fleet.shapes), label="previewed")
    planned, info = await fleet.planned(wanted, data.draw(st.booleans(), label="confirmed"))
    asked = Asked(SOURCE, info, planned.base, planned, planned.findings, planned.base)
    document = preview(before, (await fleet.log.head()).last_event_id, asked, "live")
    assert await fleet.rows() == before, "a preview changes nothing"
    assert document.ok, document.findings
    assert document.complete
    moving = frozenset(row["app"] for row in before["instances"].values())
    event(f"roll-outs {min(len(document.roll_outs), 3)}, gaps {any(each.gap for each in document.roll_outs)}")
    event(f"unschedulable {any(each.unschedulable for each in document.roll_outs)}, apps before {len(moving)}")

    least, acts, after = await _really(fleet, wanted, planned, info)
    assert said(document) == renamed(acts, set(before["instances"]))
    for each in document.roll_outs:
        _holds(each, after, least)
    touched = {each.resource_id for each in document.roll_outs if each.starts or each.stops}
    assert touched == {_app_of(before, after, act[2], fleet) for act in acts}
    for node in document.nodes:
        assert node.used_after_bytes == _used(after, node.node_id)
        assert node.used_before_bytes == _used(before, node.node_id)
    for use in document.environments:
        live = [row for row in after["instances"].values() if row["status"] != "stopped"]
        assert use.instances_after == len(live)


async def _really(fleet: Fleet, wanted: Shapes, planned: Plan, info: CommitInfo) -> tuple[Any, Any, Any]:
    """Applies it and lets it settle: the least that served by process, the acts, the rows at the end."""
    await fleet.apply(wanted, planned, info)
    least: dict[tuple[str, str], int] = {}
    acts: list[tuple[Any, ...]] = []

    async def look() -> None:
        rows = await fleet.rows()
        names = {(key, name) for key, row in rows["resources"].items() for name in row["spec"].get("processes", ())}
        for key in names | set(least):
            least[key] = min(least.get(key, 1 << 30), _serving(rows, key))

    record = fleet.handlers.apply_schedule

    async def watched(*arguments: Any) -> Any:
        done = await record(*arguments)
        await look()
        return done

    setattr(fleet.handlers, "apply_schedule", watched)  # noqa: B010  # a spy
    for number in range(1, STEPS_MAX + 1):
        actions, moved = await fleet.step()
        await look()
        rows = await fleet.rows()
        acts += [_told(number, each, rows) for each in actions if isinstance(each, Allocate | Drain)]
        if not moved:
            return least, acts, rows
    raise AssertionError("it does not settle")


def _serving(rows: dict[str, dict[str, Any]], key: tuple[str, str]) -> int:
    return sum(
        (row["app"], row["process"]) == key
        and (row["desired"], row["status"]) == ("running", "ready")
        and rows["nodes"][row["node_id"]]["state"] == "active"
        for row in rows["instances"].values()
    )


def _holds(told: Any, after: dict[str, dict[str, Any]], least: dict[tuple[str, str], int]) -> None:
    key = (told.resource_id, told.process)
    app = after["resources"].get(told.resource_id)
    running = [
        row for row in after["instances"].values()
        if (row["app"], row["process"]) == key and row["desired"] == "running"
    ]  # fmt: skip
    assert sum(told.placed.values()) == len(running)
    assert told.placed == {node: sum(row["node_id"] == node for row in running) for node in told.placed}
    assert told.serving_after == _serving(after, key)
    if app is not None and told.process in app["spec"]["processes"]:
        assert told.serving_least == least[key]
        assert told.unschedulable == app["unschedulable"].get(told.process, {}).get("reason", "")
        assert told.outcome == app["status"]
    if told.gap is not None:
        assert least[key] == 0
        assert (told.gap.to_step == 0) == (told.serving_after == 0)
    elif told.serving_before and told.wanted_after:
        assert least[key] > 0


def _app_of(before: Any, after: Any, instance: str, fleet: Fleet) -> str:
    for each in fleet.log.events:
        if each.event_type == "instance.allocated" and each.aggregate_id == instance:
            return str(each.payload["app"])
    raise AssertionError(instance)


def _used(rows: dict[str, dict[str, Any]], node_id: str) -> int:
    live = [row for row in rows["instances"].values() if row["node_id"] == node_id and row["status"] != "stopped"]
    return sum(row["workload"]["memory_bytes"] + MACHINE_OVERHEAD_BYTES["kvm"] for row in live)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_what_a_plan_says_is_what_happens(data: st.DataObject) -> None:
    asyncio.run(_check(data))
