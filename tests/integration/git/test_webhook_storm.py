"""A thousand hooks at once are one fetch, one more for what came meanwhile; a hook that is lost costs one interval."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.tasks.git_sync import GitSync
from tests.integration.git.platform import Platform, sync_for
from tests.integration.git.repository import SITE, Repository
from tests.unit.planner.trees import route
from tests.unit.server.world import WEBHOOK_SECRET, World, serving, until

HOOKS = 1000
BODY = b'{"ref": "refs/heads/main"}'
SIGNED = {"X-Hub-Signature-256": "sha256=" + hmac.new(WEBHOOK_SECRET, BODY, hashlib.sha256).hexdigest()}


class Fetches:
    """Counts them, and holds them back while `gate` is not set."""

    def __init__(self, sync: GitSync) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._fetch = sync.branch.clone.fetch
        sync.branch.clone.fetch = self  # type: ignore[method-assign]

    async def __call__(self, **more: Any) -> str:
        self.count += 1
        await self.gate.wait()
        return await self._fetch(**more)


@asynccontextmanager
async def following(sync: GitSync) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(sync.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit(SITE)
    return made


async def hook(world: World) -> int:
    status, _, _ = await world.call("POST", "/v1/sources/main/webhook", data=BODY, headers=SIGNED)
    return status


async def test_a_storm_of_hooks_is_one_fetch_and_one_more(repository: Repository, tmp_path: Path) -> None:
    platform = Platform()
    sync = sync_for(platform, tmp_path / "state", str(repository.path), interval_s=3600)
    fetches = Fetches(sync)
    async with serving(look=sync.look) as world, following(sync):
        await until(lambda: platform.applied)
        head = repository.commit({"apps/site/route.yaml": route("r", "other")})
        assert fetches.count == 1
        fetches.gate.clear()
        assert await hook(world) == 202
        await until(lambda: fetches.count == 2)
        answers = await asyncio.gather(*(hook(world) for _ in range(HOOKS)))
        assert set(answers) == {202}
        fetches.gate.set()
        await until(lambda: sync.branch.fetched == head)
        await until(lambda: fetches.count == 3)
        again = [await hook(world) for _ in range(3)]
        assert again == [202] * 3
        await until(lambda: fetches.count >= 4)
        assert fetches.count <= 5
        await until(lambda: not sync._wake.is_set())
        assert [revision.commit for revision, _ in platform.applied][1:] == [head]


async def test_a_lost_hook_is_covered_by_polling(repository: Repository, tmp_path: Path) -> None:
    platform = Platform()
    sync = sync_for(platform, tmp_path / "state", str(repository.path), interval_s=0.2)
    async with following(sync):
        await until(lambda: platform.applied)
        head = repository.commit({"apps/site/route.yaml": route("r", "other")})
        await until(lambda: platform.applied[-1][0].commit == head)
