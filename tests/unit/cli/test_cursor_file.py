"""`trueup events --follow --cursor-file`: a script's lines go on where they were, whatever happened to the script."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kit.cursors import CursorFile
from reconciler.cli import exits
from reconciler.cli.main import main
from tests.twin import append
from tests.unit.cli.test_commands import OPS, run
from tests.unit.server.world import World, heard, serving, until

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def following(world: World, *argv: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = ["-m", "reconciler", "events", "--follow", "--controller", world.url, "--token", OPS, *argv]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def told(process: asyncio.subprocess.Process, count: int) -> list[int]:
    assert process.stdout is not None
    lines = [await asyncio.wait_for(process.stdout.readline(), 20) for _ in range(count)]
    return [json.loads(line)["event_id"] for line in lines]


async def test_it_goes_on_where_it_was_when_it_was_killed(tmp_path: Path) -> None:
    async with serving() as world:
        file = tmp_path / "cursor"
        chosen = ("--aggregate-type", "volume", "--cursor-file", str(file))
        for number in range(3):
            await append(world.log, f"c{number}", heard("node-a", number))
        async with following(world, "--after", "1", *chosen) as process:
            assert await told(process, 2) == [2, 3]
            await append(world.log, "c3", heard("node-a", 3))
            assert await told(process, 1) == [4]
            store = CursorFile(file, {"aggregate_type": "volume"})
            await until(lambda: store.read() == "log-1.4")
        for number in range(4, 6):
            await append(world.log, f"c{number}", heard("node-a", number))
        async with following(world, *chosen) as process:
            assert await told(process, 2) == [5, 6], "and no old events"


async def test_what_is_not_printed_is_not_in_the_file(tmp_path: Path) -> None:
    """A reader that does not read: the pipe is full, so the cursor stays."""
    async with serving() as world:
        file = tmp_path / "cursor"
        async with following(world, "--after", "0", "--cursor-file", str(file)) as process:
            await until(lambda: world.streams.open_count == 1)
            events = [heard("node-a", number) for number in range(2_000)]
            await append(world.log, "first", *events[:1000])
            await append(world.log, "second", *events[1000:])
            assert process.stdout is not None
            await process.stdout.readline()
            assert CursorFile(file, {}).read() == "log-1.0"


@pytest.mark.parametrize("content", ["log-1.3", '{"cursor": "log-1.', ""])
async def test_a_damaged_file_is_refused_rather_than_leaving_a_gap(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cursor").write_text(content)
    async with serving() as world:
        assert await run(world, "events", "--follow", "--cursor-file", str(tmp_path / "cursor")) == exits.CONFLICT
    assert "remove it to begin anew" in capsys.readouterr().err


async def test_a_cursor_of_another_log_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cursor"
    await CursorFile(file, {}).save("log-0.5")
    async with serving() as world:
        assert await run(world, "events", "--follow", "--cursor-file", str(file)) == exits.CONFLICT
    assert f"remove {file}: it begins with the newest events" in capsys.readouterr().err
    assert CursorFile(file, {}).read() == "log-0.5"


async def test_a_cursor_of_another_filter_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cursor"
    await CursorFile(file, {"actor": "ada"}).save("log-1.0")
    async with serving() as world:
        assert await run(world, "events", "--follow", "--cursor-file", str(file)) == exits.CONFLICT
    assert "filter" in capsys.readouterr().err


def test_what_contradicts_itself_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cursor").touch()
    file = str(tmp_path / "cursor")
    assert main(["events", "--cursor-file", file]) == exits.USAGE
    assert main(["events", "--follow", "--after", "3", "--cursor-file", file]) == exits.USAGE
    assert "--follow" in capsys.readouterr().err
