"""A certificate is renewed over and over while a stream stays open; a fleet comes back after its certificates ended."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kit.joining import joined, keep_renewed
from kit.machine_identity import MachineIdentity
from reconciler.certificates import signing
from tests.attacks.machines import door
from tests.twin import append
from tests.unit.server.world import enrol_node, heard


async def renewed(machine: MachineIdentity, before: datetime) -> datetime:
    async with asyncio.timeout(20):
        while machine.lifetime()[1] == before:
            await asyncio.sleep(0.05)
    return machine.lifetime()[1]


async def test_a_stream_outlives_the_certificates_that_are_renewed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "MACHINE_LIFETIME", timedelta(seconds=4))
    monkeypatch.setattr(signing, "SKEW", timedelta(seconds=0))
    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        await enrol_node(fleet.world.log, "node-a")
        first = machine.lifetime()[1]
        async with joined(machine, fleet.url, "", "") as control_plane:
            async with control_plane.lines("/v1/stream", idle_timeout_s=30) as stream:
                assert (await anext(stream))["type"] == "hello"
                until = await renewed(machine, first)
                while datetime.now(UTC) <= first:
                    until = await renewed(machine, until)
                await append(fleet.world.log, "c-1", heard("node-a", 1))
                async with asyncio.timeout(10):
                    while (line := await anext(stream))["type"] != "change":
                        pass
                assert line["event"]["payload"]["node_id"] == "node-a"
            await control_plane.get_json("/v1/nodes/node-a/plan")
        assert len(fleet.events("joined")) == 1


async def test_a_machine_that_was_away_for_too_long_comes_back_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        await enrol_node(fleet.world.log, "node-a")
        key, past = machine.key(), datetime.now(UTC) - timedelta(hours=3)
        old = fleet.authority.certify(machine.request(key, "fleet.test"), "node", "node-a", 1, past)
        machine.keep(key, old.chain, fleet.authority.bundle)
        before = machine.lifetime()[1]
        async with fleet.control_plane(machine) as control_plane:
            renewing = asyncio.create_task(keep_renewed(machine, fleet.url, control_plane, random.Random(1)))
            await renewed(machine, before)
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await control_plane.get_json("/v1/nodes/node-a/plan")
