"""The route table: every method and path, who may use it, and what answers. There are no other routes.

`reconciler.server.app` makes the aiohttp routes from it and the guard takes its roles from it;
tests/unit/server/test_route_matrix.py holds it against every kind of caller, and schemas/openapi.yaml against it.
"""

from __future__ import annotations

from reconciler.server.acts import Acts
from reconciler.server.agents import Agents
from reconciler.server.auth import Role
from reconciler.server.reads import Reads
from reconciler.server.sources import Sources
from reconciler.server.table import ANONYMOUS, Handler, Route


def route_table(reads: Reads, agents: Agents, acts: Acts, sources: Sources, stream: Handler) -> list[Route]:
    everybody = frozenset({ANONYMOUS})
    operator: frozenset[Role] = frozenset({"operator"})
    node: frozenset[Role] = frozenset({"node"})
    edge: frozenset[Role] = frozenset({"edge"})
    webhook: frozenset[Role] = frozenset({"webhook"})
    return [
        Route("GET", "/healthz", everybody, reads.healthz),
        Route("GET", "/readyz", everybody, reads.readyz),
        Route("GET", "/v1/events", operator, reads.history.events),
        Route("GET", "/v1/state", operator, reads.history.state),
        Route("GET", "/v1/diff", operator, reads.history.difference),
        Route("GET", "/v1/views/{view}", operator, reads.view),
        Route("GET", "/v1/views/{view}/{key:.+}", operator, reads.view_row),
        Route("GET", "/v1/status", operator, reads.status),
        Route("GET", "/v1/why", operator, reads.why),
        Route("GET", "/v1/plan", operator, reads.plan),
        Route("GET", "/v1/log", operator, reads.commits.log),
        Route("GET", "/v1/stream", operator | node | edge, stream, streams=True, budget="stream"),
        Route("POST", "/v1/sources/{source}/look", operator, sources.look),
        Route("POST", "/v1/sources/{source}/remove", operator, sources.remove),
        Route("POST", "/v1/sources/{source}/webhook", webhook, sources.webhook, prove=sources.prove, budget="webhook"),
        Route("POST", "/v1/nodes/{node}/drain", operator, acts.duty("draining")),
        Route("POST", "/v1/nodes/{node}/disable", operator, acts.duty("disabled")),
        Route("POST", "/v1/nodes/{node}/activate", operator, acts.duty("active")),
        Route("POST", "/v1/suspensions", operator, acts.suspend),
        Route("POST", "/v1/suspensions/end", operator, acts.resume),
        Route("POST", "/v1/holds", operator, acts.hold),
        Route("POST", "/v1/holds/end", operator, acts.release_hold),
        Route("POST", "/v1/instances/{instance}/stop", operator, acts.stop_instance),
        Route("POST", "/v1/nodes/{node}/enrol", node, agents.enrol, budget="agent"),
        Route("POST", "/v1/nodes/{node}/heartbeat", node, agents.heartbeat, budget="heartbeat"),
        Route("POST", "/v1/nodes/{node}/reports", node, agents.node_report, budget="agent"),
        Route("GET", "/v1/nodes/{node}/plan", node, agents.node_plan, budget="agent"),
        Route("GET", "/v1/nodes/{node}/instances/{instance}/secret", node, agents.secret, budget="agent"),
        Route("GET", "/v1/edges/{edge}/plan", edge, agents.route_plan, budget="agent"),
        Route("POST", "/v1/edges/{edge}/reports", edge, agents.edge_report, budget="agent"),
    ]
