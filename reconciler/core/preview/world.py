"""The part of the fleet that may move, as rows of the views; everything else as weight on its node.

An app at rest asks nothing of the scheduler: its deployment succeeded and every wanted instance is ready on an active
node. Such an app, unless the commit touches it, is left out, and its instances count as used memory only. So the cost
of a plan follows the commit and what is moving anyway, not the fleet. Used by `simulation` and `capacity`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from kit.wire import Workload
from reconciler.core.commands import Append
from reconciler.core.events import Event
from reconciler.core.model import NO_PART, ResourceId
from reconciler.core.past import Past
from reconciler.core.projection import Doc
from reconciler.core.quotas import scope_of, taken_bytes, used_by_instance
from reconciler.core.scheduler.snapshot import Instance, Origin, Snapshot, read_snapshot
from reconciler.core.views import PROJECTIONS

Rows = Mapping[str, Mapping[str, Doc]]


@dataclass(slots=True)
class Weight:
    """Of the instances that are left out. By node: overhead of machines included, stopped ones not."""

    instances: Counter[str] = field(default_factory=Counter)
    memory_bytes: Counter[str] = field(default_factory=Counter)
    used: dict[str, Counter[str]] = field(default_factory=dict)
    """ORG/PROJECT/ENV -> what counts for quotas."""

    def count(self, row: Doc, sign: int = 1) -> None:
        if row["desired"] != "stopped":
            used = {name: sign * amount for name, amount in used_by_instance(taken_bytes(row)).items()}
            self.used.setdefault(scope_of(row["app"]), Counter()).update(used)


@dataclass(frozen=True, slots=True)
class World:
    """`past`: the rows that may move, which it folds events into. `touched`: apps that the commit is about.
    `standing`: one instance per node that stands for those that are left out. `overhead_bytes`: of a machine, by
    node."""

    past: Past
    weight: Weight
    touched: frozenset[str]
    standing: tuple[Instance, ...]
    overhead_bytes: Mapping[str, int]

    def snapshot(self) -> Snapshot:
        """What the scheduler sees."""
        seen = read_snapshot(self.past.rows, self.past.event_id)
        return replace(seen, instances=(*seen.instances, *self.standing), used_beside=self.weight.used)


def fold_appends(past: Past, batch: Iterable[Append]) -> None:
    """As if the log had taken them, one after the other. The numbers of aggregates are those that the deciders expect;
    where they expect none, nobody asks."""
    for append in batch:
        for new in append.events:
            aggregate = (new.aggregate_type, new.aggregate_id)
            event = Event(
                event_id=past.event_id + 1,
                occurred_at="",
                aggregate_type=new.aggregate_type,
                aggregate_id=new.aggregate_id,
                aggregate_seq=append.expected.get(aggregate, 0) + 1,
                event_type=new.event_type,
                event_version=new.event_version,
                command_id=append.command_id,
                cause=append.cause,
                payload=new.payload,
            )
            past.fold([event])


def app_of(resource_id: ResourceId) -> str:
    """The id of the app that a resource belongs to, "" for an environment."""
    if resource_id.app == NO_PART:
        return ""
    return str(replace(resource_id, kind="app", name=resource_id.app))


def app_of_row(row: Doc) -> str:
    """The same of a row of the view `resources`."""
    return f"{row['org']}/{row['project']}/{row['env']}/{row['app']}/app/{row['app']}"


def moving_world(rows: Rows, event_id: int, touched: Iterable[str]) -> World:
    """`rows`: of all views. They stay as they are."""
    of_commit = frozenset(touched) - {""}
    seen = survey(rows)
    moving = of_commit | seen.unsettled
    past = Past(event_id=event_id, rows=_moving_rows(rows, moving))
    nodes = read_snapshot({view: {} for view in PROJECTIONS} | {"nodes": rows["nodes"]}, event_id).nodes
    overheads = {node_id: node.overhead_bytes for node_id, node in nodes.items()}
    weight = _left_out(seen.weight, past.rows["instances"].values(), overheads)
    return World(past, weight, of_commit, tuple(_standing(weight, overheads)), overheads)


def _moving_rows(rows: Rows, moving: frozenset[str]) -> dict[str, dict[str, Doc]]:
    names = {app.rsplit("/", 1)[1] for app in moving}  # most rows are passed over by their short name
    found = {view: dict(rows.get(view, {})) for view in PROJECTIONS if view not in _BY_APP}
    for view in ("instances", "releases", "deployments"):
        found[view] = {key: row for key, row in rows[view].items() if row["app"] in moving}
    found["resources"] = {
        key: row
        for key, row in rows["resources"].items()
        if (row["app"] in names and app_of_row(row) in moving) or row["kind"] == "environment"
    }
    return found


def _left_out(everything: Weight, moving: Iterable[Doc], overheads: Mapping[str, int]) -> Weight:
    """`everything` without what moves, and with the overheads."""
    used = {scope: counted.copy() for scope, counted in everything.used.items()}
    weight = Weight(everything.instances.copy(), everything.memory_bytes.copy(), used)
    for row in moving:
        weight.count(row, -1)
        if row["status"] != "stopped":
            weight.instances[row["node_id"]] -= 1
            weight.memory_bytes[row["node_id"]] -= row["workload"]["memory_bytes"]
    for node_id, machines in weight.instances.items():
        weight.memory_bytes[node_id] += machines * overheads.get(node_id, 0)
    return weight


_BY_APP = frozenset({"instances", "resources", "releases", "deployments"})


@dataclass(frozen=True, slots=True)
class Survey:
    """`unsettled`: apps that the scheduler may have something to do for, commit or not. `weight`: of all instances,
    without overheads."""

    unsettled: frozenset[str]
    weight: Weight


def survey(rows: Rows) -> Survey:
    """One look at every app and every instance; all that is in a plan's cost of the size of the fleet."""
    active = {key for key, row in rows["nodes"].items() if row.get("state") == "active"}
    found, weight, apps = set[str](), Weight(), dict[str, tuple[str, dict[str, int]]]()
    for app, row in rows["resources"].items():
        if row["kind"] == "app":
            if row["status"] != "succeeded" or row["unschedulable"]:
                found.add(app)
            missing = {name: _count(process) for name, process in row["spec"]["processes"].items()}
            apps[app] = (row["release_id"], missing)
    count, memory = weight.instances, weight.memory_bytes
    for row in rows["instances"].values():
        app, node_id = row["app"], row["node_id"]
        weight.count(row)
        if row["status"] != "stopped":
            count[node_id] += 1
            memory[node_id] += row["workload"]["memory_bytes"]
        release, missing = apps.get(app, _NO_APP)
        if release == row["release_id"] and node_id in active and _at_rest(row):
            missing[row["process"]] = missing.get(row["process"], 0) - 1
        else:
            found.add(app)
    found.update(app for app, (_, missing) in apps.items() if any(missing.values()))
    return Survey(frozenset(found), weight)


_NO_APP: tuple[str, dict[str, int]] = ("no release", {})


def _count(process: Doc) -> int:
    replicas = int(process.get("replicas", 1))
    return min(replicas, 1) if process.get("volumes") else replicas


def _at_rest(row: Doc) -> bool:
    if row["desired"] != "running":
        return False
    if row["status"] == "ready":
        return True
    return bool(row["status"] == "stopped" and row["workload"].get("restart", "always") != "always")


def _standing(weight: Weight, overheads: Mapping[str, int]) -> Iterator[Instance]:
    """It leaves for ever, so that nobody takes it for an instance of a group, or for one that has no app any more. The
    scheduler adds the overhead of one machine to it."""
    for node_id, memory_bytes in sorted(weight.memory_bytes.items()):
        if not weight.instances[node_id]:
            continue
        yield Instance(
            instance_id=f"~{node_id}",
            node_id=node_id,
            app="",
            process="",
            release_id="",
            spec_hash="",
            desired="draining",
            status="ready",
            reason_code="",
            reason_detail="",
            restarts=0,
            drain_grace_s=0.0,
            workload=Workload("", "", "", "", "", memory_bytes - overheads.get(node_id, 0), 0.0, 0, ""),
            origin=Origin(""),
            seq=0,
        )
