"""Quotas in every history: what is counted is what the log says, nothing grows beyond a limit, and the scheduler never
asks for what the append would refuse.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.core.claims import Claims
from reconciler.core.commands import Conflict
from reconciler.core.model import UpdatePolicy
from reconciler.core.quotas import limit_of, read_quota
from reconciler.core.revisions import Refused
from reconciler.core.scheduler.record import appends
from reconciler.store.placement import place
from tests.unit.scheduler.world import MIB, OVERHEAD_MIB, World, app, app_id, environment, process, volume

NODES = ("node-a", "node-b", "node-c")

operations = st.one_of(
    st.tuples(
        st.just("app"),
        st.sampled_from(("site", "shop")),
        st.sampled_from(("v1", "v2", "v3")),
        st.integers(0, 4),
        st.sampled_from((64, 128, 256)),
        st.integers(0, 2),
    ),
    st.tuples(st.just("limit"), st.none() | st.integers(0, 8), st.none() | st.integers(0, 1024)),
    st.tuples(st.just("volume"), st.sampled_from(("a", "b", "c"))),
    st.tuples(st.just("remove"), st.sampled_from(("site", "shop"))),
    st.tuples(st.just("node"), st.sampled_from(NODES)),
    st.tuples(st.just("agents"), st.integers(0, 2**16)),
    st.tuples(st.just("pass")),
)


def _apply(world: World, operation: tuple[Any, ...]) -> None:
    commit = f"{len(world.events):040x}"
    match operation:
        case ("app", name, version, replicas, memory_mib, surge):
            made = process(version, replicas=replicas, memory_mib=memory_mib, update=UpdatePolicy(surge=surge))
            _tried(world.try_commit(app(name, web=made), commit=commit))
        case ("limit", instances, memory_mib):
            quota = {"volumes": 2}
            quota |= {} if instances is None else {"instances": instances}
            quota |= {} if memory_mib is None else {"memory_bytes": 4 * memory_mib * MIB}
            _tried(world.try_commit(environment(**quota), commit=commit))
        case ("volume", name):
            _tried(world.try_commit(volume(name), commit=commit))
        case ("remove", name) if str(app_id(name)) in world.views["resources"]:
            _tried(world.try_commit(remove=[app_id(name)], commit=commit))
        case ("node", node_id):
            state = world.views["nodes"][node_id]["state"]
            world.node_state(node_id, "offline" if state == "active" else "active")
        case ("agents", choices):
            for row in list(world.views["instances"].values()):
                choices, choice = divmod(choices, 4)
                if choice and world.views["nodes"][row["node_id"]]["state"] == "active" and row["status"] != "stopped":
                    world.report(row["instance_id"], "ready" if row["desired"] == "running" else "stopped")
        case ("pass",):
            _pass(world)


def _tried(refused: Refused | None) -> None:
    assert refused is None or [each.code for each in refused.findings] == ["quota_exceeded"]


def _pass(world: World) -> None:
    """The same picture gives a batch that the append takes as it is: the scheduler and the claims count alike."""
    batch = appends(world.decide(), world.log.last_event_id, "dry")
    before = world.log.copy()
    conflict: Conflict | None = None
    if batch:
        conflict = next(iter(place(batch, before, whole=len(batch) > 1).conflicts), None)
    assert conflict is None, conflict
    world.run_pass()


def counted(world: World) -> dict[tuple[str, str], str]:
    return {key: text for key, text in world.log.claims.items() if key[0] != "fence"}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operations, max_size=40))
def test_what_is_counted_is_what_the_log_says_and_nothing_goes_over(
    history: list[tuple[Any, ...]],
) -> None:
    world = World()
    for node_id in NODES:
        world.node(node_id)
    for operation in history:
        before = _used(world)
        _apply(world, operation)
        for (scope, dimension), (limit, used) in _used(world).items():
            grew = used > before.get((scope, dimension), (0, 0))[1]
            assert not grew or limit is None or used <= limit, (operation, scope, dimension, limit, used)
        claims = Claims()
        for event in world.events:
            claims.apply(event)
        assert {key: held.owner for key, held in claims.held.items()} == counted(world), operation


def _used(world: World) -> dict[tuple[str, str], tuple[int | None, int]]:
    found: dict[tuple[str, str], tuple[int | None, int]] = {}
    for (kind, scope), text in world.log.claims.items():
        if kind == "quota":
            limits, used = read_quota(text)
            found |= {(scope, name): (limits.get(limit_of(name)), amount) for name, amount in used.items()}
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operations, max_size=25), st.integers(1, 4), st.sampled_from((64, 128)))
def test_an_update_ends_within_a_quota_that_has_no_room_for_a_surge(
    history: list[tuple[Any, ...]], replicas: int, memory_mib: int
) -> None:
    world = World()
    for node_id in NODES:
        world.node(node_id)
    for operation in history:
        _apply(world, operation)
    for node_id in NODES:
        if world.views["nodes"][node_id]["state"] != "active":
            world.node_state(node_id, "active")
    if str(app_id("shop")) in world.views["resources"]:
        world.commit(remove=[app_id("shop")])
    world.commit(environment(volumes=9))
    world.commit(app(web=process("v1", replicas=replicas, memory_mib=memory_mib)))
    world.settle()
    world.commit(environment(instances=replicas, memory_bytes=replicas * (memory_mib + OVERHEAD_MIB) * MIB))
    world.commit(app(web=process("v4", replicas=replicas, memory_mib=memory_mib)))
    for _ in range(100):
        before = world.log.last_event_id
        _pass(world)
        assert len(world.ready()) >= replicas - 1, "one at a time"
        world.agents_act()
        if world.log.last_event_id == before:
            break
    assert len(world.decide()) == 0
    assert {row["workload"]["image"][-2:] for row in world.ready()} == {"v4"} and len(world.ready()) == replicas
    assert world.deployment()["status"] == "succeeded"
    assert world.app_row()["unschedulable"] == {}
    said = [event for event in world.events if event.event_type == "app.unschedulable"]
    assert all(event.payload["reason"] for event in said)
