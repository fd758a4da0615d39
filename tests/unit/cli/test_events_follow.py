"""`trueup events --follow` with filters: the controller sends what is asked for, and the rest stays where it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.cli import exits
from reconciler.core.events import Cause
from tests.unit.cli.story import SITE, Story
from tests.unit.cli.test_commands import run
from tests.unit.cli.test_cursor_file import following, told
from tests.unit.server.world import serving, until


async def registered(story: Story, source_id: str, org: str, previous_org: str = "") -> None:
    source = {"source_id": source_id, "org": org, "project": "p", "url": "file:///r.git", "branch": "main", "path": ""}
    cause = Cause("system", "controller", org)
    await story.event("source", source_id, "registered", {**source, "previous_org": previous_org}, cause)


async def test_it_follows_one_app_of_one_environment() -> None:
    place = ("--org", "default", "--project", "default", "--env", "prod", "--app", "site", "--kind", "instance")
    async with serving() as world:
        story = Story(world.log)
        await story.site()
        async with following(world, "--output", "json", *place, "--limit", "1") as process:
            assert await told(process, 1) == [16], "the newest before it"
            await until(lambda: world.streams.open_count == 1)
            await story.node("node-c")
            await story.status("i-0001", "node-a", "ready")
            await registered(story, "other", "globex")
            await story.status("i-0001", "node-a", "failed")
            assert await told(process, 2) == [19, 21]


async def test_both_filters_must_match() -> None:
    async with serving() as world:
        story = Story(world.log)
        async with following(world, "--output", "json", "--kind", "node", "--aggregate-id", "node-b") as process:
            await until(lambda: world.streams.open_count == 1)
            for name in ("node-a", "node-b", "node-c"):
                await story.node(name)
            assert await told(process, 1) == [2]


@pytest.mark.parametrize("output", ["json", "table"])
async def test_what_leaves_the_filter_is_told(output: str) -> None:
    async with serving() as world:
        story = Story(world.log)
        await registered(story, "main", "acme")
        async with following(world, "--output", output, "--org", "acme", "--type", "source.*") as process:
            assert process.stdout is not None
            await process.stdout.readline()
            await until(lambda: world.streams.open_count == 1)
            await registered(story, "main", "globex", previous_org="acme")
            line = (await process.stdout.readline()).decode()
    if output == "table":
        assert line == "source main is not among what is followed any more\n"
    else:
        said: dict[str, Any] = json.loads(line)
        assert said == {"type": "removal", "cursor": "log-1.2", "aggregate_type": "source", "aggregate_id": "main"}


async def test_a_removal_goes_through_the_other_filters() -> None:
    async with serving() as world:
        story = Story(world.log)
        await registered(story, "main", "acme")
        await registered(story, "other", "acme")
        chosen = ("--org", "acme", "--aggregate-type", "source", "--aggregate-id", "other", "--limit", "0")
        async with following(world, "--output", "json", *chosen) as process:
            await until(lambda: world.streams.open_count == 1)
            await registered(story, "main", "globex", previous_org="acme")
            await registered(story, "other", "globex", previous_org="acme")
            assert process.stdout is not None
            assert json.loads(await process.stdout.readline())["aggregate_id"] == "other"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("--org", "default", "--project", "default", "--env", "prod", "--app", "site", "--kind", "instance"), 16),
        (("--org", "default", "--project", "default", "--kind", "app"), SITE),
        (("--kind", "node", "--limit", "1"), "node-b"),
    ],
)
async def test_old_events_are_chosen_by_the_same(
    argv: tuple[str, ...], expected: object, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, "events", "--output", "json", *argv) == 0
        newest = json.loads(capsys.readouterr().out)["events"][-1]
        assert expected in (newest["event_id"], newest["aggregate_id"])


@pytest.mark.parametrize("argv", [("--project", "shop"), ("--org", "acme", "--env", "prod"), ("--kind", "cloud")])
@pytest.mark.parametrize("more", [(), ("--follow",)])
async def test_a_filter_that_can_match_nothing_is_said_so(
    argv: tuple[str, ...], more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving() as world:
        assert await run(world, "events", *argv, *more) == exits.USAGE
    assert "to mend it" in capsys.readouterr().err
