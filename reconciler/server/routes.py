"""The route table: every method and path, what it does to what, and what answers. There are no other routes.

`reconciler.server.app` makes the aiohttp routes from it and the guard asks `reconciler.core.permission` with it;
tests/unit/server/test_route_matrix.py holds it against every kind of caller, and schemas/openapi.yaml against it.
"""

from __future__ import annotations

from reconciler.server.access_tokens import AccessTokens
from reconciler.server.acts import Acts
from reconciler.server.agents import Agents
from reconciler.server.authority import AuthorityReads
from reconciler.server.login import Login
from reconciler.server.machines import Machines
from reconciler.server.reads import Reads
from reconciler.server.sources import Sources
from reconciler.server.stream_query import FILTERS, STREAM_QUERY
from reconciler.server.table import OWN, Handler, Route

READ = frozenset({"min_event_id"})
WAIT = frozenset({"wait"})
EVENT_FILTERS = frozenset(
    {
        *("after", "before", "since", "until", "limit", "newest", "aggregate_type", "event_type", "commit", "actor"),
        *("causation_id", "aggregate_id", "command_id", "request", "org_id", "source_id", "path", "correlation_id"),
        *FILTERS,
    }
)
HISTORY_FILTERS = frozenset({"source", "from", "to", "path", "since", "until", "limit", "under"}) | READ


def route_table(
    reads: Reads,
    agents: Agents,
    acts: Acts,
    sources: Sources,
    machines: Machines,
    authority: AuthorityReads,
    tokens: AccessTokens,
    login: Login,
    stream: Handler,
    description: Handler,
) -> list[Route]:
    return [
        Route("GET", "/healthz", "probe", "service", reads.healthz, query=None),
        Route("GET", "/readyz", "probe", "service", reads.readyz, query=None),
        Route("GET", "/openapi.json", "probe", "service", description, query=None),
        Route("GET", "/v1/events", "read", "fleet", reads.history.events, query=EVENT_FILTERS),
        Route("GET", "/v1/state", "read", "fleet", reads.history.state, query=frozenset({"at", "of"})),
        Route("GET", "/v1/diff", "read", "fleet", reads.history.difference, query=frozenset({"from", "to", "of"})),
        Route("GET", "/v1/views/{view}", "read", "fleet", reads.view, query=READ | {"after", "limit"}),
        Route("GET", "/v1/views/{view}/{key:.+}", "read", "fleet", reads.view_row, query=READ),
        Route("GET", "/v1/status", "read", "fleet", reads.status, query=READ),
        Route("GET", "/v1/why", "read", "fleet", reads.why, query=READ | {"resource"}),
        Route("GET", "/v1/plan", "read", "source ?source", reads.plan, query=frozenset({"source", "base", "head"})),
        Route("GET", "/v1/log", "read", "source ?source", reads.commits.log, query=HISTORY_FILTERS),
        Route("GET", "/v1/stream", "follow", OWN, stream, streams=True, budget="stream", query=STREAM_QUERY),
        Route("POST", "/v1/sources/{source}/look", "look", "source {source}", sources.look),
        Route("POST", "/v1/sources/{source}/remove", "remove", "source {source}", sources.remove, body=True),
        Route(
            "POST",
            "/v1/sources/{source}/webhook",
            "notify",
            "source {source}",
            sources.webhook,
            prove=sources.prove,
            budget="webhook",
            query=None,
        ),
        Route("POST", "/v1/nodes/{node}/drain", "act", "node {node}", acts.duty("draining"), query=WAIT, body=True),
        Route("POST", "/v1/nodes/{node}/disable", "act", "node {node}", acts.duty("disabled"), query=WAIT, body=True),
        Route("POST", "/v1/nodes/{node}/activate", "act", "node {node}", acts.duty("active"), query=WAIT, body=True),
        Route("POST", "/v1/suspensions", "act", "fleet", acts.suspend, query=WAIT, body=True),
        Route("POST", "/v1/suspensions/end", "act", "fleet", acts.resume, query=WAIT, body=True),
        Route("POST", "/v1/holds", "act", "fleet", acts.hold, query=WAIT, body=True),
        Route("POST", "/v1/holds/end", "act", "fleet", acts.release_hold, query=WAIT, body=True),
        Route("POST", "/v1/instances/{instance}/stop", "act", "fleet", acts.stop_instance, query=WAIT, body=True),
        Route("POST", "/v1/nodes/{node}/enrol", "enrol", "node {node}", agents.enrol, body=True, budget="agent"),
        Route("POST", "/v1/nodes/{node}/heartbeat", "report", "node {node}", agents.heartbeat, budget="heartbeat"),
        Route(
            "POST", "/v1/nodes/{node}/reports", "report", "node {node}", agents.node_report, body=True, budget="agent"
        ),
        Route("GET", "/v1/nodes/{node}/plan", "follow", "node {node}", agents.node_plan, query=READ, budget="agent"),
        Route(
            "GET",
            "/v1/nodes/{node}/instances/{instance}/secret",
            "unseal",
            "node {node}",
            agents.secret,
            query=frozenset({"form"}),
            budget="agent",
        ),
        Route("GET", "/v1/edges/{edge}/plan", "follow", "edge {edge}", agents.route_plan, query=READ, budget="agent"),
        Route(
            "POST", "/v1/edges/{edge}/reports", "report", "edge {edge}", agents.edge_report, body=True, budget="agent"
        ),
        Route("GET", "/v1/trust", "probe", "service", machines.trust),
        Route("GET", "/v1/authority", "read", "fleet", authority.show),
        Route("POST", "/v1/join", "join", "service", machines.join, body=True, budget="unproven"),
        Route("POST", "/v1/nodes/{node}/token", "admit", "node {node}", machines.invite("node")),
        Route("POST", "/v1/nodes/{node}/revoke", "admit", "node {node}", machines.revoke("node"), body=True),
        Route(
            "POST", "/v1/nodes/{node}/renew", "renew", "node {node}", machines.renew("node"), body=True, budget="agent"
        ),
        Route("POST", "/v1/edges/{edge}/token", "admit", "edge {edge}", machines.invite("edge")),
        Route("POST", "/v1/edges/{edge}/revoke", "admit", "edge {edge}", machines.revoke("edge"), body=True),
        Route("GET", "/v1/login", "probe", "service", login.issuers),
        Route("GET", "/v1/whoami", "self", "service", login.whoami),
        Route("POST", "/v1/logout", "self", "service", login.logout),
        Route("GET", "/v1/tokens", "grant", "fleet", tokens.show),
        Route("POST", "/v1/tokens", "grant", "fleet", tokens.create, body=True),
        Route("POST", "/v1/tokens/{token}/revoke", "grant", "fleet", tokens.revoke, body=True),
        Route(
            "POST", "/v1/edges/{edge}/renew", "renew", "edge {edge}", machines.renew("edge"), body=True, budget="agent"
        ),
    ]
