"""A controller that exports heads: trouble is told and stops nothing, and ends when the place is there."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from reconciler.cli.main import main
from reconciler.settings import ControllerSettings
from reconciler.store.heads import private_key, read_heads
from tests.acceptance.repository import Repository
from tests.integration.cli.test_controller import ENVIRONMENT, controller_running, until


async def test_L5_a_controller_exports_heads_and_tells_when_it_cannot(
    superuser_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, folder, state = Repository.create(tmp_path), tmp_path / "share" / "heads", tmp_path / "state"
    repository.write("env.yaml", ENVIRONMENT)
    repository.push("Begin")
    key_file = tmp_path / "head.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key_file], check=True)
    settings = ControllerSettings(
        repository=str(repository.origin),
        state=state,
        listen="127.0.0.1:0",
        database_url=superuser_url,
        poll_interval_s=0.3,
        lease_ttl_s=1.0,
        head_export=folder,
        head_export_interval_s=0.2,
        head_key_file=key_file,
    )

    async def status() -> dict[str, Any]:
        capsys.readouterr()
        assert await asyncio.to_thread(main, ["status", "--state", str(state), "--output", "json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    async with controller_running(settings) as url, aiohttp.ClientSession(url) as session:

        async def troubled() -> list[str]:
            async with session.get("/readyz") as answer:
                assert answer.status == 200
                found: list[str] = (await answer.json())["troubled"]
                return found

        async def in_trouble() -> bool:
            return await troubled() == ["heads"]

        async def out_of_trouble() -> bool:
            return await troubled() == []

        await until(in_trouble)
        (loop,) = (await status())["loops"]
        assert loop["loop"] == "heads"
        assert "not there" in loop["problems"][0]["message"]
        capsys.readouterr()
        assert await asyncio.to_thread(main, ["status", "--state", str(state)]) == 0
        assert "heads: find the heads at" in " ".join(capsys.readouterr().out.split())

        folder.mkdir(parents=True)
        begin = ["log", "export-head", "--output", str(folder), "--key", str(key_file), "--database-url", superuser_url]
        assert await asyncio.to_thread(main, begin) == 0
        await until(out_of_trouble)
        repository.write("more.yaml", ENVIRONMENT.replace("prod", "test"))
        repository.push("More")

        async def exported_all() -> bool:
            heads = read_heads(folder, private_key(key_file).public_key())
            last: int = (await status())["last_event_id"]
            return last > 3 and heads[-1].head.event_id == last

        await until(exported_all)
        assert (await status())["loops"] == []
        assert [each["lease"] for each in (await status())["leases"] if each["held"]].count("heads") == 1
    verify = ["log", "verify", "--heads", str(folder), "--key", str(key_file), "--database-url", superuser_url]
    assert await asyncio.to_thread(main, verify) == 0
