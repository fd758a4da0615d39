"""GUARANTEES.md, attacks on secrets: a host that is lost has a good certificate and an instance that is wanted on it.

It gets no secret any more, however it was lost and wherever that was said; what it was given before is in the log.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kit.errors import Transient
from kit.machine_identity import MachineIdentity
from reconciler.core.events import NewEvent
from reconciler.server.app import STANDING
from tests.attacks.machines import OPERATOR, Door, door
from tests.twin import append
from tests.unit.projections.samples import SECRET, new_event
from tests.unit.server.world import enrol_node

PATH = "/v1/nodes/node-a/instances/i-1/secret?form=hpke-v1"
KEY = {"Idempotency-Key": "a-key-of-mine"}


async def ready(fleet: Door) -> MachineIdentity:
    """A node that has joined and has an instance with a secret."""
    machine = await fleet.joined("node", "node-a")
    await enrol_node(fleet.world.log, "node-a")
    allocated = new_event("instance.allocated", secrets=[{"resource_id": SECRET, "version_id": "v-1", "blob": "b"}])
    await append(fleet.world.log, "allocate", allocated)
    return machine


def given(fleet: Door) -> list[Any]:
    return [event for event in fleet.world.log.events if event.event_type == "delivery.made"]


async def offline(fleet: Door) -> None:
    payload = {"node_id": "node-a", "state": "offline", "reason": "not heard for 30 s"}
    await append(fleet.world.log, "offline", NewEvent("node", "node-a", "node.state_changed", payload))


async def disabled(fleet: Door) -> None:
    await fleet.operator("POST", "/v1/nodes/node-a/disable", json={"reason": "stolen"}, headers=KEY)


async def revoked(fleet: Door) -> None:
    await fleet.operator("POST", "/v1/nodes/node-a/revoke", json={"reason": "stolen"})


LOSSES = {"node_offline": offline, "node_disabled": disabled, "node_revoked": revoked}


async def test_what_leaves_is_in_the_log_before_and_once(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await ready(fleet)
        for _ in range(20):
            status, document = await fleet.ask("GET", PATH, machine)
            assert (status, document["version_id"]) == (200, "v-1")
        (event,) = given(fleet)
        assert (event.cause.actor_id, event.aggregate_id) == ("node:node-a", SECRET)
        assert (event.payload["version_id"], event.payload["recipient"]) == ("v-1", "age1xyz")
        assert document["sealed"] not in str(event)


async def test_without_a_log_nothing_leaves(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await ready(fleet)

        async def away(batch: Any, **_: Any) -> Any:
            raise Transient("append", "the database does not answer", code="database_unavailable")

        fleet.world.log.append = away
        status, document = await fleet.ask("GET", PATH, machine)
        assert status == 503
        assert "sealed" not in document
        assert ("secret", "i-1") in fleet.world.calls, "it was sealed, and stayed here"


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_lost_node_gets_nothing_until_it_is_back(tmp_path: Path, loss: str) -> None:
    async with door(tmp_path) as fleet:
        machine = await ready(fleet)
        await LOSSES[loss](fleet)
        sealed_before = len(fleet.world.calls)
        status, document = await fleet.ask("GET", PATH, machine)
        if status == 401:
            assert loss == "node_revoked"  # its certificate is no good any more: it does not even get this far
        else:
            assert (status, document["code"]) == (409, loss)
        assert not [call for call in fleet.world.calls[sealed_before:] if call[0] == "secret"], "nothing was opened"
        assert given(fleet) == []
        match loss:
            case "node_offline":
                payload = {"node_id": "node-a", "state": "active", "reason": "heard again"}
                await append(fleet.world.log, "back", NewEvent("node", "node-a", "node.state_changed", payload))
            case "node_disabled":
                order = {"json": {"reason": "found"}, "headers": {"Idempotency-Key": "another-key"}}
                await fleet.operator("POST", "/v1/nodes/node-a/activate", **order)
            case _:
                machine = await fleet.joined("node", "node-a", "again")
                await fleet.world.app[STANDING].look()
        assert (await fleet.ask("GET", PATH, machine))[0] == 200
        assert len(given(fleet)) == 1


@pytest.mark.parametrize("loss", LOSSES)
async def test_one_that_is_lost_while_its_file_is_sealed_gets_nothing(
    tmp_path: Path, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another controller was told; this one has let the request in already."""
    async with door(tmp_path) as fleet:
        machine = await ready(fleet)
        handle = fleet.world.handle

        async def losing(name: str, document: Any) -> Any:
            if name == "secret":
                await LOSSES[loss](fleet)
            return await handle(name, document)

        monkeypatch.setattr(fleet.world, "handle", losing)
        status, document = await fleet.ask("GET", PATH, machine)
        assert (status, document["code"]) == (409, loss)
        assert given(fleet) == []


async def test_one_that_is_lost_right_before_the_log_is_written_gets_nothing(tmp_path: Path) -> None:
    """After the last look at the views: the log refuses, since it is not the node that was looked at."""
    async with door(tmp_path) as fleet:
        machine = await ready(fleet)
        write, losing = fleet.world.log.append, asyncio.Lock()

        async def late(batch: Any, **more: Any) -> Any:
            if batch[0].events[0].event_type == "delivery.made" and not losing.locked():
                await losing.acquire()
                await offline(fleet)
            return await write(batch, **more)

        fleet.world.log.append = late
        status, document = await fleet.ask("GET", PATH, machine)
        assert (status, document["code"]) == (409, "node_offline")
        assert given(fleet) == []


async def test_a_form_that_is_not_bound_is_not_given(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await ready(fleet)
        for query in ("", "?form=", "?form=age", "?form=hpke-v0"):
            status, document = await fleet.ask("GET", PATH.partition("?")[0] + query, machine)
            assert (status, document["code"]) == (400, "form_unknown")
            assert "bring the agent to the version" in document["fix"]
        assert given(fleet) == []


async def test_who_has_seen_a_secret_can_be_asked(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await ready(fleet)
        await fleet.ask("GET", PATH, machine)
        for query in (f"aggregate_type=delivery&aggregate_id={SECRET}", "actor=node:node-a&event_type=delivery.made"):
            (found,) = (await fleet.world.get(f"/v1/events?{query}", OPERATOR))["events"]
            assert found["payload"]["identity_id"] == "node/node-a"
