"""One serial actor per instance: looks, decides (`agent.core.converge.decide`), does one step, waits.

Made by `agent.loop`, woken by a newer plan, a change of the machine, a probe, or the time that the last decision named.
However many plans come meanwhile, the next turn sees only the newest. Getting ready and booting is a task beside it, so
that a stop never waits for a slow registry; at most `boots_max` machines of the node boot at once, and an instance that
fails or waits for its next try holds no such place.

What it did and saw goes to `agent.report` (transitions only) and to `agent.ledger`, the report first: after a crash a
transition may be told twice, never not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent.booting import Boot, Surroundings, bug
from agent.core.converge import Action, Kind, decide
from agent.core.model import Exit, InstanceRecord, Machine, as_adopted, move
from agent.core.plans import remember
from agent.core.restarts import after_exit
from agent.core.transitions import transition
from agent.observe import HealthWatch
from kit import logs
from kit.backoff import Backoff
from kit.errors import TrueupError
from kit.wire import InstanceStatus, PlannedInstance

STOP_GRACE_S = 10  # between the stop signal and the guest's own SIGKILL
KILL_AFTER_S = STOP_GRACE_S + 5.0
TROUBLE = Backoff(first_s=0.5, cap_s=30.0)  # when a step itself raises
_BESIDE_A_START: frozenset[Kind] = frozenset({"start", "exited", "nothing", "restart_at", "adopt"})
_log = logs.get("instance")


class InstanceActor:
    def __init__(self, instance_id: str, surroundings: Surroundings) -> None:
        self.instance_id = instance_id
        self._all = surroundings
        self._host = surroundings.host
        self._wake = asyncio.Event()
        self._watch = HealthWatch(self._host.network.reach, surroundings.clock, self.wake)
        self._boot = Boot(instance_id, surroundings, self._report, self.wake)
        self._removed = False
        self._steps: dict[Kind, Callable[[Action, InstanceRecord, Machine], Awaitable[None]]] = {
            "start": self._start,
            "adopt": self._adopt,
            "renew": self._renew,
            "drain": self._drain,
            "undrain": self._undrain,
            "stop": self._stop,
            "kill": self._kill,
            "overdue": self._overdue,
            "exited": self._exited,
            "finish": self._finish,
            "remove": self._remove,
            "restart_at": self._tend,
            "nothing": self._tend,
        }

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until the instance is removed, or cancelled: then the machine is left as it is."""
        troubles = 0
        try:
            while not self._removed:
                self._wake.clear()
                try:
                    at_s = await self._turn()
                    troubles = 0
                except Exception as error:  # one bad instance must not stop the agent
                    troubles += 1
                    at_s = self._now_s() + TROUBLE.delay_s(troubles, self._all.rng)
                    _log.error("a step failed", instance_id=self.instance_id, why=str(error), exc=bug(error))
                    if troubles > 1:
                        await asyncio.sleep(TROUBLE.delay_s(troubles, self._all.rng))
                await self._sleep_until(at_s)
        finally:
            await self._boot.end()
            await self._watch.end()

    # --- one turn ---

    async def _turn(self) -> float | None:
        """One step. When to look again, if nothing happens before."""
        record, named = self._recall()
        if record is None:
            self._removed = True
            return None
        machine = await self._host.machines.observe(self.instance_id)
        self._boot.leave_place(machine)
        applied = self._all.ledger.applied
        action = decide(record, applied.plan if applied else None, named, machine, self._now_s())
        if self._boot.under_way:
            if action.kind in _BESIDE_A_START:
                return action.at_s
            await self._boot.give_up()
            return self._now_s()
        if action.kind not in ("nothing", "restart_at"):
            _log.info(action.kind, instance_id=self.instance_id, epoch=record.epoch, reason=action.reason)
        await self._steps[action.kind](action, record, machine)
        return action.at_s if action.kind in ("nothing", "restart_at") else self._now_s()

    def _recall(self) -> tuple[InstanceRecord | None, PlannedInstance | None]:
        """The record, brought up to what the newest plan says of it."""
        ledger = self._all.ledger
        record = ledger.instances.get(self.instance_id)
        plan = ledger.applied.plan if ledger.applied else None
        named = next((i for i in plan.instances if i.instance_id == self.instance_id), None) if plan else None
        if plan is not None and named is not None:
            record = remember(record, named, plan, ledger.host_boot_id)
            ledger.save_instance(record)
        return record, named

    # --- up ---

    async def _start(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        if record.attempt == 0:
            self._save(self._report(record, "preparing"))
        self._boot.begin()

    async def _adopt(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        """Its machine lives, whatever was remembered."""
        link = await self._host.network.ensure(self.instance_id, record.planned.workload)
        record = replace(
            move(as_adopted(record, machine), "starting"),
            attempt=max(1, record.attempt),
            started_at_s=self._now_s(),
            retry_at_s=None,
            boot_id=machine.boot_id,
            endpoints=link.endpoints,
        )
        self._all.volumes.taken(record)
        self._save(record)

    async def _tend(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        """Nothing is to be changed: look after a living machine and tell what became of it."""
        if machine.presence != "alive":
            return
        machine = await self._host.machines.attach(self.instance_id)
        if not machine.started or machine.last_words is not None:
            if record.phase == "starting" and machine.last_words is None:
                self._boot.hand_over()
            return
        if record.phase == "starting":
            self._all.volumes.taken(record)
            record = replace(move(record, "running"), started_once=True, boot_id=machine.boot_id)
            self._save(record)
        self._watch.ensure(record)
        if record.phase == "running" and record.draining_since_s is None:
            self._tell_health(record)

    def _tell_health(self, record: InstanceRecord) -> None:
        health = self._watch.state
        if health is None or health.state == "starting":
            return
        if health.state == "ready":
            ready_since_s = record.ready_since_s if record.ready_since_s is not None else self._now_s()
            record = replace(record, ready_since_s=ready_since_s)
            self._save(self._report(record, "ready"))
        elif record.was_ready:
            self._save(self._report(record, "unready", Exit("healthcheck_failed", health.detail)))

    # --- down ---

    async def _drain(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        record = replace(record, draining_since_s=self._now_s())
        self._save(self._report(record, "draining"))

    async def _undrain(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        self._save(replace(record, draining_since_s=None))

    async def _stop(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        """Told first, so that no more work is sent its way."""
        if record.was_ready:
            record = self._report(record, "draining")
        if record.phase not in ("starting", "running"):
            record = move(record, "starting")  # it was believed gone
        record = replace(move(record, "stopping"), kill_at_s=self._now_s() + KILL_AFTER_S)
        self._save(record)
        try:
            await self._host.machines.ask_to_stop(self.instance_id, STOP_GRACE_S)
        except TrueupError as error:
            _log.warning("a guest cannot be asked to stop", instance_id=self.instance_id, why=str(error))
            self._save(replace(record, kill_at_s=self._now_s()))

    async def _kill(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        await self._host.machines.kill(self.instance_id)

    async def _overdue(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        detail = action.reason
        if machine.started and self._watch.state is not None and self._watch.state.detail:
            detail = f"{detail}; last check: {self._watch.state.detail}"
        await self._host.machines.kill(self.instance_id)
        cause = Exit("healthcheck_failed" if machine.started else "start_timeout", detail)
        await self._ended(record, cause)

    async def _exited(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        cause = machine.last_words or Exit("vm_died", "its process ended")
        if await self._host.cgroups.observe(self.instance_id):
            cause = Exit(
                "oom_killed", "the host's kernel killed it: it took more memory than its bound", cause.exit_code
            )
        await self._ended(record, cause)

    async def _ended(self, record: InstanceRecord, cause: Exit) -> None:
        """An end that nobody asked for. The console stays for whoever wants to know more."""
        await self._watch.end()
        await self._host.cgroups.remove(self.instance_id)
        self._all.volumes.freed(self.instance_id)
        record = after_exit(record, cause, self._now_s(), self._all.rng)
        status: InstanceStatus = "stopped" if record.phase == "ended" else "failed"
        self._save(self._report(record, status, record.last_exit))

    async def _finish(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        await self._clean()
        words = machine.last_words
        cause = Exit("", words.detail if words else "", words.exit_code if words else None)
        record = replace(record, last_exit=words or record.last_exit, endpoints=())
        self._save(replace(move(self._report(record, "stopped", cause), "ended"), kill_at_s=None))

    async def _renew(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        ledger = self._all.ledger
        plan = ledger.applied.plan if ledger.applied else None
        named = next((i for i in plan.instances if i.instance_id == self.instance_id), None) if plan else None
        if plan is None or named is None:
            return  # a newer plan came meanwhile; the next turn sees it
        await self._clean()
        self._save(remember(None, named, plan, ledger.host_boot_id))

    async def _remove(self, action: Action, record: InstanceRecord, machine: Machine) -> None:
        await self._clean()
        self._all.ledger.forget_instance(self.instance_id)
        self._removed = True

    async def _clean(self) -> None:
        """Everything that its machine had. Each of these may be done again."""
        await self._watch.end()
        await self._host.machines.remove(self.instance_id)
        await self._host.network.remove(self.instance_id)
        await self._host.cgroups.remove(self.instance_id)
        await self._host.secrets.remove(self.instance_id)
        await self._host.volumes.remove_layer(self.instance_id)
        self._all.volumes.freed(self.instance_id)

    # --- small parts ---

    def _report(self, record: InstanceRecord, status: InstanceStatus, cause: Exit | None = None) -> InstanceRecord:
        """Tells a transition, if it is one. The record with what was told."""
        record, report = transition(record, status, cause, self._all.clock.utc())
        if report is not None:
            self._all.reporter.push(report)
            reason = report.reason_code
            _log.info(f"is {status}", instance_id=self.instance_id, epoch=record.epoch, reason_code=reason)
        return record

    def _save(self, record: InstanceRecord) -> None:
        self._all.ledger.save_instance(record)

    def _now_s(self) -> float:
        return self._all.clock.now_s()

    async def _sleep_until(self, at_s: float | None) -> None:
        if self._removed:
            return
        wait_s = None if at_s is None else max(0.0, at_s - self._now_s())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):  # wait_for of Python 3.11 may swallow a cancellation
                await self._wake.wait()
