"""A whole control plane in memory: the real deciders, scheduler, projections and the store's own placement of appends,
with a list for a log. Agents are played by the test: `report`, or `settle` for agents that do what they are told.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from kit.codec import to_json
from kit.errors import Refusal
from kit.wire import MACHINE_OVERHEAD_BYTES, Endpoint, Enrolment, InstanceReport, InstanceStatus, Port
from reconciler.core.acts import Act, Order
from reconciler.core.commands import Append, Appended, Conflict, DeclareResource, GitCommand, RemoveResource
from reconciler.core.decide.git import GitState, claim_refusal, decide_revision
from reconciler.core.decide.instances import Known, decide_report
from reconciler.core.decide.nodes import decide_enrolment, decide_node_state
from reconciler.core.decide.sources import decide_source
from reconciler.core.events import Cause, Event
from reconciler.core.model import (
    AppSpec,
    EnvironmentSpec,
    Origin,
    ProcessSpec,
    Resource,
    ResourceId,
    SecretSpec,
    VolumeSpec,
)
from reconciler.core.replay import apply
from reconciler.core.revisions import Change, Refused, RevisionApplied, Source
from reconciler.core.scheduler.actions import Actions
from reconciler.core.scheduler.convergence import outcomes, waiting
from reconciler.core.scheduler.record import appends
from reconciler.core.scheduler.schedule import schedule
from reconciler.core.scheduler.snapshot import Snapshot, read_snapshot
from reconciler.core.scheduler.times import Times
from reconciler.core.views import PROJECTIONS
from reconciler.handlers.acts import decide as decide_act
from reconciler.store.placement import Known as KnownLog
from reconciler.store.placement import place

MIB = 1 << 20
OVERHEAD_MIB = MACHINE_OVERHEAD_BYTES["kvm"] // MIB
ROOM_MIB = 64 + OVERHEAD_MIB
"""What one instance of 64 MiB takes of its node."""
ORG, PROJECT, ENV = "acme", "shop", "prod"
SOURCE = "main"
STATUSES = get_args(InstanceStatus)
_SECRET_BLOB = "b" * 40


def process(image: str = "v1", *, memory_mib: int = 64, **more: Any) -> ProcessSpec:
    return ProcessSpec(image=f"registry/app@sha256:{image}", memory_bytes=memory_mib * MIB, **more)


def app_id(name: str = "site") -> ResourceId:
    return ResourceId(ORG, PROJECT, ENV, name, "app", name)


def app(name: str = "site", **processes: ProcessSpec) -> Resource:
    return _resource(app_id(name), AppSpec(processes))


def volume(name: str = "data", owner: str = "site") -> Resource:
    return _resource(ResourceId(ORG, PROJECT, ENV, owner, "volume", name), VolumeSpec(1 << 30))


def secret(version: str, name: str = "keys", owner: str = "site") -> Resource:
    spec = SecretSpec(version_id=version, keys=("A",), blob=_SECRET_BLOB)
    return _resource(ResourceId(ORG, PROJECT, ENV, owner, "secret", name), spec)


def environment(**quota: int) -> Resource:
    return _resource(ResourceId(ORG, PROJECT, ENV, "-", "environment", ENV), EnvironmentSpec(quota=quota))


def web_port() -> tuple[Port, ...]:
    return (Port("http", 8080),)


def _resource(identity: ResourceId, spec: Any, line: int = 1) -> Resource:
    return Resource(identity, to_json(spec), Origin(f"{identity.kind}s/{identity.name}.yaml", line))


@dataclass
class World:
    now_s: float = 1000.0
    views: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in PROJECTIONS})
    events: list[Event] = field(default_factory=list)
    log: KnownLog = field(default_factory=lambda: KnownLog("log", 0, {}, {}, {}))
    times: Times = field(default_factory=Times)
    _ids: Any = field(default_factory=lambda: itertools.count(1))
    _commits: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        for source_id in (SOURCE, "other"):
            source = Source(source_id, ORG, PROJECT, "file:///repo")
            self._append(decide_source(None, source, Cause("system", "controller", ORG, source_id)))

    # --- what people and hosts do

    def node(self, node_id: str, memory_mib: int = 4096) -> None:
        number = int.from_bytes(node_id.encode()[-2:], "big")
        enrolment = Enrolment(node_id, f"fd00:{number:x}::/64", memory_mib * MIB, 4.0, 1 << 40, "age1x", "kvm", "1")
        self._append(decide_enrolment(self.views["nodes"].get(node_id), enrolment, Cause("system", node_id, "")))

    def node_state(self, node_id: str, state: str) -> None:
        row = self.views["nodes"].get(node_id)
        self._append(decide_node_state(row, node_id, state, "test", Cause("system", "nodes", "")))

    def commit(self, *resources: Resource, remove: Sequence[ResourceId] = (), commit: str = "") -> str:
        """A revision that declares these and removes those; everything else stays."""
        commit = commit or f"{next(self._commits):040x}"
        result = self.try_commit(*resources, remove=remove, commit=commit)
        assert not isinstance(result, Refused), result
        return commit

    def try_commit(
        self,
        *resources: Resource,
        remove: Sequence[ResourceId] = (),
        commit: str,
        source: str = SOURCE,
        takes_over: tuple[str, ...] = (),
    ) -> Refused | None:
        applied = self.views["sources"].get(source, {}).get("applied_commit", "")
        cause = Cause("user", "ann", ORG, source, commit, correlation_id=f"{source}@{commit}")
        commands: list[GitCommand] = [
            DeclareResource(
                f"declare-{each.id}-{commit}", replace(cause, path=each.origin.path, line=each.origin.line), each
            )
            for each in resources
        ]
        commands += [RemoveResource(f"remove-{each}-{commit}", cause, each) for each in remove]
        rows = self.views["resources"]
        changes = [Change("update" if str(each.id) in rows else "create", each.id, "", 1) for each in resources]
        changes += [Change("delete", each, "", 1) for each in remove]
        command_id = f"revision-{source}-{commit}"
        revision = RevisionApplied(
            command_id, cause, source, commit, applied, "ann", "a change", tuple(changes), takes_over=takes_over
        )
        state = GitState(
            self.views["resources"],
            self.views["releases"],
            self.views["deployments"],
            self.views["revisions"].get(revision.revision_id),
            self.views["sources"].get(source),
            self.views["revisions"],
        )
        decision = decide_revision(state, revision, commands)
        if isinstance(decision, Refused):
            return decision
        conflict = self.try_append(decision)
        if conflict is not None:
            refused = claim_refusal(conflict, decision)
            assert refused is not None, conflict
            return refused
        return None

    def report(self, instance_id: str, status: str, **more: Any) -> None:
        row = self.views["instances"][instance_id]
        endpoint = Endpoint(8080, row["workload"]["address"], 8080)
        told = InstanceReport(
            instance_id,
            row["epoch"],
            row["counter"] + 1,
            status,  # type: ignore[arg-type]  # tests say it in words
            "2026-01-01T00:00:00Z",
            endpoints=(endpoint,),
            **more,
        )
        decision = decide_report(Known.of(row), row["node_id"], told, Cause("system", row["node_id"], ""))
        assert isinstance(decision, tuple), decision
        self._append(decision[0])

    def act(self, wanted: Act, *, reason: str = "a test", until: str = "") -> Refusal | None:
        """An operator's act; a refusal is the answer."""
        order = Order(f"act-{len(self.events)}", "body", "user", "operator:ann", reason, until)
        decision = decide_act(wanted, order, self.views)
        if isinstance(decision, Refusal):
            return decision
        self.append([decision])
        return None

    # --- the loop

    @property
    def snapshot(self) -> Snapshot:
        return read_snapshot(self.views, self.log.last_event_id)

    def decide(self) -> Actions:
        """One pass without recording it."""
        snapshot = self.snapshot
        awaited = waiting(self.views)
        times = self.times.observe(snapshot, self.now_s, awaited.revisions, awaited.free)
        return schedule(snapshot, times, lambda: f"i-{next(self._ids):05d}", self.now_s)

    def run_pass(self) -> Actions:
        actions = self.decide()
        self.times = actions.times
        done = list(outcomes(self.views, actions.matching, actions.times, self.now_s))
        self.append([*appends(actions, self.log.last_event_id, "test"), *done])
        return actions

    def settle(self, *, never_ready: Sequence[str] = (), steps_max: int = 200) -> None:
        """Agents do what they are told, until nothing changes. `never_ready`: images that fail for good."""
        for _ in range(steps_max):
            before = self.log.last_event_id
            self.run_pass()
            self.agents_act(never_ready)
            if self.log.last_event_id == before:
                return
        raise AssertionError("it does not settle:\n" + str(self.decide()))

    def agents_act(self, never_ready: Sequence[str] = ()) -> None:
        """Each agent on an active node takes one step with each of its instances."""
        for row in list(self.views["instances"].values()):
            if self.views["nodes"][row["node_id"]]["state"] != "active":
                continue
            fails = any(row["workload"]["image"].endswith(image) for image in never_ready)
            if row["desired"] != "running":
                self.report(row["instance_id"], "stopped")
            elif fails and row["status"] != "failed":
                self.report(row["instance_id"], "failed", reason_code="image_not_found")
            elif not fails and row["status"] not in ("ready", "stopped"):
                self.report(row["instance_id"], "ready")

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    # --- what one can see

    def instances(self, process: str = "web", name: str = "site", **wanted: Any) -> list[dict[str, Any]]:
        rows = self.views["instances"].values()
        found = [row for row in rows if row["app"] == str(app_id(name)) and row["process"] == process]
        return [row for row in found if all(row[key] == value for key, value in wanted.items())]

    def ready(self, process: str = "web", name: str = "site") -> list[dict[str, Any]]:
        return self.instances(process, name, status="ready", desired="running")

    def app_row(self, name: str = "site") -> Mapping[str, Any]:
        row: Mapping[str, Any] = self.views["resources"][str(app_id(name))]
        return row

    def deployment(self, name: str = "site") -> Mapping[str, Any]:
        row: Mapping[str, Any] = self.views["deployments"][self.app_row(name)["deployment_id"]]
        return row

    # --- the log

    def _append(self, decision: Any) -> None:
        assert decision is None or isinstance(decision, Append), decision
        if decision is not None:
            self.append([decision])

    def append(self, batch: Sequence[Append]) -> None:
        conflict = self.try_append(batch)
        assert conflict is None, conflict

    def try_append(self, batch: Sequence[Append]) -> Conflict | None:
        """As one atomic batch, like the store."""
        before = self.log.copy()
        placement = place(batch, self.log, whole=len(batch) > 1)
        if placement.conflicts:
            self.log = before
            return placement.conflicts[0]
        assert all(isinstance(result, Appended) for result in placement.results)
        for placed in placement.events:
            event = Event(
                placed.event_id,
                "2026-01-01T00:00:00Z",
                placed.event.aggregate_type,
                placed.event.aggregate_id,
                placed.aggregate_seq,
                placed.event.event_type,
                placed.event.event_version,
                placed.command_id,
                placed.cause,
                placed.event.payload,
            )
            self.events.append(event)
            apply(self.views, event)
        return None


def used_memory_bytes(world: World, node_id: str) -> int:
    rows = [
        row for row in world.views["instances"].values() if row["node_id"] == node_id and row["status"] != "stopped"
    ]
    return sum(row["workload"]["memory_bytes"] + OVERHEAD_MIB * MIB for row in rows)
