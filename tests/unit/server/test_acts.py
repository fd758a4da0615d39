"""Operators' acts over HTTP and on the command line, with the real handlers over a log in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kit.control_plane import ControlPlane
from kit.errors import Transient
from reconciler.cli import exits
from reconciler.cli.main import main
from reconciler.core.views import PROJECTIONS
from tests.unit.cli.story import Story
from tests.unit.server.test_openapi import DOCUMENT, answer_schema, check
from tests.unit.server.world import World, serving, token_of

OPS = token_of("operator", "ops")
DRAIN = "/v1/nodes/node-a/drain"
WHY = {"reason": "new disks"}


async def post(world: World, path: str, body: Any, key: str = "key-00000001", token: str = OPS) -> tuple[int, Any, Any]:
    return await world.call("POST", path, token, json=body, headers={"Idempotency-Key": key} if key else {})


async def run(world: World, *argv: str, token: str = OPS) -> int:
    return await asyncio.to_thread(main, [*argv, "--controller", world.url, "--token", token])


async def test_an_act_is_an_event_with_its_actor_and_reason_and_every_read_can_wait_for_it() -> None:
    async with serving() as world:
        await Story(world.log).site()
        status, document, _ = await post(world, DRAIN, WHY)
        assert status == 200, document
        check(DOCUMENT["components"]["responses"]["Act"]["content"]["application/json"]["schema"], document)
        (event,) = document["events"]
        assert (event["event_type"], event["payload"]["duty"]) == ("node.duty_changed", "draining")
        assert (event["cause"]["actor_type"], event["cause"]["actor_id"]) == ("user", "operator:ops")
        assert event["payload"]["reason"] == "new disks"
        page = await world.get(f"/v1/status?min_event_id={document['event_id']}")
        assert [(each["subject"], each["actor"]) for each in page["acts"]] == [("node node-a", "operator:ops")]


async def test_an_act_can_wait_until_every_view_shows_it_and_says_when_they_are_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as world:
        await Story(world.log).site()
        waited: list[int] = []
        really = world.views.wait_for

        async def wait_for(event_id: int, names: Iterable[str], timeout_s: float) -> None:
            if set(names) != set(PROJECTIONS):
                await really(event_id, names, timeout_s)
                return
            waited.append(event_id)
            if len(waited) > 1:
                raise Transient(f"wait {timeout_s:g} s", "it is at event 1", code="projection_timeout")

        monkeypatch.setattr(world.views, "wait_for", wait_for)
        status, document, _ = await post(world, f"{DRAIN}?wait=true", WHY)
        assert (status, waited) == (200, [document["event_id"]])
        status, late, _ = await post(world, f"{DRAIN}?wait=true", WHY)
        assert (status, late["code"]) == (504, "projection_timeout")
        assert f"it is done and recorded as event {document['event_id']}" in json.dumps(late)
        assert (await post(world, f"{DRAIN}?wait=yes", WHY, key="key-00000009"))[0] == 400
        assert world.log.events[-1].event_id == document["event_id"]


async def test_the_same_key_is_one_act_and_another_body_is_refused() -> None:
    async with serving() as world:
        await Story(world.log).site()
        _, first, headers = await post(world, DRAIN, {**WHY, "for_s": 600})
        assert "Idempotency-Replayed" not in headers
        await post(world, "/v1/nodes/node-a/activate", {"reason": "done"}, key="key-00000002")
        status, again, headers = await post(world, DRAIN, {**WHY, "for_s": 600})
        assert (status, again, headers["Idempotency-Replayed"]) == (200, first, "true")
        for path, body in (
            (DRAIN, {"reason": "other"}),
            (DRAIN, {**WHY, "for_s": 601}),
            ("/v1/nodes/node-b/drain", {**WHY, "for_s": 600}),
            ("/v1/nodes/node-a/disable", WHY),
        ):
            status, document, _ = await post(world, path, body)
            assert (status, document["code"]) == (409, "idempotency_key_reuse"), path
        assert (await world.get("/v1/views/nodes/node-a"))["doc"]["duty"] == "active", "the replay did nothing"
        other = token_of("operator", "night")
        assert (await post(world, DRAIN, WHY, token=other))[0] == 200, "a key belongs to who chose it"


async def test_many_at_once_with_one_key_are_one_act() -> None:
    async with serving() as world:
        await Story(world.log).site()
        answers = await asyncio.gather(*(post(world, DRAIN, WHY) for _ in range(8)))
        assert {status for status, _, _ in answers} == {200}
        assert len({document["event_id"] for _, document, _ in answers}) == 1
        assert sum(event.event_type == "node.duty_changed" for event in world.log.events) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (DRAIN, {}),
        (DRAIN, {"reason": " "}),
        (DRAIN, {"reason": "a\nb"}),
        (DRAIN, {"reason": "x" * 501}),
        (DRAIN, {"reason": 7}),
        (DRAIN, {**WHY, "until": "tomorrow"}),
        (DRAIN, {**WHY, "until": "2001-01-01"}),
        (DRAIN, {**WHY, "for_s": -5}),
        (DRAIN, {**WHY, "for_s": 1e300}),
        (DRAIN, {**WHY, "for_s": 60, "until": "2999-01-01T00:00:00Z"}),
        (DRAIN, {**WHY, "untill": "2999-01-01T00:00:00Z"}),
        ("/v1/nodes/node-a/disable", {**WHY, "for_s": 60}),
        ("/v1/suspensions", WHY),
        ("/v1/holds", {**WHY, "app": "prod/site"}),
        (DRAIN, [WHY]),
    ],
)
async def test_what_is_not_said_well_is_refused_and_changes_nothing(path: str, body: Any) -> None:
    async with serving() as world:
        await Story(world.log).site()
        before = len(world.log.events)
        status, document, _ = await post(world, path, body)
        assert (status, len(world.log.events)) == (400, before), document


async def test_an_act_needs_a_key() -> None:
    async with serving() as world:
        await Story(world.log).site()
        for key in ("", "short", "with spaces in it", "k" * 129):
            status, document, _ = await post(world, DRAIN, WHY, key=key)
            assert (status, document["code"]) == (400, "invalid_argument")
            assert "Idempotency-Key" in document["detail"]


async def test_there_is_no_such_thing() -> None:
    async with serving() as world:
        await Story(world.log).site()
        for path, body in (
            ("/v1/nodes/node-x/drain", WHY),
            ("/v1/instances/i-none/stop", WHY),
            ("/v1/suspensions", {**WHY, "scope": "prod/none"}),
            ("/v1/holds", {**WHY, "app": "prod/none", "release_id": "r-1"}),
        ):
            assert (await post(world, path, body))[0] == 404, path


async def test_a_resumed_source_is_looked_at_at_once() -> None:
    async with serving() as world:
        await Story(world.log).site()
        await post(world, "/v1/suspensions", {**WHY, "scope": "source/main"})
        assert ("look", "main") not in world.calls
        await post(world, "/v1/suspensions/end", {**WHY, "scope": "source/main"}, key="key-00000002")
        assert world.calls[-1] == ("look", "main")


# --- the command line


async def test_the_commands_say_what_they_did(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        await Story(world.log).site()
        why = ("--reason", "an incident")
        before = datetime.now(UTC)
        assert await run(world, "node", "drain", "node-a", "--for", "2h", *why) == 0
        out = capsys.readouterr().out
        assert out.startswith("node node-a shall be draining until ")
        assert "recorded as event 18, key " in out
        until = datetime.fromisoformat(world.log.events[-1].payload["until"])
        assert timedelta(seconds=7190) < until - before < timedelta(seconds=7210)
        for argv, said in (
            (("suspend", "prod/site", *why), "app prod/site suspended: an incident"),
            (("resume", "prod/site", *why), "app prod/site goes on as Git says: an incident"),
            (("suspend", "source/main", "--for", "1d", *why), "source main suspended until "),
            (("node", "disable", "node-b", *why), "node node-b shall be disabled: an incident"),
            (("instance", "stop", "i-0001", *why), "instance i-0001 shall be draining: an incident"),
        ):
            assert await run(world, *argv) == 0, argv
            assert capsys.readouterr().out.startswith(said), argv
        assert await run(world, "node", "activate", "node-b", *why, "--output", "json") == 0
        assert json.loads(capsys.readouterr().out)["events"][0]["payload"]["duty"] == "active"


async def test_the_commands_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        await Story(world.log).site()
        why, key = ("--reason", "x"), ("--key", "key-00000009")
        assert await run(world, "node", "drain", "node-x", *why) == exits.MISSING
        assert await run(world, "resume", "prod/site", *why) == exits.GENERIC
        assert await run(world, "node", "drain", "node-a", *why, *key) == 0
        assert await run(world, "node", "drain", "node-a", *why, *key) == 0, "the same again"
        assert await run(world, "node", "drain", "node-b", *why, *key) == exits.CONFLICT
        assert await run(world, "node", "drain", "node-b", *why, token=token_of("node", "node-b")) == exits.AUTH
        assert await run(world, "release-hold", "prod/site", *why) == exits.GENERIC
        assert await run(world, "hold", "prod/site", "--release", "r-none", *why) == exits.MISSING
        with pytest.raises(SystemExit):
            await run(world, "node", "drain", "node-a")
        with pytest.raises(SystemExit):
            await run(world, "node", "drain", "node-a", *why, "--for", "soon")


async def test_an_act_is_sent_again_with_the_same_key_when_no_answer_came(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is lost after the act was recorded."""
    send, sent = ControlPlane.post_json, []

    async def loses_the_first(self: ControlPlane, *args: Any, **more: Any) -> Any:
        answer = await send(self, *args, **more)
        sent.append(more["headers"]["Idempotency-Key"])
        if len(sent) == 1:
            raise Transient("POST", "the connection was cut")
        return answer

    monkeypatch.setattr(ControlPlane, "post_json", loses_the_first)
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, "node", "drain", "node-a", "--reason", "x") == 0
        assert len(sent) == 2
        assert len(set(sent)) == 1
        assert sum(event.event_type == "node.duty_changed" for event in world.log.events) == 1


