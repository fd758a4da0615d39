"""The past over HTTP: filters, the state of a moment, what changed between two."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.commands import Append
from reconciler.core.moments import AtCommit, AtEvent, AtTime, Now, parse_moment, parse_time
from reconciler.core.past import Past
from reconciler.core.replay import replay
from reconciler.core.views import PROJECTIONS
from tests.twin import MemoryLog
from tests.unit.cli.story import BAD, BEN, GOOD, LATER, SITE, Story, app_spec, git
from tests.unit.projections.samples import new_event
from tests.unit.server.world import World, serving, token_of

OPS = token_of("operator", "ops")


async def ids(world: World, query: str) -> list[int]:
    return [event["event_id"] for event in (await world.get(f"/v1/events?{query}"))["events"]]


async def test_every_filter_chooses_and_all_must_match() -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await ids(world, "actor=ADA@example") == [4, 5, 6, 7, 8, 9, 10]
        assert await ids(world, "actor=node:node-b&event_type=instance.*") == [15, 16]
        assert await ids(world, "event_type=deployment.*,node.enrolled") == [2, 3, 10, 17]
        assert await ids(world, "path=apps&actor=ada") == [6, 7, 8, 9, 10]
        assert await ids(world, "path=env.yaml") == [5]
        assert await ids(world, "path=app") == []
        assert await ids(world, f"correlation_id=main@{GOOD}&aggregate_type=instance") == [11, 14]
        assert await ids(world, "command_id=s-3") == [3]
        assert await ids(world, "org_id=default&source_id=main&after=10") == [11, 14, 17]
        assert await ids(world, "causation_id=4") == []
        assert await ids(world, "since=2026-01-01T00:00:16Z") == [16, 17]
        assert await ids(world, "since=2026-01-01T00:00:15.001Z&until=2026-01-01T00:00:16Z") == [16]
        assert await ids(world, "since=2026-01-01T02:00:16%2B02:00") == [16, 17]


async def test_pages_lead_through_everything_from_either_end() -> None:
    async with serving() as world:
        await Story(world.log).site()
        whole = await ids(world, "event_type=instance.*")
        forward: list[int] = []
        after: int | None = 0
        while after is not None:
            page = await world.get(f"/v1/events?event_type=instance.*&limit=2&after={after}")
            forward += [event["event_id"] for event in page["events"]]
            after = page["next_after"]
        backward: list[int] = []
        before: str | None = ""
        while before is not None:
            page = await world.get(f"/v1/events?event_type=instance.*&limit=2&newest=true{before}")
            backward = [event["event_id"] for event in page["events"]] + backward
            before = None if page["next_before"] is None else f"&before={page['next_before']}"
        assert forward == backward == whole


@pytest.mark.parametrize(
    "query",
    ["event_type=*", "event_type=a.b.c", "since=yesterday", "newest=1", "causation_id=x", "path=a%00b", "actr=x"],
)
async def test_a_filter_that_says_nothing_is_refused(query: str) -> None:
    async with serving() as world:
        status, problem, _ = await world.call("GET", f"/v1/events?{query}", OPS)
        assert (status, problem["code"]) == (400, "invalid_argument")


def test_moments_are_read_in_each_of_their_forms() -> None:
    assert parse_moment("17") == parse_moment("#17") == AtEvent(17)
    assert parse_moment("NOW") == Now()
    assert parse_moment("2026-01-31T10:00:00+01:00") == AtTime("2026-01-31T09:00:00.000Z")
    assert parse_moment("2026-01-31") == AtTime("2026-01-31T00:00:00.000Z")
    assert parse_moment("ABCD12") == AtCommit("", "abcd12")
    assert parse_moment("main@1234567") == AtCommit("main", "1234567")
    assert parse_moment("commit:1234567") == AtCommit("", "1234567")
    assert parse_moment("soon") is None
    assert parse_time("2h") is None  # without a clock


async def tell_more(story: Story) -> None:
    """A later commit with another image and one replica less; its instance replaces the others; a node goes."""
    await story.applied(LATER, "New image", ("update", SITE, "apps/site.yaml", 3), author=BEN)  # 18
    image = "registry.example/site@sha256:" + "2" * 64
    updated = {"resource_id": SITE, "spec": app_spec(image, 1), "previous_spec": app_spec()}
    await story.event("app", SITE, "updated", updated, git(LATER, BEN, "apps/site.yaml", 3))  # 19
    await story.release("r-two", "d-two", LATER, 2)  # 20, 21
    await story.allocate("i-0003", "node-a", "r-two", "d-two", LATER)  # 22
    for instance, node in (("i-0001", "node-a"), ("i-0002", "node-b"), ("i-0003", "node-a")):
        await story.desired(instance, node, "stopped", "replaced")  # 23, 25, 27
        await story.status(instance, node, "stopped")  # 24, 26, 28
    await story.allocate("i-0004", "node-a", "r-two", "d-two", LATER)  # 29
    await story.node_state("node-b", "offline", "no heartbeat")  # 30


async def test_the_state_at_every_event_is_the_replay_up_to_it() -> None:
    """The oracle folds the whole beginning anew for each event."""
    async with serving() as world:
        story = Story(world.log)
        await story.site()
        await tell_more(story)
        for end in range(len(world.log.events) + 1):
            document = await world.get(f"/v1/state?at={end}")
            told = {
                view: {row["key"]: row["doc"]["aggregate_seq"] for row in rows}
                for view, rows in document["views"].items()
            }
            expected = replay(world.log.events[:end])
            assert told == {
                view: {key: row["aggregate_seq"] for key, row in rows.items()} for view, rows in expected.items()
            }
            assert document["event_id"] == end


async def test_a_time_and_a_commit_name_the_event_after_which_they_lie() -> None:
    async with serving() as world:
        story = Story(world.log)
        await story.site()
        await tell_more(story)

        async def at(moment: str) -> Any:
            status, document, _ = await world.call("GET", f"/v1/state?of=source&at={moment}", OPS)
            return document["event_id"] if status == 200 else (status, document["code"])

        for event in world.log.events:
            assert await at(event.occurred_at) == event.event_id
        assert await at("2026-01-01T00:00:12.500Z") == 12
        assert await at("2025-01-01") == 0
        assert await at("2027-01-01") == await at("now") == 30
        assert await at(GOOD[:8]) == 4
        assert await at(f"main@{LATER[:8]}") == 18
        assert await at(f"other@{LATER[:8]}") == await at(BAD[:8]) == (404, "not_found")
        assert await at("31") == await at("soon") == (400, "invalid_argument")


async def test_a_commit_ends_with_the_last_of_its_commands() -> None:
    async with serving() as world:
        revision = new_event("revision.applied", commit=GOOD)
        batch = [
            Append("apply", "h", git(), (revision,), {}),
            *(Append(f"apply/{number}", "h", git(), (new_event("app.moved"),), {}) for number in range(3)),
            Append("applying", "h", git(), (new_event("node.enrolled"),), {}),
        ]
        await world.log.append(batch)
        assert (await world.get(f"/v1/state?at={GOOD[:8]}&of=node"))["event_id"] == 4


async def test_a_kind_or_one_thing_can_be_asked_for() -> None:
    async with serving() as world:
        story = Story(world.log)
        await story.site()
        await tell_more(story)
        document = await world.get("/v1/state?of=instance&at=22")
        assert [row["key"] for row in document["views"]["instances"]] == ["i-0001", "i-0002", "i-0003"]
        document = await world.get("/v1/state?of=app/site&at=18")
        assert list(document["views"]) == ["resources"]
        assert document["views"]["resources"][0]["doc"]["spec"]["processes"]["web"]["replicas"] == 2
        document = await world.get("/v1/state?of=release")
        assert {row["key"]: row["doc"]["state"] for row in document["views"]["releases"]} == {
            "r-one": "superseded",
            "r-two": "promoted",
        }
        status, problem, _ = await world.call("GET", "/v1/state?of=i-0003&at=21", OPS)
        assert (status, problem["code"]) == (404, "not_found")
        assert "at event 21" in problem["detail"]


async def test_what_changed_field_by_field_and_because_of_what() -> None:
    async with serving() as world:
        story = Story(world.log)
        await story.site()
        await tell_more(story)
        document = await world.get(f"/v1/diff?from=now&to={GOOD[:8]}&of=app")
        assert (document["from"]["event_id"], document["to"]["event_id"]) == (4, 30)
        document = await world.get("/v1/diff?from=17&to=now")
        changes = {each["key"]: each for each in document["changes"]}
        app = changes[SITE]
        assert app["verb"] == "updated"
        fields = {each["path"]: (each["before"], each["after"]) for each in app["fields"]}
        assert fields["spec.processes.web.replicas"] == (2, 1)
        assert fields["release_id"] == ("r-one", "r-two")
        assert fields["origin.commit"] == (GOOD, LATER)
        assert not [path for path in fields if path.endswith(("_seq", "_event_id"))]
        assert [cause["event_id"] for cause in app["causes"]] == [19, 21]
        assert "Ben" in app["causes"][0]["cause"]
        assert {key: changes[key]["verb"] for key in ("i-0001", "i-0002", "i-0003", "i-0004", "d-two", "node-b")} == {
            "i-0001": "removed",
            "i-0002": "removed",
            "i-0003": "passed",
            "i-0004": "created",
            "d-two": "created",
            "node-b": "updated",
        }
        assert "node-a" not in changes
        assert [each["path"] for each in changes["node-b"]["fields"]] == ["reason", "state"]
        assert (await world.get("/v1/diff?from=17&to=17"))["changes"] == []


async def test_a_secret_s_place_and_value_are_never_told() -> None:
    canary = "canary" * 5
    async with serving() as world:
        story = Story(world.log)
        await story.begin()
        spec = {"version_id": "v-1", "keys": ["TOKEN"], "blob": canary}
        secret = "default/default/prod/site/secret/keys"
        await story.declare(secret, spec, "apps/site.yaml", 9)
        newer = {
            "resource_id": secret,
            "spec": {**spec, "version_id": "v-2", "blob": canary + "2"},
            "previous_spec": spec,
        }
        await story.event("secret", secret, "updated", newer, git(LATER))
        told = json.dumps([await world.get("/v1/state"), await world.get("/v1/diff?from=4")])
        assert "v-2" in told
        assert canary not in told


async def test_a_row_that_cannot_be_folded_is_named_and_stops_only_itself() -> None:
    log = MemoryLog()
    await Story(log).site()
    events = [
        replace(event, event_version=99 if event.event_id == 12 else event.event_version) for event in log.events
    ]  # i-0001 booting
    past = Past()
    past.fold(events)
    assert list(past.broken) == ["instances/i-0001"]
    assert past.rows["instances"]["i-0002"]["status"] == "ready"
    assert past.rows["instances"]["i-0001"]["status"] == ""
    assert set(past.rows) == set(PROJECTIONS)
