"""The programs of docs/CLIENTS.md do what the page says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.contracts.test_change_stream import Controller, controller
from tests.integration.kit.consumers import OPS
from tests.integration.kit.faulty_proxy import Fault, faulty_proxy
from tests.unit.server.world import until

__all__ = ["controller"]
ROOT = Path(__file__).parents[2]


def program(language: str, folder: Path) -> str:
    """The page's only block of that language, in a file."""
    [text] = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "CLIENTS.md").read_text(), re.DOTALL)
    path = folder / f"program.{language}"
    path.write_text(text)
    return str(path)


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=pipe, stderr=pipe, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
        await process.wait()


def names(folder: Path) -> set[str]:
    return {unquote(path.stem) for path in folder.glob("*.json")}


async def test_the_program_with_kit_mirrors_the_fleet_through_kills_and_a_restored_log(
    controller: Controller, tmp_path: Path
) -> None:
    folder = tmp_path / "mirror"
    command = (sys.executable, program("python", tmp_path), controller.url, OPS, str(folder))
    async with running(*command):
        await until(lambda: names(folder) == {"node-a", "node-b"})
        await controller.enrol("node-c")
        await until(lambda: "node-c" in names(folder))
    await controller.enrol("node-d")
    async with running(*command):
        await until(lambda: "node-d" in names(folder))
        assert json.loads((folder / "node-d.json").read_text())["event_type"] == "node.enrolled"
        controller.restore("log-2")
        await controller.enrol("node-z")
        await until(lambda: names(folder) == {"node-z"})


async def told(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    return json.loads(await asyncio.wait_for(process.stdout.readline(), 20))


async def test_the_program_with_curl_goes_on_where_it_was(controller: Controller, tmp_path: Path) -> None:
    kept = tmp_path / "cursor"
    async with faulty_proxy(controller.url) as proxy:
        proxy.otherwise = Fault("buffer")
        command = ("sh", program("sh", tmp_path), proxy.url, OPS, str(kept))
        async with running(*command) as process:
            assert [(await told(process))["key"] for _ in range(2)] == ["node-a", "node-b"]
            await until(lambda: kept.exists() and kept.read_text() == "log-1.2")
            await controller.enrol("node-c")
            assert (await told(process))["event"]["aggregate_id"] == "node-c"
            await until(lambda: kept.read_text() == "log-1.3")
        await controller.enrol("node-d")
        async with running(*command) as process:
            assert (await told(process))["event"]["aggregate_id"] == "node-d"
        controller.restore("log-2")
        await controller.enrol("node-z")
        async with running(*command) as process:
            assert (await told(process))["key"] == "node-z"


async def test_the_program_with_curl_stops_when_it_is_refused(controller: Controller, tmp_path: Path) -> None:
    (tmp_path / "cursor").write_text("nonsense")
    async with running("sh", program("sh", tmp_path), controller.url, OPS, str(tmp_path / "cursor")) as process:
        assert await asyncio.wait_for(process.wait(), 20) == 1
        assert process.stderr is not None
        assert "LOGID" in (await process.stderr.read()).decode()
