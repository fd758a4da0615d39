"""Two controllers, real processes, on one Postgres: who joins or is revoked at one, has or is so at the other."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from kit.control_plane import ControlPlane
from kit.errors import Refusal, TrueupError
from kit.joining import join_fleet
from kit.machine_identity import MachineIdentity, new_key
from tests.acceptance.test_two_controllers import Controller, Site, site, until
from tests.joining import join_token, joined_machine, told

__all__ = ["site"]

REVOKED_WITHIN_S = 2.0


async def both(site: Site) -> tuple[Controller, Controller]:
    return await site.start("a"), await site.start("b")


def machines_url(controller: Controller) -> str:
    return told(controller.state, "machines.url")


async def events(controller: Controller, kind: str, machine: str) -> list[Any]:
    answer = await controller.get(f"/v1/events?event_type=identity.{kind}&aggregate_id={machine}")
    return [each["payload"] for each in answer["events"]]


async def alarmed(controller: Controller) -> list[str]:
    return [each["identity_id"] for each in (await controller.get("/v1/status"))["alarms"]]


async def test_a_revocation_told_to_one_cuts_the_stream_at_the_other(site: Site) -> None:
    a, b = await both(site)
    machine, other = [await joined_machine(a.state, "node", name) for name in ("node-a", "node-b")]
    ended: list[float] = []

    async def listen(control_plane: ControlPlane, greeted: asyncio.Event) -> None:
        try:
            async with control_plane.lines("/v1/stream", idle_timeout_s=60) as lines:
                async for _ in lines:
                    greeted.set()
        except TrueupError:
            pass
        ended.append(time.monotonic())

    async with (
        ControlPlane(machines_url(b), identity=machine) as mine,
        ControlPlane(machines_url(b), identity=other) as theirs,
        a.control_plane() as operator,
    ):
        greeted = [asyncio.Event(), asyncio.Event()]
        tasks = [asyncio.create_task(listen(each, sign)) for each, sign in zip((mine, theirs), greeted, strict=True)]
        async with asyncio.timeout(REVOKED_WITHIN_S * 5):
            await asyncio.gather(*(sign.wait() for sign in greeted))
        await operator.post_json("/v1/nodes/node-a/revoke", {"reason": "the host was stolen"})
        revoked_s = time.monotonic()
        async with asyncio.timeout(REVOKED_WITHIN_S):
            await tasks[0]
        assert ended[0] - revoked_s < REVOKED_WITHIN_S
        asked = {"csr": machine.request(new_key(), machine.domain())}
        for url in (machines_url(a), machines_url(b)):
            async with ControlPlane(url, identity=machine) as renewing:
                with pytest.raises(Refusal, match="the host was stolen"):
                    await renewing.post_json("/v1/nodes/node-a/renew", asked)
        assert time.monotonic() - revoked_s < REVOKED_WITHIN_S
        assert not tasks[1].done(), "the other machine's stream goes on"
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_token_that_is_used_at_both_lets_one_machine_in(site: Site, tmp_path: Path) -> None:
    a, b = await both(site)
    for number in range(3):  # whoever comes first
        name = f"node-{number}"
        token = await join_token(a.state, "node", name)
        there = [MachineIdentity(tmp_path / f"{name}-{each.name}", "node", name) for each in (a, b)]
        results = await asyncio.gather(
            *(join_fleet(each, machines_url(at), token) for each, at in zip(there, (a, b), strict=True)),
            return_exceptions=True,
        )
        assert sorted(each.exists for each in there) == [False, True]
        (refused,) = [each for each in results if each is not None]
        assert isinstance(refused, Refusal) and refused.code == "join_refused"
        assert len(await events(a, "joined", f"node/{name}")) == 1
        assert len(await events(b, "token_misused", f"node/{name}")) == 1


async def test_the_same_machine_at_both_at_once_is_one_machine(site: Site, tmp_path: Path) -> None:
    """It asks the other controller when the first does not answer in time: the same key, so no alarm."""
    a, b = await both(site)
    token, machine = await join_token(b.state, "edge", "edge-a"), MachineIdentity(tmp_path / "m", "edge", "edge-a")
    asked = {"token": token, "csr": machine.request(machine.joining_key(), "trueup.internal")}
    async with ControlPlane(a.url) as at_a, ControlPlane(b.url) as at_b:
        answers = await asyncio.gather(at_a.post_json("/v1/join", asked), at_b.post_json("/v1/join", asked))
    machine.keep(machine.joining_key(), answers[1]["certificate"], answers[1]["bundle"])
    assert [each["generation"] for each in await events(a, "joined", "edge/edge-a")] == [1]
    assert await events(a, "token_misused", "edge/edge-a") == []
    async with ControlPlane(machines_url(a), identity=machine) as mine:
        assert (await mine.get_json("/v1/edges/edge-a/plan"))["routes"] == []


async def test_a_token_used_at_one_and_again_at_the_other_alarms_both(site: Site, tmp_path: Path) -> None:
    a, b = await both(site)
    token = await join_token(a.state, "node", "node-a")
    await join_fleet(MachineIdentity(tmp_path / "right", "node", "node-a"), machines_url(a), token)
    thief = MachineIdentity(tmp_path / "thief", "node", "node-a")
    with pytest.raises(Refusal, match="works once"):
        await join_fleet(thief, machines_url(b), token)
    assert not thief.exists
    assert [each["reason_code"] for each in await events(a, "token_misused", "node/node-a")] == ["token_used"]
    await until(lambda: _has(alarmed(a), "node/node-a"), a)
    await until(lambda: _has(alarmed(b), "node/node-a"), b)
    for each in (a, b):
        assert (await each.get("/v1/status"))["problems"] >= 1


async def _has(found: Any, wanted: str) -> bool:
    return wanted in await found
