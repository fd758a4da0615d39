"""The route table: every method and path, what it does to what, and what answers. There are no other routes.

`reconciler.server.app` makes the aiohttp routes from it and the guard asks `reconciler.core.permission` with it;
tests/unit/server/test_route_matrix.py holds it against every kind of caller, and schemas/openapi.yaml against it.
"""

from __future__ import annotations

from reconciler.server.access_tokens import AccessTokens
from reconciler.server.acts import Acts
from reconciler.server.agents import Agents
from reconciler.server.machines import Machines
from reconciler.server.reads import Reads
from reconciler.server.sources import Sources
from reconciler.server.table import OWN, Handler, Route


def route_table(
    reads: Reads,
    agents: Agents,
    acts: Acts,
    sources: Sources,
    machines: Machines,
    tokens: AccessTokens,
    stream: Handler,
) -> list[Route]:
    return [
        Route("GET", "/healthz", "probe", "service", reads.healthz),
        Route("GET", "/readyz", "probe", "service", reads.readyz),
        Route("GET", "/v1/events", "read", "fleet", reads.history.events),
        Route("GET", "/v1/state", "read", "fleet", reads.history.state),
        Route("GET", "/v1/diff", "read", "fleet", reads.history.difference),
        Route("GET", "/v1/views/{view}", "read", "fleet", reads.view),
        Route("GET", "/v1/views/{view}/{key:.+}", "read", "fleet", reads.view_row),
        Route("GET", "/v1/status", "read", "fleet", reads.status),
        Route("GET", "/v1/why", "read", "fleet", reads.why),
        Route("GET", "/v1/plan", "read", "source ?source", reads.plan),
        Route("GET", "/v1/log", "read", "source ?source", reads.commits.log),
        Route("GET", "/v1/stream", "follow", OWN, stream, streams=True),
        Route("POST", "/v1/sources/{source}/look", "look", "source {source}", sources.look),
        Route("POST", "/v1/sources/{source}/remove", "remove", "source {source}", sources.remove),
        Route(
            "POST", "/v1/sources/{source}/webhook", "notify", "source {source}", sources.webhook, prove=sources.prove
        ),
        Route("POST", "/v1/nodes/{node}/drain", "act", "node {node}", acts.duty("draining")),
        Route("POST", "/v1/nodes/{node}/disable", "act", "node {node}", acts.duty("disabled")),
        Route("POST", "/v1/nodes/{node}/activate", "act", "node {node}", acts.duty("active")),
        Route("POST", "/v1/suspensions", "act", "fleet", acts.suspend),
        Route("POST", "/v1/suspensions/end", "act", "fleet", acts.resume),
        Route("POST", "/v1/holds", "act", "fleet", acts.hold),
        Route("POST", "/v1/holds/end", "act", "fleet", acts.release_hold),
        Route("POST", "/v1/instances/{instance}/stop", "act", "fleet", acts.stop_instance),
        Route("POST", "/v1/nodes/{node}/enrol", "enrol", "node {node}", agents.enrol),
        Route("POST", "/v1/nodes/{node}/heartbeat", "report", "node {node}", agents.heartbeat),
        Route("POST", "/v1/nodes/{node}/reports", "report", "node {node}", agents.node_report),
        Route("GET", "/v1/nodes/{node}/plan", "follow", "node {node}", agents.node_plan),
        Route("GET", "/v1/nodes/{node}/instances/{instance}/secret", "unseal", "node {node}", agents.secret),
        Route("GET", "/v1/edges/{edge}/plan", "follow", "edge {edge}", agents.route_plan),
        Route("POST", "/v1/edges/{edge}/reports", "report", "edge {edge}", agents.edge_report),
        Route("GET", "/v1/trust", "probe", "service", machines.trust),
        Route("POST", "/v1/join", "join", "service", machines.join),
        Route("POST", "/v1/nodes/{node}/token", "admit", "node {node}", machines.invite("node")),
        Route("POST", "/v1/nodes/{node}/revoke", "admit", "node {node}", machines.revoke("node")),
        Route("POST", "/v1/nodes/{node}/renew", "renew", "node {node}", machines.renew("node")),
        Route("POST", "/v1/edges/{edge}/token", "admit", "edge {edge}", machines.invite("edge")),
        Route("POST", "/v1/edges/{edge}/revoke", "admit", "edge {edge}", machines.revoke("edge")),
        Route("GET", "/v1/tokens", "grant", "fleet", tokens.show),
        Route("POST", "/v1/tokens", "grant", "fleet", tokens.create),
        Route("POST", "/v1/tokens/{token}/revoke", "grant", "fleet", tokens.revoke),
        Route("POST", "/v1/edges/{edge}/renew", "renew", "edge {edge}", machines.renew("edge")),
    ]
