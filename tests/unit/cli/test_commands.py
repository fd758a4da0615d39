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
from reconciler.cli.main import COMMANDS, main
from reconciler.cli.output import Page, aligned, clean, plain
from reconciler.cli.output import Table as PlainTable
from reconciler.core.tokens import make_token
from tests.twin import append
from tests.unit.cli.story import BAD, Story
from tests.unit.server.world import KEY, World, heard, serving, token_of, until

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
    assert main(["token", "node", "node-a", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == make_token(KEY, "node", "node-a") + "\n"
    assert main(["token", "node", "Node A", "--state", str(tmp_path)]) == exits.USAGE
    assert main(["token", "node", "node-a", "--state", str(tmp_path / "none")]) == exits.MISSING
    key.chmod(0o644)
    assert main(["token", "node", "node-a", "--state", str(tmp_path)]) == exits.AUTH


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
