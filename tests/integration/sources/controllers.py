"""A real controller over [[sources]]: started from a TOML file, asked by the command line, stopped, started anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kit.settings import load
from reconciler import bootstrap
from reconciler.cli.main import main
from reconciler.settings import ControllerSettings
from tests.integration.git.repository import Repository

DEADLINE_S = 60.0
"""For what has to happen at all: a machine that is busy takes its time."""


@dataclass
class Site:
    """One database and one host. `capsys`: what the command line prints."""

    folder: Path
    database_url: str
    capsys: pytest.CaptureFixture[str]
    repositories: dict[str, Repository] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def repository(self, name: str) -> Repository:
        if name not in self.repositories:
            self.repositories[name] = Repository(self.folder / "repositories" / name)
        return self.repositories[name]

    def table(self, name: str, *, project: str, url: str = "", **more: Any) -> str:
        """[[sources]] of one repository. `more`: in TOML's words."""
        keys = {"name": name, "url": url or str(self.repository(name).path), "org": "acme", "project": project}
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**keys, "poll_interval_s": 0.3, **more}.items()]
        return "\n".join(["[[sources]]", *lines, ""])

    @asynccontextmanager
    async def controller(self, *tables: str, name: str = "one", state: str = "state") -> AsyncIterator[None]:
        file = self.folder / f"{name}.toml"
        file.write_text("\n".join(tables))
        settings = load(
            ControllerSettings,
            argv=[
                f"--config={file}", f"--state={self.folder / state}", "--listen=127.0.0.1:0", "--lease-ttl-s=2",
                f"--database-url={self.database_url}", f"--controller-name={name}",
            ],
            environ={},
            prog="trueup controller",
        )  # fmt: skip
        stop = asyncio.Event()
        published = self.folder / state / "controller.url"
        published.unlink(missing_ok=True)
        running = asyncio.create_task(bootstrap.run(settings, stop))
        try:
            await until(lambda: published.exists() or running.done())
            assert not running.done(), running.result()
            yield
        finally:
            stop.set()
            await asyncio.wait_for(running, DEADLINE_S)

    async def run(self, *argv: str, code: int = 0) -> str:
        self.capsys.readouterr()
        found = await asyncio.to_thread(main, [*argv, "--state", str(self.state)])
        out = self.capsys.readouterr()
        assert found == code, out
        return out.out + out.err

    async def sources(self) -> dict[str, Any]:
        return {each["source_id"]: each for each in json.loads(await self.run("source", "list", "--output", "json"))}

    async def until_source(self, name: str, holds: Callable[[Any], bool]) -> Any:
        """The source's document once it is there and `holds`, as it is when all views have come so far too: they move
        one after the other, and a document is made of several."""
        async with asyncio.timeout(DEADLINE_S):
            while not ((found := (await self.sources()).get(name)) and holds(found)):
                await asyncio.sleep(0.1)
            while any(
                each["lag_events"] for each in json.loads(await self.run("status", "--output", "json"))["projections"]
            ):
                await asyncio.sleep(0.05)
            return (await self.sources())[name]

    async def until_applied(self, name: str, commit: str) -> Any:
        return await self.until_source(name, lambda each: each["applied_commit"] == commit)

    async def until_refused(self, name: str, commit: str) -> str:
        """What is told about it."""
        found = await self.until_source(name, lambda each: each["refused_commit"] == commit)
        return "\n".join(problem["message"] for problem in found["problems"])

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(self.database_url, server_settings={"search_path": "trueup"})
        try:
            return [*await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def resources(self) -> dict[str, str]:
        """Resource id -> the source it belongs to, by the view; the claims have to say the same."""
        rows = await self.rows("SELECT key, doc->'origin'->>'source_id' AS owner FROM view_resources")
        return {row["key"]: row["owner"] for row in rows}

    async def until_told(self, name: str, part: str) -> Any:
        """Once a problem of the source says so."""
        return await self.until_source(name, lambda each: any(part in told["message"] for told in each["problems"]))

    async def until_resources(self, wanted: set[str]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while set(await self.resources()) != wanted:
                await asyncio.sleep(0.1)

    async def claims(self) -> dict[str, str]:
        rows = await self.rows("SELECT key, owner FROM claims WHERE kind = 'resource'")
        return {row["key"]: row["owner"] for row in rows}

    async def events(self, *types: str) -> list[Any]:
        names: Sequence[str] = types
        return await self.rows("SELECT * FROM events WHERE event_type = ANY($1::text[]) ORDER BY event_id", names)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)
