"""The plans of all nodes and edges out of one picture of the views. Used by `reconciler.server.agents`.

After a change that concerns many, all of them ask at once: they share one reading of the views, which began after they
came, and of which only what changed is looked at. So one more agent costs its own plan, and one more edge next to
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kit import logs
from kit.plan_delta import Document
from kit.shared_turn import SharedTurn
from kit.wire import NodePlan
from reconciler.core.plan_rows import NodeRows, changes
from reconciler.core.plans import node_plan
from reconciler.core.route_book import RouteBook
from reconciler.ports import Doc, Views, ViewSnapshot

PLAN_VIEWS = ("instances", "nodes", "resources", "tombstones")
_log = logs.get("plans")


class PlanSource:
    def __init__(self, views: Views, view_wait_s: float) -> None:
        self._views = views
        self._view_wait_s = view_wait_s
        self._seen = _Seen(ViewSnapshot(0, "", {}))
        self._reading = SharedTurn(self._read, "read the rows of plans")

    async def node_plan(self, node_id: str, min_event_id: int = 0) -> NodePlan | None:
        """None for a node that is not enrolled."""
        seen = await self._look(min_event_id)
        if node_id not in seen.picture.rows["nodes"]:
            return None
        rows = seen.nodes.of_node(node_id)
        return node_plan(rows, node_id, log_id=seen.picture.log_id, generation=seen.picture.event_id)

    async def route_plan(self, edge_id: str, base: str, min_event_id: int = 0) -> Document:
        """The whole, or what changed since the one whose digest is `base`."""
        seen = await self._look(min_event_id)
        return seen.routes.answer(edge_id, *seen.routes_of, base)

    async def is_enrolled(self, node_id: str) -> bool:
        """A node that is enrolled stays so, which is why an older picture will do when it knows the node."""
        if node_id in self._seen.picture.rows.get("nodes", ()):
            return True
        return node_id in (await self._look(0)).picture.rows["nodes"]

    async def _look(self, min_event_id: int) -> _Seen:
        if min_event_id:
            await self._views.wait_for(min_event_id, PLAN_VIEWS, self._view_wait_s)
        await self._reading.done()
        return self._seen

    async def _read(self) -> None:
        picture = await self._views.snapshot(PLAN_VIEWS)
        if picture.log_id != self._seen.picture.log_id:
            self._seen = _Seen(ViewSnapshot(0, picture.log_id, {}))
        await self._seen.move_to(picture)


class _Seen:
    """One log's rows as of `picture`."""

    def __init__(self, picture: ViewSnapshot) -> None:
        self.picture = picture
        self.nodes = NodeRows()
        self.routes = RouteBook()
        self.routes_of = picture.log_id, picture.event_id

    async def move_to(self, picture: ViewSnapshot) -> None:
        nothing: Mapping[str, Doc] = {}
        for view in PLAN_VIEWS:
            changed = changes(self.picture.rows.get(view, nothing), picture.rows[view])
            self.nodes.take(view, changed)
            self.routes.take(view, changed)
        self.picture = picture
        known = dict(self.routes.broken)
        for _ in self.routes.settle():
            await asyncio.sleep(0)
        for route_id, why in self.routes.broken.items() - known.items():
            _log.error("a route cannot be planned; the edges keep what they have of it", route_id=route_id, why=why)
        self.routes_of = picture.log_id, picture.event_id
