"""The real actors over fake drivers; the agent is killed at any moment, again and again, and machines die.

After the faults stop, what lives is what the plan wants, nothing is leaked, and no report was lost: the last thing that
was told of each instance is true. A failure prints its seed; AGENT_KILL_SEEDS=N runs more of them.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from agent.core import restarts
from kit.backoff import Backoff
from kit.wire import InstanceReport, NodePlan
from tests.unit.agent.parts import Agent, World, instance, plan

SEEDS = int(os.environ.get("AGENT_KILL_SEEDS", "8"))
IDS = ("i-1", "i-2", "i-3")


def random_plan(rng: random.Random, generation: int) -> NodePlan:
    wanted = rng.sample(IDS, rng.randint(0, 3))
    desired = {key: rng.choice(("running", "running", "draining", "stopped")) for key in wanted}
    return plan(generation, *(instance(key, desired[key], grace_s=0.01) for key in wanted))  # type: ignore[arg-type]  # words


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_any_kill_is_survived(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "BACKOFF", Backoff(0.001, 0.01))
    rng, world = random.Random(seed), World()
    generation, current = 0, plan(0)
    world.machines.before_boot = lambda _: asyncio.sleep(rng.random() * 0.004)
    for life in range(12):
        agent = Agent(world, tmp_path, seed=seed * 100 + life)
        for _ in range(rng.randint(0, 3)):
            generation += 1
            current = random_plan(rng, generation)
            await agent.node.apply(current)
            await asyncio.sleep(rng.random() * 0.02)
            if world.live() and rng.random() < 0.5:
                world.machines.die(rng.choice(sorted(world.live())))
        await asyncio.sleep(rng.random() * 0.02)
        await agent.end()
    last = Agent(world, tmp_path, seed=seed)
    current = plan(generation + 1, *current.instances)
    await last.node.apply(current)
    try:
        await settle(last, world, current)
    finally:
        await last.end()


async def settle(agent: Agent, world: World, current: NodePlan) -> None:
    named = {i.instance_id for i in current.instances}
    wanted = {i.instance_id for i in current.instances if i.desired == "running"}

    def done() -> bool:
        records = agent.ledger.instances
        ended = {key for key, record in records.items() if record.phase == "ended"}
        running = {key for key, record in records.items() if record.reported == "ready"}
        return world.live() == running == wanted - ended and ended | running == set(records) == named

    await agent.until(done)
    assert world.network.made == world.live()
    assert world.volumes.layers == world.live()
    last_told = {r.instance_id: r.status for r in agent.reporter.waiting if isinstance(r, InstanceReport)}
    for key in agent.ledger.instances:
        assert last_told[key] == ("ready" if key in world.live() else "stopped")
    counters = [report.counter for report in agent.reporter.waiting]
    assert counters == sorted(set(counters))
