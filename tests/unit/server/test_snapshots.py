"""GET /v1/stream?snapshot=1: what there is, then what changes, without a gap in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from kit.codec import from_json, to_json
from kit.plan_delta import NAME_OF_LIST, PLAN_BASE, whole
from kit.wire import NodePlan, RoutePlan
from reconciler.server import snapshots
from reconciler.server.limits import Limits
from reconciler.server.snapshots import PLACE_OF_ROW
from tests.twin import append
from tests.unit.cli.story import DATA, SITE, Story
from tests.unit.projections.samples import new_event
from tests.unit.server.test_streams import SMALL
from tests.unit.server.world import DEADLINE_S, World, heard, serving, token_of, until

OPERATOR = token_of("operator", "ops")
NODE, EDGE = token_of("node", "node-a"), token_of("edge", "edge-a")


async def shown(world: World, token: str = OPERATOR, query: str = "") -> list[dict[str, Any]]:
    """All lines of the long poll."""
    status, body, headers = await world.call("GET", f"/v1/stream?snapshot=1&wait=0{query}", token)
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson"), body
    return [json.loads(line) for line in body.splitlines()]


def rows_of(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["type"] == "row":
            assert line["key"] not in rows.setdefault(line["view"], {}), "once"
            rows[line["view"]][line["key"]] = line["doc"]
    return rows


def plan_of(lines: list[dict[str, Any]]) -> Mapping[str, Any]:
    """As a machine puts it together."""
    (head,) = (line for line in lines if line["type"] == "plan")
    items = {each: list(rows.values()) for each, rows in rows_of(lines).items()}
    lists = ("routes",) if "edge_id" in head else ("instances", "volumes")
    return {**{each: [] for each in lists}, **head, **items}


async def test_people_get_the_rows_of_the_views_and_a_cursor() -> None:
    async with serving(SMALL) as world:
        await Story(world.log).site()
        lines = await shown(world)
        now = await world.views.snapshot(PLACE_OF_ROW)
        assert lines[0] == {"type": "hello", "log_id": "log-1", "cursor": f"log-1.{now.event_id}"}
        assert lines[-1] == {"type": "bookmark", "cursor": f"log-1.{now.event_id}"}
        assert rows_of(lines) == {view: rows for view, rows in now.rows.items() if rows}
        assert {line["type"] for line in lines[1:-1]} == {"row"}


@pytest.mark.parametrize(
    ("query", "views"),
    [
        ("&kind=node", {"nodes": 2}),
        ("&kind=instance", {"instances": 2}),
        ("&kind=volume", {"resources": 1}),
        ("&org=default", {"sources": 1, "resources": 4, "releases": 1, "deployments": 1, "instances": 2}),
        ("&org=default&project=default", {"resources": 4, "releases": 1, "deployments": 1, "instances": 2}),
        ("&org=default&project=default&env=prod&kind=environment", {"resources": 1}),
        ("&org=default&project=default&app=site&kind=deployment", {"deployments": 1}),
        ("&org=default&project=other", {}),
    ],
)
async def test_the_rows_are_those_that_match(query: str, views: dict[str, int]) -> None:
    async with serving(SMALL) as world:
        await Story(world.log).site()
        assert {view: len(rows) for view, rows in rows_of(await shown(world, query=query)).items()} == views


async def test_a_kind_that_has_no_rows_is_told_so() -> None:
    async with serving(SMALL) as world:
        status, problem, _ = await world.call("GET", "/v1/stream?snapshot=1&wait=0&kind=revision", OPERATOR)
        assert (status, problem["code"]) == (400, "invalid_argument")


async def test_a_node_gets_its_plan_item_by_item() -> None:
    async with serving(SMALL) as world:
        await Story(world.log).site()
        lines = await shown(world, NODE)
        plan = await world.get("/v1/nodes/node-a/plan", NODE)
        assert [line["type"] for line in lines][:2] == ["hello", "plan"]
        assert rows_of(lines).keys() <= NAME_OF_LIST.keys()
        put_together = whole(None, plan_of(lines))
        assert to_json(from_json(NodePlan, put_together)) == plan
        assert lines[-1] == {"type": "bookmark", "cursor": f"{plan['log_id']}.{plan['generation']}"}
        seen_by_people = await shown(world, OPERATOR, "&node=node-a")
        assert seen_by_people == lines


async def test_an_edge_gets_its_plan_item_by_item() -> None:
    async with serving(SMALL) as world:
        await Story(world.log).site()
        plan = await world.get("/v1/edges/edge-a/plan", EDGE)
        assert to_json(from_json(RoutePlan, whole(None, plan_of(await shown(world, EDGE))))) == plan
        assert plan["routes"]


async def test_the_next_plan_is_a_delta_to_the_snapshot() -> None:
    async with serving(SMALL) as world:
        story = Story(world.log)
        await story.site()
        held = plan_of(await shown(world, NODE))
        await story.desired("i-0001", "node-a", "draining", "a new release")
        await shown(world, OPERATOR, "&node=node-a")
        status, answer, _ = await world.call("GET", "/v1/nodes/node-a/plan", NODE, headers={PLAN_BASE: held["digest"]})
        assert (status, answer["base"]) == (200, held["digest"])
        assert whole(held, answer)["instances"][0]["desired"] == "draining"


async def test_a_node_that_is_not_known_gets_no_empty_plan() -> None:
    async with serving(SMALL) as world:
        status, problem, _ = await world.call("GET", "/v1/stream?snapshot=1", NODE)
        assert (status, problem["code"]) == (404, "node_unknown")


@pytest.mark.parametrize("held_at", [None, 9])
async def test_changes_follow_without_a_gap(held_at: int | None) -> None:
    """Also when the views are behind the log, and the ring has left that place already."""
    async with serving(SMALL) as world:
        assert world.session is not None
        await Story(world.log).site()
        for number in range(60):
            await append(world.log, f"before-{number}", heard("node-a", number))
        await until(lambda: world.hub.current_ring().head == len(world.log.events))
        world.views.held_at = held_at
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        async with world.session.get(f"{world.url}/v1/stream?snapshot=1", headers=headers) as answer:
            cursors: list[int] = []
            begins = None
            await append(world.log, "after", heard("node-a", 1000))
            async with asyncio.timeout(DEADLINE_S):
                async for raw in answer.content:
                    line = json.loads(raw)
                    if line["type"] == "bookmark" and begins is None:
                        begins = int(line["cursor"].split(".")[1])
                    if line["type"] == "change":
                        assert begins is not None, "no change before the bookmark of the snapshot"
                        cursors.append(line["event"]["event_id"])
                        if cursors[-1] == len(world.log.events):
                            break
        assert begins == (held_at or len(world.log.events) - 1)
        assert cursors == list(range(begins + 1, len(world.log.events) + 1))


async def test_it_comes_in_pieces_and_others_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    async def lines() -> None:
        async for piece in snapshots.pieces(iter([b"x" * 30, b"", b"y" * 50, b"z" * 300, b"", b"u" * 10]), 100):
            sizes.append(len(piece))

    await lines()
    assert sizes == [80, 300, 10]
    monkeypatch.setattr(snapshots, "ROWS_PER_TURN", 10)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async for _ in snapshots.pieces((b"" for _ in range(1000)), 100):
        pass
    task.cancel()
    assert turns >= 99


async def test_only_so_many_are_written_at_once_and_the_others_are_told_when_to_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(Limits(snapshots_max=1, snapshots_per_s=0.5)) as world:
        gate, began = asyncio.Event(), asyncio.Event()
        take = world.views.snapshot

        async def slow(views: Any) -> Any:
            if set(views) == set(PLACE_OF_ROW):
                began.set()
                await gate.wait()
            return await take(views)

        monkeypatch.setattr(world.views, "snapshot", slow)
        first = asyncio.create_task(shown(world))
        await asyncio.wait_for(began.wait(), DEADLINE_S)
        told = []
        for _ in range(5):
            status, problem, headers = await world.call("GET", "/v1/stream?snapshot=1&wait=0", OPERATOR)
            assert (status, problem["code"]) == (503, "unavailable")
            told.append(int(headers["Retry-After"]))
        assert 1 <= min(told) <= max(told) <= 1 + 5 / 0.5
        gate.set()
        assert (await asyncio.wait_for(first, DEADLINE_S))[-1]["type"] == "bookmark"
        assert (await shown(world))[-1]["type"] == "bookmark", "its place is free again"


async def test_a_place_is_free_while_the_reader_follows() -> None:
    async with serving(Limits(snapshots_max=1)) as world:
        assert world.session is not None
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        async with world.session.get(f"{world.url}/v1/stream?snapshot=1", headers=headers) as answer:
            assert json.loads(await answer.content.readline())["type"] == "hello"
            assert json.loads(await answer.content.readline())["type"] == "bookmark"
            assert (await shown(world))[-1]["type"] == "bookmark"


async def test_who_comes_with_a_lost_cursor_is_shown_the_way() -> None:
    async with serving(SMALL) as world:
        status, problem, _ = await world.call("GET", "/v1/stream?cursor=log-9.5", OPERATOR)
        assert (status, problem["code"]) == (410, "cursor_invalid")
        assert "snapshot=1" in problem["fix"]
        assert (await world.call("GET", f"{problem['snapshot']}&wait=0", OPERATOR))[0] == 200


async def test_rows_and_changes_together_are_what_the_views_become() -> None:
    """A reader that keeps the rows, and reads anew what a change or a removal names, has what a new snapshot shows."""
    async with serving(SMALL) as world:
        story = Story(world.log)
        await story.site()
        lines = await shown(world, OPERATOR, "&org=default&project=default")
        held, cursor = rows_of(lines), lines[-1]["cursor"]
        await story.desired("i-0001", "node-a", "stopped", "over")
        await story.status("i-0001", "node-a", "stopped")
        await append(world.log, "deleted", new_event("volume.deleted", resource_id=DATA))
        await append(world.log, "moved", new_event("app.moved", resource_id=SITE))
        status, body, _ = await world.call(
            "GET", f"/v1/stream?cursor={cursor}&wait=2&org=default&project=default", OPERATOR
        )
        assert status == 200
        for line in map(json.loads, body.splitlines()):
            if line["type"] == "change":
                view = {"instance": "instances"}.get(line["event"]["aggregate_type"], "resources")
                key = line["event"]["aggregate_id"]
                now = (await world.views.snapshot((view,))).rows[view]
                held[view] = {**held[view], key: now.get(key)}
        kept = {view: {key: doc for key, doc in rows.items() if doc is not None} for view, rows in held.items()}
        assert kept == rows_of(await shown(world, OPERATOR, "&org=default&project=default"))
