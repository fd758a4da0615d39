"""Any order of plans, crashes, blindness and time: what the agent's pure decisions must never do, and where they end.

A short model carries the actions out as `agent.actors` does. The world holds the machines; the agent sees what it may.
"""

from __future__ import annotations

import random
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.converge import Action, Convergence, Ledger, converge
from agent.core.model import ABSENT, Exit, InstanceRecord, Machine, VolumeRecord, as_adopted, move
from agent.core.plans import AppliedPlan, admit, remember
from agent.core.restarts import after_exit
from kit.errors import Refusal
from kit.wire import Mount, NodePlan, PlannedInstance, PlannedVolume
from tests.unit.agent.parts import workload

IDS = ("i-1", "i-2", "i-3")
VOLUME = "o/p/e/a/volume/d"
instances = st.builds(
    lambda key, epoch, desired: PlannedInstance(key, epoch, desired, 5.0, workload(mounts=(Mount(VOLUME, "/d"),))),
    st.sampled_from(IDS),
    st.integers(1, 3),
    st.sampled_from(("running", "draining", "stopped")),
)
wishes = st.lists(instances, unique_by=lambda i: i.instance_id, max_size=3).map(tuple)
PRESENT, TOMBSTONE = PlannedVolume(VOLUME, "d", 1, "present"), PlannedVolume(VOLUME, "d", 1, "deleted")
volume_wishes = st.sampled_from(((), (PRESENT,), (TOMBSTONE,)))


class NodeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(7)
        self.now_s = 1000.0
        self.applied: AppliedPlan | None = None
        self.records: dict[str, InstanceRecord] = {}
        self.volumes: dict[str, VolumeRecord] = {}
        self.live: dict[str, int] = {}  # instance -> epoch of its one machine
        self.unseen: set[str] = set()
        self.logs = 1

    # --- the world ---

    @rule(wanted=wishes, volumes=volume_wishes, skip=st.integers(1, 3))
    def new_plan(self, wanted: tuple[PlannedInstance, ...], volumes: tuple[PlannedVolume, ...], skip: int) -> None:
        generation = (self.applied.plan.generation if self.applied else 0) + skip
        self._admit(NodePlan("node-a", f"log-{self.logs}", generation, wanted, volumes))

    @rule(wanted=wishes)
    def restored_log(self, wanted: tuple[PlannedInstance, ...]) -> None:
        self.logs += 1
        self._admit(NodePlan("node-a", f"log-{self.logs}", 1, wanted))

    @precondition(lambda self: self.applied is not None)
    @rule(wanted=wishes, back=st.integers(1, 5))
    def older_plan(self, wanted: tuple[PlannedInstance, ...], back: int) -> None:
        assert self.applied is not None
        older = replace(self.applied.plan, generation=self.applied.plan.generation - back, instances=wanted)
        try:
            admit(self.applied, older, "node-a")
        except Refusal:
            return
        raise AssertionError("an older plan was not refused")

    @precondition(lambda self: self.live)
    @rule(pick=st.integers(0, 2))
    def a_machine_dies(self, pick: int) -> None:
        self.live.pop(sorted(self.live)[pick % len(self.live)])

    @rule(key=st.sampled_from(IDS))
    def blind(self, key: str) -> None:
        self.unseen.add(key)

    @rule()
    def see(self) -> None:
        self.unseen.clear()

    @rule(seconds=st.floats(0.05, 400))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def memory_is_lost(self) -> None:
        """Every record was damaged; the machines live on."""
        self.records.clear()

    # --- the agent ---

    @rule()
    def step(self) -> None:
        self._carry_out(self._converge())

    def teardown(self) -> None:
        """Faults stop: in bounded steps everything is as the plan says, and then nothing is done any more."""
        self.unseen.clear()
        for _ in range(60):
            self._carry_out(self._converge())
            self.now_s += 31.0
        todo = self._converge()
        assert todo.quiet(), todo
        if self.applied is None:
            return
        for planned in self.applied.plan.instances:
            record = self.records[planned.instance_id]
            if record.epoch == planned.epoch and record.phase != "ended":
                assert self.live.get(planned.instance_id) == planned.epoch, (planned, record)
            if planned.desired != "running" and record.epoch == planned.epoch:
                assert planned.instance_id not in self.live

    def _admit(self, plan: NodePlan) -> None:
        self.applied = admit(self.applied, plan, "node-a") or self.applied

    def _machines(self) -> dict[str, Machine]:
        return {key: self._machine(key) for key in IDS}

    def _machine(self, key: str) -> Machine:
        if key in self.unseen:
            return Machine("unknown")
        return Machine("alive", started=True, epoch=self.live[key]) if key in self.live else ABSENT

    def _converge(self) -> Convergence:
        plan = self.applied.plan if self.applied else None
        for planned in plan.instances if plan else ():
            assert plan is not None
            self.records[planned.instance_id] = remember(self.records.get(planned.instance_id), planned, plan, "boot")
        return converge(plan, self._machines(), Ledger(self.records, self.volumes), self.now_s)

    def _carry_out(self, todo: Convergence) -> None:
        users_before = {key for key in self.records if key in self.live}
        for action in (*todo.start, *todo.adopt, *todo.renew, *todo.drain, *todo.undrain, *todo.stop, *todo.kill):
            self._act(action)
        for action in (*todo.overdue, *todo.exited, *todo.finish, *todo.remove):
            self._act(action)
        for action in todo.nothing:
            self._tend(action.instance_id)
        self._carry_out_volumes(todo, users_before)

    def _carry_out_volumes(self, todo: Convergence, users_before: set[str]) -> None:
        for volume in todo.ensure_volume:
            self.volumes[volume.volume_id] = VolumeRecord(volume, "available")
        for volume in todo.delete_volume:
            assert self.applied is not None
            assert volume in self.applied.plan.volumes
            assert volume.desired == "deleted", "only a tombstone deletes"
            assert not users_before, f"{volume.volume_id} is open in {users_before}"
            if any(key in self.live for key in self.records):
                continue  # it was started in this very step: the driver's lock refuses the deletion
            self.volumes[volume.volume_id] = VolumeRecord(volume, "deleted")
        for volume_id in todo.forget_volume:
            assert self.volumes.pop(volume_id).status == "deleted"

    def _act(self, action: Action) -> None:
        key = action.instance_id
        assert key not in self.unseen, f"{action} on what cannot be seen"
        record = self.records[key]
        match action.kind:
            case "start":
                assert key not in self.live, "a second machine"
                self.live[key] = record.epoch
                record = replace(move(record, "starting"), started_at_s=self.now_s, attempt=record.attempt + 1)
            case "adopt":
                record = as_adopted(record, self._machine(key))
                record = replace(move(record, "starting"), started_at_s=self.now_s)
            case "renew":
                assert self.applied is not None
                named = next(i for i in self.applied.plan.instances if i.instance_id == key)
                assert named.epoch > record.epoch
                record = remember(None, named, self.applied.plan, "boot")
            case "drain":
                record = replace(record, draining_since_s=self.now_s)
            case "undrain":
                record = replace(record, draining_since_s=None)
            case "stop":
                if record.phase not in ("starting", "running"):
                    record = move(record, "starting")
                record = replace(move(record, "stopping"), kill_at_s=self.now_s + 15)
            case "kill":
                self.live.pop(key)
            case "overdue":
                self.live.pop(key)
                record = after_exit(record, Exit("start_timeout", "late"), self.now_s, self.rng)
            case "exited":
                record = after_exit(record, Exit("vm_died", "gone"), self.now_s, self.rng)
            case "finish":
                record = move(record, "ended")
            case "remove":
                del self.records[key]
                return
        self.records[key] = record

    def _tend(self, key: str) -> None:
        record = self.records[key]
        if key in self.live and key not in self.unseen and record.phase == "starting":
            self.records[key] = replace(move(record, "running"), ready_since_s=self.now_s)

    @invariant()
    def no_machine_runs_under_a_greater_epoch_than_its_own(self) -> None:
        for key, epoch in self.live.items():
            record = self.records.get(key)
            if record is not None and record.phase in ("starting", "running"):
                assert epoch >= record.epoch, record


NodeMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyHistory = NodeMachine.TestCase