# --- what people see


async def test_the_status_page_lists_what_people_hold_back_and_why_says_it_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving() as world:
        story = Story(world.log)
        await story.site()
        for argv in (("node", "drain", "node-a"), ("suspend", "prod/site"), ("suspend", "source/main")):
            assert await run(world, *argv, "--reason", "an incident") == 0
        capsys.readouterr()
        await run(world, "status")
        page = capsys.readouterr().out
        assert page.startswith("all else is as Git says, 3 things are held back by people (event 20)\n")
        held = page.split("HELD BACK BY PEOPLE\n")[1].split("\n\n")[0]
        assert "app prod/site is suspended by operator:ops since 2026-01-01" in held
        assert "(1 app as before)" in held
        assert "source main is suspended by operator:ops" in held
        assert "(0 commits behind)" in held
        assert "1 stateful instance cannot leave its volume" in held
        assert "i-0001 of prod/app/site/web stays with notes-data" in held
        assert "to end it: `trueup node activate node-a` when it may work again" in held
        assert "node-a  draining" in page
        await story.status("i-0001", "node-a", "unready", "healthcheck_failed")
        check(answer_schema("/v1/status"), await world.get("/v1/status"))
        check(answer_schema("/v1/why"), await world.get("/v1/why?resource=prod/site"))
        for name, code in (("node-a", "node_draining"), ("prod/site", "suspended"), ("i-0001", "suspended")):
            await run(world, "why", name)
            out = capsys.readouterr().out
            assert ": held\n" in out.splitlines(keepends=True)[0], out
            assert f"WHY 1: {code}" in out, out
        await run(world, "events", "--actor", "operator:ops")
        assert capsys.readouterr().out.count("an incident") == 3
        await run(world, "state", "act")
        assert "suspend  app/default/default/prod/site" in capsys.readouterr().out
        await run(world, "diff", "17", "20", "--of", "act")
        assert "source/main" in capsys.readouterr().out


async def test_that_a_disabled_node_is_silent_is_no_problem() -> None:
    async with serving() as world:
        story = Story(world.log)
        await story.site()
        await story.node("node-c")
        await post(world, "/v1/nodes/node-c/disable", WHY)
        await story.node_state("node-c", "offline", "not heard for 60 s")
        assert (await world.get("/v1/status"))["problems"] == 0
        await post(world, "/v1/nodes/node-c/activate", WHY, key="key-00000002")
        assert (await world.get("/v1/status"))["problems"] == 1
