"""What a node is given of secrets, into the log before it leaves. Called by `reconciler.server.agents`."""

from __future__ import annotations

from datetime import datetime

from kit.errors import Refusal
from reconciler.core.commands import Append
from reconciler.core.decide.deliveries import Delivery, Parties, decide_delivery
from reconciler.handlers.appending import Appending, Recorded

_VIEWS = ("nodes", "identities", "instances")


class DeliveryHandlers(Appending):
    async def record_delivery(self, delivery: Delivery) -> Recorded:
        """Returns once the log says so; then the sealed file may leave. `Refusal` for a node that was lost, also if
        that happened a moment ago, at another controller: what the views show is at least as new as the question."""

        async def decide() -> Append | Refusal | None:
            rows = (await self._fresh(_VIEWS)).rows
            parties = Parties(
                rows["nodes"].get(delivery.node_id),
                rows["identities"].get(f"node/{delivery.node_id}"),
                rows["instances"].get(delivery.instance_id),
            )
            return decide_delivery(parties, delivery, datetime.fromisoformat(self._clock.utc()).timestamp())

        attempted = f"record that node {delivery.node_id} is given the secrets of instance {delivery.instance_id}"
        return await self._one(attempted, _VIEWS, decide)
