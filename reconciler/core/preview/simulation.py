"""The commit decided and folded, then scheduler and agents in turns until nothing changes. Called by `preview`.

A step is one pass of the scheduler, then one turn of the agents: on nodes that are not offline, what is to run and is
on its way becomes ready, what is to go stops. An instance that fails or is unready before the commit stays so, and no
time passes: nobody knows better. Steps are bounded, and so is their work.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kit.errors import Refusal
from kit.wire import InstanceReport, InstanceStatus
from reconciler.core import quotas
from reconciler.core.commands import Append, GitCommand
from reconciler.core.decide.git import GitState, claim_refusal, decide_revision
from reconciler.core.decide.instances import Known, decide_report
from reconciler.core.events import Cause
from reconciler.core.preview.world import Rows, World, fold_appends
from reconciler.core.projection import Doc
from reconciler.core.revisions import Refused, RevisionApplied
from reconciler.core.scheduler.actions import Allocate, Drain
from reconciler.core.scheduler.record import appends
from reconciler.core.scheduler.schedule import NewInstanceId, schedule
from reconciler.core.scheduler.snapshot import Snapshot
from reconciler.core.scheduler.times import Times

STEPS_MAX = 400
WORK_MAX = 200_000
"""Apps and instances looked at, over all steps: some 20 s."""
NEW_PREFIX = "i-zzzzzzzz-"
"""Ids sort by age, so that one of a plan is younger than any that exists."""
_ON_ITS_WAY = frozenset({"", "preparing", "booting"})

ProcessKey = tuple[str, str]
"""(app id, process)"""


@dataclass(frozen=True, slots=True)
class Moment:
    """`step` 0 is before the commit. `serving`, `live`: instances by process. `used_bytes`, `instances`: by node, of
    the moving part only."""

    step: int
    serving: Counter[ProcessKey] = field(default_factory=Counter)
    live: Counter[ProcessKey] = field(default_factory=Counter)
    used_bytes: Counter[str] = field(default_factory=Counter)
    instances: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Trace:
    """`acts`: (step, what the scheduler did), in order. `moments`: after each pass and after each turn of the agents.
    `rows_before`: instances before the commit. `complete`: nothing was left to do."""

    rows_before: dict[str, Doc]
    moments: list[Moment] = field(default_factory=list)
    acts: list[tuple[int, Allocate | Drain]] = field(default_factory=list)
    complete: bool = False


def decided(
    rows: Rows, releases: Mapping[str, Doc], revision: RevisionApplied, commands: Sequence[GitCommand]
) -> tuple[Append, ...] | Refused:
    """As `reconciler.handlers` decides it on these rows; what the log would say about claims included. `releases`: of
    the apps that the commit touches; nobody asks for others, and there are many."""
    state = GitState(
        resources=rows["resources"],
        releases=releases,
        deployments=rows["deployments"],
        revision=rows["revisions"].get(revision.revision_id),
        source=rows["sources"].get(revision.source_id),
    )
    decision = decide_revision(state, revision, commands)
    if isinstance(decision, Refused):
        return decision
    return _over_quota(rows, decision) or decision


def _over_quota(rows: Rows, batch: Sequence[Append]) -> Refused | None:
    """The one thing that the log says and the decider does not, unless somebody is faster."""
    over = quotas.judged(batch, quotas.counted_in(rows)) if quotas.limits_after(rows, batch) else None
    return None if over is None else claim_refusal(over[1].conflict(over[0].command_id), batch)


def run(world: World, batch: Iterable[Append], new_instance_id: NewInstanceId | None = None) -> Trace:
    """The commit's appends onto the world, then steps. The world is afterwards as the trace ends."""
    ids = itertools.count(1)
    return _Simulation(world, new_instance_id or (lambda: f"{NEW_PREFIX}{next(ids):06d}")).run(batch)


class _Simulation:
    def __init__(self, world: World, new_instance_id: NewInstanceId) -> None:
        self._world = world
        self._times = Times()
        self._new_instance_id = new_instance_id
        self._trace = Trace(dict(self._rows))

    @property
    def _rows(self) -> dict[str, Doc]:
        return self._world.past.rows["instances"]

    def run(self, batch: Iterable[Append]) -> Trace:
        self._note(0)
        fold_appends(self._world.past, batch)
        work = 0
        for step in range(1, STEPS_MAX + 1):
            before = self._world.past.event_id
            snapshot = self._world.snapshot()
            work += len(snapshot.apps) + len(snapshot.instances)
            if work > WORK_MAX:
                break
            self._pass(step, snapshot)
            self._agents(step)
            if self._world.past.event_id == before:
                self._trace.complete = True
                break
        return self._trace

    def _pass(self, step: int, snapshot: Snapshot) -> None:
        times = self._times.observe(snapshot, 0.0)
        actions = schedule(snapshot, times, self._new_instance_id, 0.0)
        assert not {each.instance_id for each in actions.allocate} & set(self._rows), "ids are new"
        self._times = actions.times
        fold_appends(self._world.past, appends(actions, snapshot.event_id, "plan"))
        self._trace.acts += [(step, each) for each in actions if isinstance(each, Allocate | Drain)]
        if len(actions):
            self._note(step)

    def _agents(self, step: int) -> None:
        nodes = self._world.past.rows["nodes"]
        acted = False
        for row in list(self._rows.values()):
            status = _next_status(row)
            if status and nodes.get(row["node_id"], {}).get("state") != "offline":
                self._report(row, status)
                acted = True
        if acted:
            self._note(step)

    def _report(self, row: Doc, status: InstanceStatus) -> None:
        told = InstanceReport(row["instance_id"], row["epoch"], int(row.get("counter") or 0) + 1, status, "")
        decision = decide_report(Known.of(row), row["node_id"], told, Cause("system", row["node_id"], ""))
        if decision is not None and not isinstance(decision, Refusal):
            fold_appends(self._world.past, [decision[0]])

    def _note(self, step: int) -> None:
        made = Moment(step)
        nodes, overheads = self._world.past.rows["nodes"], self._world.overhead_bytes
        for row in self._rows.values():
            if row["status"] == "stopped":
                continue
            node_id, key = row["node_id"], (row["app"], row["process"])
            made.used_bytes[node_id] += row["workload"]["memory_bytes"] + overheads.get(node_id, 0)
            made.instances[node_id] += 1
            made.live[key] += 1
            offline = nodes.get(node_id, {}).get("state") == "offline"
            if row["desired"] == "running" and row["status"] == "ready" and not offline:
                made.serving[key] += 1
        self._trace.moments.append(made)


def _next_status(row: Doc) -> InstanceStatus | None:
    """None: the agent has nothing to do, or nobody knows when it will be done."""
    if row["desired"] != "running":
        return "stopped"
    return "ready" if row["status"] in _ON_ITS_WAY else None
