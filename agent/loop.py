"""The node as a whole: takes plans in, keeps one actor per instance, volumes, reports and heartbeats going.

Made by `agent.bootstrap`. `Node.apply` gets each new plan from `kit.follow`; from then on everything is driven by the
files of `agent.ledger` and by what is seen, so that a controller that is down changes nothing here. When `run` ends,
machines are left as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from agent.actors import InstanceActor
from agent.booting import Surroundings
from agent.core.converge import converge
from agent.core.model import Machine
from agent.core.plans import admit
from kit import logs
from kit.backoff import Backoff
from kit.codec import from_json
from kit.errors import Refusal, TrueupError
from kit.wire import NodePlan

HEARTBEAT_S = 5.0
TICK_S = 5.0
IMAGE_SWEEP_S = 600.0
ENROL = Backoff(first_s=0.5, cap_s=15.0)
_log = logs.get("agent")
RemoveUnused = Callable[[Collection[str]], Awaitable[object]]


class Node:
    def __init__(
        self, node_id: str, surroundings: Surroundings, remove_unused_images: RemoveUnused | None = None
    ) -> None:
        self._node_id = node_id
        self._all = surroundings
        self._remove_unused_images = remove_unused_images
        self._actors: dict[str, InstanceActor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._look = asyncio.Event()

    def wake(self, instance_id: str) -> None:
        """Something may have changed about a machine. Given to the drivers as `on_change`."""
        actor = self._actors.get(instance_id)
        if actor is not None:
            actor.wake()
        self._look.set()

    async def apply(self, plan: NodePlan) -> None:
        """A plan from the controller. An older or foreign one is refused with a line in the log."""
        ledger = self._all.ledger
        try:
            applied = admit(ledger.applied, plan, self._node_id)
        except Refusal as error:
            _log.warning("plan refused", why=str(error), code=error.code)
            return
        if applied is None:
            return
        ledger.apply(applied)
        _log.info("plan applied", generation=plan.generation, instances=len(plan.instances), volumes=len(plan.volumes))
        self._keep_actors()
        for actor in self._actors.values():
            actor.wake()
        self._look.set()

    async def run(self) -> None:
        """Until cancelled."""
        await self._warn_of_strangers()
        self._all.volumes.free_forgotten()
        self._keep_actors()
        loop = asyncio.get_running_loop()
        sweep_at_s = loop.time() + IMAGE_SWEEP_S
        try:
            while True:
                self._look.clear()
                await self._look_after_volumes()
                if loop.time() >= sweep_at_s:
                    sweep_at_s = loop.time() + IMAGE_SWEEP_S
                    await self._sweep_images()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):  # wait_for of Python 3.11 may swallow a cancellation
                        await self._look.wait()
        finally:
            await self._end_actors()

    def _keep_actors(self) -> None:
        """An actor for each instance that the plan names or the agent remembers."""
        ledger = self._all.ledger
        named = {i.instance_id for i in ledger.applied.plan.instances} if ledger.applied else set()
        for instance_id in named | ledger.instances.keys():
            if instance_id not in self._tasks:
                actor = InstanceActor(instance_id, self._all)
                self._actors[instance_id] = actor
                self._tasks[instance_id] = asyncio.create_task(actor.run(), name=f"instance {instance_id}")
                self._tasks[instance_id].add_done_callback(functools.partial(self._actor_ended, instance_id))

    def _actor_ended(self, instance_id: str, _: asyncio.Task[None]) -> None:
        """It was removed. A plan that named it again at the last moment gets a new actor."""
        self._actors.pop(instance_id, None)
        task = self._tasks.pop(instance_id, None)
        if task is not None and not task.cancelled():
            self._keep_actors()

    async def _look_after_volumes(self) -> None:
        try:
            ledger = self._all.ledger
            machines = {key: await self._see(key) for key in list(ledger.instances)}
            plan = ledger.applied.plan if ledger.applied else None
            await self._all.volumes.converge(
                converge(plan, machines, ledger.view(), self._all.clock.now_s(), ledger.host_boot_id)
            )
        except Exception as error:  # volumes that fail must not end the agent
            _log.error("volumes not looked after", why=str(error), exc=error)

    async def _see(self, instance_id: str) -> Machine:
        try:
            return await self._all.host.machines.observe(instance_id)
        except TrueupError:
            return Machine("unknown")

    async def _sweep_images(self) -> None:
        if self._remove_unused_images is None:
            return
        records = self._all.ledger.instances.values()
        try:
            await self._remove_unused_images({r.planned.workload.image for r in records if r.phase != "ended"})
        except (TrueupError, OSError) as error:
            _log.warning("unused images not removed", why=str(error))

    async def _warn_of_strangers(self) -> None:
        for instance_id in await self._all.host.machines.known():
            if instance_id not in self._all.ledger.instances:
                fix = "a plan that names it adopts it; `trueup-agent stop-all` ends it"
                _log.warning(
                    "a machine is here that nothing remembers; it is left alone", instance_id=instance_id, fix=fix
                )

    async def _end_actors(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def enrol(post: Callable[[], Awaitable[Any]], rng: random.Random) -> None:
    """Until it succeeds. Meanwhile the node goes on from its last plan."""
    failures = 0
    while True:
        try:
            await post()
        except TrueupError as error:
            failures += 1
            _log.warning("not enrolled yet", failures=failures, why=str(error))
            await asyncio.sleep(ENROL.delay_s(failures, rng))
        else:
            _log.info("enrolled")
            return


async def beat(post: Callable[[], Awaitable[Any]], enrol_again: Callable[[], Awaitable[None]]) -> None:
    """A heartbeat every HEARTBEAT_S until cancelled. One that fails is only said when that is new."""
    silent = False
    while True:
        try:
            await post()
            silent = False
        except TrueupError as error:
            if not silent:
                _log.warning("heartbeat not delivered", why=str(error))
            silent = True
            if error.code == "node_unknown":  # its log was restored from before this node was enrolled
                await enrol_again()
        await asyncio.sleep(HEARTBEAT_S)


def decode_plan(document: Any) -> NodePlan:
    return from_json(NodePlan, document, where="node plan")
