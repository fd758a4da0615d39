"""The commands against a real server: what they print, where, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.errors import Bug, Refusal, Transient
from reconciler.cli import exits
from reconciler.cli.events import COLUMNS
from reconciler.cli.main import COMMANDS, main
from reconciler.cli.output import Page, aligned, clean, plain
from reconciler.cli.output import Table as PlainTable
from reconciler.core.tokens import make_token
from tests.twin import MemoryLog, append
from tests.unit.cli.story import BAD, GOOD, SITE, Story
from tests.unit.projections.samples import SECRET, SPECS, new_event
from tests.unit.server.world import KEY, World, enrol_node, heard, serving, token_of, until

OPS = token_of("operator", "ops")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No state folder and no variables of the one who runs the tests."""
    for name in ("TRUEUP_CONTROLLER", "TRUEUP_TOKEN", "TRUEUP_STATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


async def run(world: World, *argv: str, token: str = OPS) -> int:
    """In a thread, since a command owns its event loop."""
    return await asyncio.to_thread(main, [*argv, "--controller", world.url, "--token", token])


async def test_status_and_why_print_pages_and_documents(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, "status") == 0
        assert capsys.readouterr().out.startswith("all is as Git says (event 17)\n")
        assert await run(world, "status", "--output", "json") == 0
        assert json.loads(capsys.readouterr().out)["apps"][0]["app"] == "prod/app/site"
        assert await run(world, "why", "app/site") == 0
        assert capsys.readouterr().out.startswith("prod/app/site: converged\nweb: 2 of 2 ready\n")
        assert await run(world, "why", "app/site", "--output", "json") == 0
        assert json.loads(capsys.readouterr().out)["verdict"] == "converged"


@pytest.mark.parametrize(
    ("argv", "token", "code", "says"),
    [
        (["why", "nope"], OPS, exits.MISSING, "nothing is or was called 'nope'"),
        (["status"], "operator:ops:bad", exits.AUTH, "a valid bearer token is needed"),
        (["status"], token_of("node", "node-a"), exits.AUTH, "node:node-a may not GET /v1/status"),
        (["status", "--min-event-id", "999"], OPS, exits.TRANSIENT, "it is at event"),
        (["events", "--commit", "xyz"], OPS, exits.USAGE, "hex digits"),
        (["events", "--limit", "-1"], OPS, exits.USAGE, "--limit"),
        (["events", "--since", "yesterday"], OPS, exits.USAGE, "is not a time"),
        (["events", "--answers", "x"], OPS, exits.USAGE, "--answers"),
        (["events", "--type", "*"], OPS, exits.USAGE, "is not like instance.allocated"),
        (["events", "--follow", "--before", "3"], OPS, exits.USAGE, "--before"),
        (["state", "--at", "soon"], OPS, exits.USAGE, "names no moment"),
        (["state", "--at", "99"], OPS, exits.USAGE, "the log ends at 17"),
        (["state", "nope"], OPS, exits.MISSING, "at event 17: nothing is or was called 'nope'"),
        (["diff", "dddd"], OPS, exits.MISSING, "no commit dddd was ever applied"),
    ],
)
async def test_what_goes_wrong_is_one_message_and_an_exit_code(
    argv: list[str], token: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, *argv, token=token) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("error: ")
        assert says in told.err
        assert await run(world, *argv, "--output", "json", token=token) == code
        document = json.loads(capsys.readouterr().out)
        assert (document["exit_code"], says in document["detail"]) == (code, True)


async def test_an_ambiguous_name_lists_what_it_may_mean(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, "why", "i-00") == exits.USAGE
        assert "instance i-0001, instance i-0002" in capsys.readouterr().err


async def test_events_shows_the_newest_or_from_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, "events", "--limit", "2") == 0
        told = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in told] == ["EVENT", "#16", "#17"]
        assert await run(world, "events", "--after", "3", "--limit", "2", "--output", "json") == 0
        document = json.loads(capsys.readouterr().out)
        assert [event["event_id"] for event in document["events"]] == [4, 5]
        assert await run(world, "events", "--aggregate-id", "i-0001", "--event-type", "instance.status_changed") == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["#12", "#13"]
        assert await run(world, "events", "--commit", "ffff") == 0
        assert "no events match" in capsys.readouterr().out


