"""Random histories of commits, nodes and agents, with the scheduler's promises checked at every pass.

A failure prints the operations; `World` replays them without any other input.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.errors import Refusal
from reconciler.core.acts import Hold, ReleaseHold, Resume, SetDuty, StopInstance, Suspend
from reconciler.core.model import UpdatePolicy, VolumeUse
from reconciler.core.replay import replay
from reconciler.core.scheduler.actions import Actions
from tests.unit.scheduler.world import OVERHEAD_MIB, World, app, app_id, process, secret, used_memory_bytes, volume

NODES = ("node-a", "node-b", "node-c")
BAD = "v3"
USE = (VolumeUse("data", "/data"),)

SCOPES = ("prod/site", "env/prod")
versions = st.sampled_from(("v1", "v2", BAD, "v4"))
operations = st.one_of(
    st.tuples(st.just("web"), versions, st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.just("db"), versions),
    st.tuples(st.just("secret"), st.sampled_from(("1", "2"))),
    st.tuples(st.just("remove")),
    st.tuples(st.just("node"), st.sampled_from(NODES), st.sampled_from(("active", "offline"))),
    st.tuples(st.just("agents"), st.integers(0, 2**16), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from((1.0, 30.0, 200.0, 700.0))),
    st.tuples(st.just("pass")),
    st.tuples(st.just("duty"), st.sampled_from(NODES), st.sampled_from(("active", "draining", "disabled"))),
    st.tuples(st.sampled_from(("suspend", "resume")), st.sampled_from(SCOPES)),
    st.tuples(st.just("hold"), st.integers(0, 3)),
    st.tuples(st.just("release hold")),
    st.tuples(st.just("stop"), st.integers(0, 9)),
)


def _apply(world: World, declared: dict[str, Any], operation: tuple[Any, ...]) -> None:
    match operation:
        case ("web", version, replicas, surge):
            update = UpdatePolicy(surge=surge)
            declared["web"] = process(version, replicas=replicas, update=update, secrets=("keys",), memory_mib=128)
            world.commit(app(**declared))
        case ("db", version):
            declared["db"] = process(version, volumes=USE, memory_mib=256)
            world.commit(app(**declared))
        case ("secret", version):
            world.commit(secret(version))
        case ("remove",) if str(app_id()) in world.views["resources"]:
            declared.clear()
            world.commit(remove=[app_id()])
        case ("node", node_id, state) if world.views["nodes"][node_id]["state"] != state:
            world.node_state(node_id, state)
        case ("agents", choices, all_well):
            _agents(world, choices, all_well)
        case ("duty", node_id, duty):
            world.act(SetDuty(node_id, duty))
        case ("suspend" | "resume" as verb, scope) if str(app_id()) in world.views["resources"] or _suspended(world):
            with contextlib.suppress(Refusal):  # such an app is not, or is not any more
                world.act(Suspend(scope) if verb == "suspend" else Resume(scope))
        case ("hold", number) if str(app_id()) in world.views["resources"]:
            releases = sorted(world.views["releases"])
            world.act(Hold("prod/site", releases[number % len(releases)]))
        case ("release hold",) if str(app_id()) in world.views["resources"]:
            world.act(ReleaseHold("prod/site"))
        case ("stop", number) if world.views["instances"]:
            ids = sorted(world.views["instances"])
            world.act(StopInstance(ids[number % len(ids)]))
        case ("wait", seconds):
            world.advance(seconds)
        case ("pass",):
            _checked_pass(world)


def _agents(world: World, choices: int, all_well: bool) -> None:
    """Some agents say something. Bits of `choices` say which, and what."""
    for row in list(world.views["instances"].values()):
        choices, choice = divmod(choices, 8)
        if choice < 3 or world.views["nodes"][row["node_id"]]["state"] != "active" or row["status"] == "stopped":
            continue
        if row["desired"] != "running":
            world.report(row["instance_id"], "stopped")
        elif row["workload"]["image"].endswith(BAD) or (choice == 7 and not all_well):
            world.report(row["instance_id"], "failed", reason_code="process_exited", restarts=row["restarts"] + 1)
        elif row["status"] == "":
            world.report(row["instance_id"], "booting")
        elif choice == 6 and not all_well:
            world.report(row["instance_id"], "unready", reason_code="healthcheck_failed")
        else:
            world.report(row["instance_id"], "ready")


def _checked_pass(world: World) -> None:
    again = world.decide()
    before, hashes = _ready(world), {row["spec_hash"] for row in world.views["instances"].values()}
    actions = world.run_pass()
    assert [_facts(each) for each in again] == [_facts(each) for each in actions], "the same snapshot, the same actions"
    _check_memory(world)
    _check_counts(world, Counter(each.process for each in actions.allocate))
    _check_ready(world, before)
    _check_acts(world, actions, hashes)


def _check_acts(world: World, actions: Actions, hashes: set[str]) -> None:
    """Nothing is placed on a node that is off duty; of what is suspended only what goes or hangs is replaced, by its
    like."""
    nodes = world.views["nodes"]
    assert all(nodes[each.node_id].get("duty", "active") == "active" for each in actions.allocate)
    if _suspended(world):
        assert {each.target.spec_hash for each in actions.allocate} <= hashes or not hashes
        gone = [nodes[each.node_id] for each in (*actions.drain, *actions.stop) if not each.free]
        assert all(node.get("duty", "active") != "active" or node["state"] == "offline" for node in gone)


def _suspended(world: World) -> bool:
    return any(row["act"] == "suspend" for row in world.views["acts"].values())


def _facts(action: Any) -> tuple[Any, ...]:
    names = ("app", "process", "node_id", "address", "desired", "status", "reason", "volume_id")
    return (type(action).__name__, *(getattr(action, name, None) for name in names))


def _check_memory(world: World) -> None:
    for node_id, row in world.views["nodes"].items():
        assert used_memory_bytes(world, node_id) <= row["memory_bytes"], f"{node_id} is oversubscribed"


def _check_counts(world: World, allocated: Counter[str]) -> None:
    """A pass that allocates leaves at most replicas + surge; a volume has one instance at all."""
    stateful = [row for row in world.instances("db") if row["status"] != "stopped"]
    assert len(stateful) <= 1, "two instances on one volume"
    if not allocated["web"] or _suspended(world) or (world.app_row().get("hold")):
        return
    spec = world.app_row()["spec"]["processes"]["web"]
    present = [row for row in world.instances("web") if row["status"] != "stopped" and _there(world, row)]
    assert len(present) <= spec["replicas"] + spec["update"]["surge"]


def _check_ready(world: World, before: int) -> None:
    """A pass takes away no ready instance that is needed, except where surge 0 asks for the gap."""
    row = world.views["resources"].get(str(app_id()))
    spec = (row or {"spec": {"processes": {}}})["spec"]["processes"].get("web")
    if spec is None or spec["update"]["surge"] == 0 or _suspended(world) or (row or {}).get("hold"):
        return
    assert _ready(world) >= min(spec["replicas"], before), "fewer are ready than were, and than are wanted"


def _there(world: World, row: dict[str, Any]) -> bool:
    return bool(world.views["nodes"][row["node_id"]]["state"] == "active")


def _ready(world: World) -> int:
    return len([row for row in world.ready("web") if _there(world, row)])


def _world(memory_mib: int) -> World:
    world = World()
    for node_id in NODES:
        world.node(node_id, memory_mib=memory_mib)
    world.commit(volume(), secret("1"))
    return world


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operations, max_size=40))
def test_promises_hold_in_every_history(history: list[tuple[Any, ...]]) -> None:
    world, declared = _world(memory_mib=2 * (128 + OVERHEAD_MIB) + 16), dict[str, Any]()  # two of web, or one of db
    for operation in history:
        _apply(world, declared, operation)
    _checked_pass(world)
    assert replay(world.events) == world.views


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operations, max_size=30), st.integers(0, 3))
def test_when_faults_stop_everything_converges_and_then_nothing_is_written(
    history: list[tuple[Any, ...]], replicas: int
) -> None:
    world, declared = _world(memory_mib=1500 + 8 * OVERHEAD_MIB), dict[str, Any]()
    for operation in history:
        _apply(world, declared, operation)
    for node_id in NODES:
        if world.views["nodes"][node_id]["state"] != "active":
            world.node_state(node_id, "active")
        world.act(SetDuty(node_id, "active"))
    for act in [row for row in world.views["acts"].values() if row["act"] == "suspend"]:
        world.act(Resume(act["scope"]))
    _apply(world, declared, ("release hold",))
    _apply(world, declared, ("web", "v4", replicas, 1))
    if "db" in declared:
        _apply(world, declared, ("db", "v4"))
    world.settle()
    assert len(world.decide()) == 0
    assert len(world.ready("web")) == replicas
    assert world.deployment()["status"] == "succeeded"
    assert len(world.ready("db")) == len(declared) - 1
    assert {row["status"] for row in world.views["deployments"].values()} <= {"succeeded", "failed", "superseded"}
    applied = world.views["sources"]["main"]["applied_commit"]
    assert world.views["revisions"][f"main@{applied}"]["status"] == "converged"
    kinds = Counter(kind for kind, _ in world.log.claims)
    live = len(world.views["instances"])
    assert kinds["address"] == live, "what is gone gives its address back"
