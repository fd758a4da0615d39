"""The whole way with a real controller, Postgres, git and HTTP: a push and a pull request, told at each forge."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from reconciler import bootstrap
from reconciler.core.pull_comment import read_marker
from reconciler.settings import ControllerSettings
from tests.contracts.forges.server import REPOSITORY, TOKEN, ForgeServer
from tests.integration.git.repository import SITE, Repository
from tests.unit.planner.trees import app

DEADLINE_S = 30.0
SECRET = "a webhook secret of thirty bytes"


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def running(settings: ControllerSettings, work: Callable[[str], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    controller = asyncio.create_task(bootstrap.run(settings, stop))
    published = settings.state / "controller.url"
    published.unlink(missing_ok=True)
    try:
        await until(lambda: published.exists() or controller.done())
        assert not controller.done(), controller.result()
        await work(published.read_text().strip())
    finally:
        stop.set()
        await asyncio.wait_for(controller, DEADLINE_S)


async def hook(url: str) -> None:
    body = b"{}"
    signed = {"X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/sources/main/webhook", data=body, headers=signed) as answer:
            assert answer.status == 202


def state_of(forge: ForgeServer, commit: str) -> str:
    found = forge.status_of(commit, "trueup/apply")
    return found.state if found else ""


def said_of(forge: ForgeServer, commit: str) -> str:
    found = forge.status_of(commit, "trueup/apply")
    return found.description if found else ""


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea"])
async def test_a_push_and_a_pull_request_are_told(kind: str, superuser_url: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    first = repository.commit({"env.yaml": SITE["env.yaml"]})
    async with ForgeServer(kind) as forge:
        settings = ControllerSettings(
            repository=str(repository.path),
            state=tmp_path / "state",
            listen="127.0.0.1:0",
            database_url=superuser_url,
            poll_interval_s=3600,
            forge=kind,
            forge_api_url=forge.url,
            forge_repository=REPOSITORY,
            forge_token_file=private(tmp_path / "token", TOKEN),
            forge_poll_interval_s=3600,
            webhook_secret_file=private(tmp_path / "secret", SECRET + "\n"),
        )

        async def work(url: str) -> None:
            await until(lambda: state_of(forge, first) == "success")
            repository.git("checkout", "-q", "-b", "topic")
            head = repository.commit({"apps/site/app.yaml": app()})
            repository.git("checkout", "-q", "main")
            ref = "refs/merge-requests/5/head" if kind == "gitlab" else "refs/pull/5/head"
            repository.git("update-ref", ref, head)
            forge.open_pull(5, head, fork=True)
            await hook(url)
            await until(lambda: forge.status_of(head, "trueup/plan"))
            await until(lambda: len(forge.sent()) >= 3)
            repository.git("merge", "-q", "--no-ff", "-m", "Merge it", "topic")
            merged = repository.head()
            del forge.pulls[5]
            await hook(url)
            await until(lambda: said_of(forge, merged).startswith("applied, not converged yet"))

        await running(settings, work)
        [comment] = forge.notes[5]
        marker = read_marker(comment.body)
        assert marker is not None
        assert "+ create prod/app/site" in comment.body
        sent = len(forge.sent())

        async def nothing_more(url: str) -> None:
            before = len(forge.requests)
            await until(lambda: len(forge.requests) > before + 1)
            await hook(url)

        await running(settings, nothing_more)
        assert len(forge.sent()) == sent, "a restart says nothing again"