async def test_events_shows_everything_about_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, "events", "--type", "deployment.*") == 0
        [head, created, _] = capsys.readouterr().out.splitlines()
        assert head.split() == [name.upper() for column in COLUMNS for name in column.split()]
        cells = [cell for cell in created.split("  ") if cell]
        assert [cell.strip() for cell in cells] == [
            "#10", "2026-01-01T00:00:10.000Z", "deployment.created", "Ada <ada@example.org>", "main", GOOD,
            "apps/site.yaml:3", "s-10", "-", f"main@{GOOD}", "deploy d-one of release r-one begun (reason: commit)",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--actor", "node:node-b"], [3, 15, 16]),
        (["--org", "default", "--type", "source.*"], [1]),
        (["--source", "main", "--type", "revision.applied,deployment.status_changed"], [4, 17]),
        (["--path", "apps", "--aggregate-type", "volume"], [6]),
        (["--request", "s-8"], [8]),
        (["--follows-from", f"main@{GOOD}", "--type", "instance.*"], [11, 14]),
        (["--answers", "3"], []),
        (["--after", "5", "--before", "9"], [6, 7, 8]),
        (["--since", "2026-01-01T00:00:15Z"], [15, 16, 17]),
        (["--until", "2026-01-01T00:00:02Z"], [1, 2]),
        (["--since", "1s"], []),
        (["--limit", "3"], [15, 16, 17]),
        (["--limit", "0"], []),
    ],
)
async def test_every_filter_of_events(argv: list[str], expected: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, "events", "--output", "json", *argv) == 0
        found = json.loads(capsys.readouterr().out)["events"]
        assert [event["event_id"] for event in found] == expected


async def test_events_pages_through_everything_from_either_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.cli.events.PAGE_EVENTS", 4)
    async with serving() as world:
        await Story(world.log).site()
        for argv in ([], ["--after", "0"]):
            for limit in (1, 4, 7, 17, 50):
                assert await run(world, "events", "--output", "json", "--limit", str(limit), *argv) == 0
                found = [event["event_id"] for event in json.loads(capsys.readouterr().out)["events"]]
                whole = list(range(1, 18))
                assert found == (whole[:limit] if argv else whole[-limit:])


async def test_state_and_diff_print_pages(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        await Story(world.log).site()
        assert await run(world, "state", "instance", "--at", "13") == 0
        told = capsys.readouterr().out
        assert told.startswith("as of event 13, 2026-01-01T00:00:13.000Z\n")
        assert told.splitlines()[-1].split() == ["i-0001", "node-a", "running", "ready", "r-one", "web", SITE]
        assert await run(world, "state", "app/site", "--at", GOOD[:8]) == exits.MISSING
        capsys.readouterr()
        assert await run(world, "diff", "12", "13") == 0
        told = capsys.readouterr().out
        assert told.startswith("1 updated\nfrom event 12,")
        assert "~ instance i-0001 updated\n  status: booting -> ready\n" in told
        assert await run(world, "diff", "17") == 0
        assert capsys.readouterr().out.startswith("nothing changed\n")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [(["--actor", "node:"], {2, 3, 4}), (["--type", "node.*"], {2, 3}), (["--aggregate-id", "node-c"], {3})],
)
async def test_what_follows_goes_through_the_same_filters(filters: list[str], expected: set[int]) -> None:
    from argparse import ArgumentParser

    from reconciler.cli import events
    from reconciler.core.event_filter import matches

    log = MemoryLog()
    await append(log, "c0", heard("node-a", 0))
    story = Story(log)
    await story.node("node-b")
    await story.node("node-c")
    await story.status("i-1", "node-a", "ready")
    subparsers = ArgumentParser().add_subparsers()
    events.register(subparsers)
    only = events.wanted(subparsers.choices["events"].parse_args(filters))
    assert {event.event_id for event in log.events if matches(event, only)} == expected


