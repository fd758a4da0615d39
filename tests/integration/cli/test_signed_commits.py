"""A real controller that was given a signers file: what it takes, what it refuses, and what it says of both."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kit.errors import Refusal
from reconciler import bootstrap
from reconciler.cli.main import main
from reconciler.settings import ControllerSettings
from tests.integration.git.people import alice, folder
from tests.integration.git.signing import NOBODY, Person, SignedRepository, signers_file
from tests.unit.planner.trees import ENVIRONMENT

__all__ = ["alice", "folder"]
DEADLINE_S = 30.0


def settings_for(repository: Path, state: Path, url: str, signers: Path) -> ControllerSettings:
    return ControllerSettings(
        repository=str(repository),
        state=state,
        listen="127.0.0.1:0",
        database_url=url,
        poll_interval_s=0.3,
        signers=signers,
    )


async def test_a_controller_applies_what_is_signed(
    superuser_url: str, tmp_path: Path, folder: Path, alice: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = SignedRepository(tmp_path / "repository")
    unsigned = repository.signed(NOBODY, {"env.yaml": ENVIRONMENT})
    state = tmp_path / "state"
    stop = asyncio.Event()
    settings = settings_for(repository.path, state, superuser_url, signers_file(folder, alice))
    running = asyncio.create_task(bootstrap.run(settings, stop))

    async def source() -> dict[str, str]:
        if running.done():
            running.result()
        if not (state / "controller.url").exists():
            return {}
        capsys.readouterr()
        await asyncio.to_thread(main, ["status", "--state", str(state), "--output", "json"])
        sources = json.loads(capsys.readouterr().out or "{}").get("sources") or [{}]
        return dict(sources[0])

    async def until(field: str, commit: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while (await source()).get(field) != commit:
                await asyncio.sleep(0.1)

    try:
        await until("refused_commit", unsigned)
        capsys.readouterr()
        assert await asyncio.to_thread(main, ["why", unsigned, "--state", str(state)]) == 0
        assert "it is not signed" in " ".join(capsys.readouterr().out.split())
        await until("applied_commit", repository.signed(alice))
    finally:
        stop.set()
        await asyncio.wait_for(running, DEADLINE_S)


async def test_a_wrong_signers_file_stops_the_start(superuser_url: str, tmp_path: Path) -> None:
    wrong = tmp_path / "signers.toml"
    wrong.write_text("require = 'sometimes'\n")
    settings = settings_for(tmp_path / "repository", tmp_path / "state", superuser_url, wrong)
    with pytest.raises(Refusal, match=r"signers\.toml"):
        await asyncio.wait_for(bootstrap.run(settings, asyncio.Event()), DEADLINE_S)
