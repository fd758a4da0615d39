"""Deliveries of secrets on real Postgres: told once for all that ask at once, and never to a node that was lost."""

from __future__ import annotations

import asyncio

import pytest

from kit.errors import Refusal
from reconciler.core.decide.deliveries import Delivery
from tests.integration.tasks.controller import Controller
from tests.unit.scheduler.world import app, process, secret


async def placed(controller: Controller) -> Delivery:
    await controller.enrol("node-a")
    await controller.commit(secret("1"), app(web=process(secrets=("keys",))))
    await controller.settle()
    (instance,) = (await controller.rows("instances")).values()
    return Delivery("node-a", instance["instance_id"], "age1x", "hpke-v1")


async def test_many_that_ask_at_once_are_told_once_and_the_scheduler_goes_on(controller: Controller) -> None:
    delivery, other = await placed(controller), controller.another()
    controllers = (controller, other) * 15
    recorded = await asyncio.gather(*(each.handlers.record_delivery(delivery) for each in controllers))
    assert len({each.last_event_id for each in recorded}) == 1
    (event,) = await controller.events("delivery.made")
    (row,) = (await controller.rows("deliveries")).values()
    assert row["versions"][0]["version_id"] == event.payload["version_id"]
    await controller.commit(secret("2"), app(web=process(secrets=("keys",))))
    await controller.settle()
    (instance,) = (await controller.rows("instances")).values()
    assert instance["instance_id"] != delivery.instance_id, "what was delivered is no part of the instance's versions"


async def test_a_node_that_another_controller_called_offline_gets_nothing_until_it_is_heard(
    controller: Controller,
) -> None:
    delivery, other = await placed(controller), controller.another()
    await controller.handlers.record_delivery(delivery)
    for _ in range(3):
        await other.handlers.set_node_state("node-a", "offline", "not heard")
        with pytest.raises(Refusal) as refused:
            await controller.handlers.record_delivery(delivery)
        assert refused.value.code == "node_offline", "although the same was delivered within the hour"
        await other.handlers.set_node_state("node-a", "active", "heard again")
        await controller.handlers.record_delivery(delivery)
    assert len(await controller.events("delivery.made")) == 4, "once for each time that it was there"