async def test_follow_goes_on_through_a_restart_without_a_gap(tmp_path: Path) -> None:
    async with serving() as world:
        await append(world.log, "c0", heard("node-a", 0))
        following = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "reconciler", "events", "--follow", "--output", "json", "--controller", world.url,
            "--token", OPS, "--aggregate-type", "volume", cwd=Path(__file__).parents[3], stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert following.stdout is not None
        try:
            seen = [json.loads(await asyncio.wait_for(following.stdout.readline(), 20))["event_id"]]
            await until(lambda: world.streams.open_count == 1)
            await append(world.log, "c1", heard("node-a", 1))
            seen.append(json.loads(await asyncio.wait_for(following.stdout.readline(), 20))["event_id"])
            for connection in world.server_connections():
                connection.transport.abort()
            await append(world.log, "c2", heard("node-a", 2))
            await Story(world.log).node("node-b")
            await append(world.log, "c3", heard("node-a", 3))
            for _ in range(2):
                seen.append(json.loads(await asyncio.wait_for(following.stdout.readline(), 20))["event_id"])
            assert seen == [1, 2, 3, 5]
        finally:
            following.terminate()
            await following.wait()


def test_without_a_controller_it_says_how_to_find_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == exits.USAGE
    assert ".state/controller.url cannot be read" in capsys.readouterr().err
    assert main(["status", "--controller", "http://127.0.0.1:9", "--token", OPS]) == exits.TRANSIENT
    assert "cannot be reached" in capsys.readouterr().err
    assert main(["status", "--controller", "file:///etc/passwd", "--token", OPS]) == exits.USAGE


async def test_the_state_folder_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        (tmp_path / "controller.url").write_text(world.url + "\n")
        (tmp_path / "operator.token").write_text(OPS + "\n")
        assert await asyncio.to_thread(main, ["status", "--state", str(tmp_path)]) == 0


def test_a_token_is_made_with_the_key_of_the_state_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "token.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    assert main(["token", "operator", "ann", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == make_token(KEY, "operator", "ann") + "\n"
    assert main(["token", "operator", "An N", "--state", str(tmp_path)]) == exits.USAGE
    assert main(["token", "operator", "ann", "--state", str(tmp_path / "none")]) == exits.MISSING
    key.chmod(0o644)
    assert main(["token", "operator", "ann", "--state", str(tmp_path)]) == exits.AUTH


def test_a_machine_gets_such_a_token_only_while_the_controller_takes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["token", "node", "node-a", "--state", str(tmp_path)]
    assert main(asked) == exits.USAGE
    assert "`trueup node token node-a`" in capsys.readouterr().err
    (tmp_path / "machine-tokens").touch()
    assert main(asked) == 0
    assert capsys.readouterr().out.startswith("node:node-a:")


async def test_machines_with_tokens_of_earlier_versions_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(machine_tokens=True) as world:
        assert (await world.get("/v1/status"))["warnings"][0]["code"] == "machine_tokens_on"
        for name in ("node-a", "node-a", "node-b"):
            await world.call("POST", f"/v1/nodes/{name}/heartbeat", token_of("node", name), json={})
        assert await run(world, "status") == 0
        page = " ".join(capsys.readouterr().out.split())
        assert "2 machines used one here within the last hour: node:node-a, node:node-b" in page
        assert "WARNINGS" in page and "`trueup node token NAME`" in page
    async with serving(machine_tokens=False) as world:
        assert (await world.get("/v1/status"))["warnings"] == []
        status, document, _ = await world.call("GET", "/v1/nodes/node-a/plan", token_of("node", "node-a"))
        assert (status, "it has to join" in document["detail"]) == (401, True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refusal("a", "b", code="unauthorized"), exits.AUTH),
        (Refusal("a", "b", code="not_found"), exits.MISSING),
        (Refusal("a", "b", code="version_conflict"), exits.CONFLICT),
        (Refusal("a", "b", code="usage"), exits.USAGE),
        (Refusal("a", "b", code="anything"), exits.GENERIC),
        (Transient("a", "b", code="anything"), exits.TRANSIENT),
        (Transient("a", "b", code="internal"), exits.INTERNAL),
        (Bug("a", "b", code="anything"), exits.INTERNAL),
    ],
)
def test_exit_codes(error: Refusal | Transient | Bug, code: int) -> None:
    assert exits.exit_code(error) == code


def test_help_is_quick_complete_and_documents_the_exit_codes() -> None:
    command = [sys.executable, "-m", "reconciler", "--help"]
    folder = Path(__file__).parents[3]
    elapsed_s = []
    for _ in range(3):
        started = time.monotonic()
        told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout
        elapsed_s.append(time.monotonic() - started)
    assert min(elapsed_s) < 0.3
    assert all(name in told for name in COMMANDS)
    assert all(f"  {code}  {meaning}" in told for code, meaning in exits.MEANING.items())
    heavy = "import sys, reconciler.cli.main as m; m.build_parser(''); print({'aiohttp', 'rich'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True, cwd=folder) == "set()\n"


def test_no_command_and_a_wrong_one_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == exits.USAGE
    with pytest.raises(SystemExit) as left:
        main(["frobnicate"])
    assert left.value.code == exits.USAGE


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "controller"])
def test_every_command_has_help_and_an_output_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert "--output" in capsys.readouterr().out


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    page = Page()
    page.add("H", ["a\x1b[31mred\nline\u202e"], ("c",), [("\x07",)])
    assert plain(page) == "H\n  a\\x1b[31mred\\x0aline\\x202e\n  C\n  \\x07\n"
    assert clean(None) == ""


def test_nothing_is_cut_short() -> None:
    wide = "x" * 500
    assert aligned(PlainTable(("id", "b"), ((wide, "1"), ("y", "2")))) == [
        "ID" + " " * 500 + "B", wide + "  1", "y" + " " * 501 + "2",
    ]  # fmt: skip


async def test_a_terminal_gets_colours_and_whole_identities(capsys: pytest.CaptureFixture[str]) -> None:
    import io

    from kit.codec import to_json
    from reconciler.cli import output, why
    from tests.unit.cli.asking import World as Asking

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    world = Asking()
    await world.story.site()
    await world.story.refused(BAD, "\x1b]0;owned\x07")
    screen = Terminal()
    output.print_page(why.page(to_json(await world.explain("app/site"))), stream=screen)
    shown = screen.getvalue()
    assert "\x1b]0;" not in shown
    assert "i-0001" in shown
    assert "a" * 40 in shown.replace("\n", "")


async def test_a_reader_that_leaves_is_no_error() -> None:
    async with serving() as world:
        await Story(world.log).site()
        command = f"{sys.executable} -m reconciler events --controller {world.url} --token {OPS} | head -1"
        shell = await asyncio.create_subprocess_shell(
            command, cwd=Path(__file__).parents[3], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(shell.communicate(), 20)
        assert (out.split()[0], err) == (b"EVENT", b"")


async def test_what_a_node_was_given_is_listed_with_what_it_is_still_worth(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving() as world:
        await Story(world.log).site()
        await enrol_node(world.log, "node-a")
        other = SECRET.replace("keys", "gone")
        await append(world.log, "declare", new_event("secret.created", spec={**SPECS["secret"], "version_id": "v-2"}))
        for number, (resource_id, version, node) in enumerate(
            [(SECRET, "v-1", "node-a"), (SECRET, "v-2", "node-a"), (SECRET, "v-1", "node-b"), (other, "v-9", "node-a")]
        ):
            changes = {"resource_id": resource_id, "version_id": version, "identity_id": f"node/{node}"}
            await append(world.log, f"give-{number}", new_event("delivery.made", **changes))
        assert await run(world, "secret", "exposed", "--node", "node-a", "--output", "json") == 0
        found = json.loads(capsys.readouterr().out)["exposed"]
        worth = {(each["resource_id"], each["version_id"]): each["worth"] for each in found}
        assert worth == {(SECRET, "v-1"): "earlier", (SECRET, "v-2"): "current", (other, "v-9"): "gone"}
        assert await run(world, "secret", "exposed", "--secret", "prod/site/keys") == 0
        page = capsys.readouterr().out
        assert page.count(SECRET) == 3
        assert "3 versions of secrets were given, 1 of them are current" in page
        assert await run(world, "why", "node/node-a") == 0
        told = "was given: 3 versions of secrets, 1 of them current: prod/site/secret/keys; trueup secret exposed"
        assert told in " ".join(capsys.readouterr().out.split())
        assert await run(world, "why", SECRET) == 0
        assert "was given to: node-a (current version)" in " ".join(capsys.readouterr().out.split())
