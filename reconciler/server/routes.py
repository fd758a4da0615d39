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

READ = frozenset({"min_event_id"})
WAIT = frozenset({"wait"})
EVENT_FILTERS = frozenset(
    {
        *("after", "before", "since", "until", "limit", "newest", "aggregate_type", "event_type", "commit", "actor"),
        *("causation_id", "aggregate_id", "command_id", "org_id", "source_id", "path", "correlation_id"),
    }
)
HISTORY_FILTERS = frozenset({"source", "from", "to", "path", "since", "until", "limit", "under"}) | READ


def route_table(
    reads: Reads, agents: Agents, acts: Acts, sources: Sources, stream: Handler, description: Handler
) -> list[Route]:
    everybody = frozenset({ANONYMOUS})
    operator: frozenset[Role] = frozenset({"operator"})
    node: frozenset[Role] = frozenset({"node"})
    edge: frozenset[Role] = frozenset({"edge"})
    webhook: frozenset[Role] = frozenset({"webhook"})
    return [
        Route("GET", "/healthz", everybody, reads.healthz, query=None),
        Route("GET", "/readyz", everybody, reads.readyz, query=None),
        Route("GET", "/openapi.json", everybody, description, query=None),
        Route("GET", "/v1/events", operator, reads.history.events, query=EVENT_FILTERS),
        Route("GET", "/v1/state", operator, reads.history.state, query=frozenset({"at", "of"})),
        Route("GET", "/v1/diff", operator, reads.history.difference, query=frozenset({"from", "to", "of"})),
        Route("GET", "/v1/views/{view}", operator, reads.view, query=READ | {"after", "limit"}),
        Route("GET", "/v1/views/{view}/{key:.+}", operator, reads.view_row, query=READ),
        Route("GET", "/v1/status", operator, reads.status, query=READ),
        Route("GET", "/v1/why", operator, reads.why, query=READ | {"resource"}),
        Route("GET", "/v1/plan", operator, reads.plan, query=frozenset({"source", "base", "head"})),
        Route("GET", "/v1/log", operator, reads.commits.log, query=HISTORY_FILTERS),
        Route("GET", "/v1/stream", operator | node | edge, stream, streams=True, budget="stream", query=None),
        Route("POST", "/v1/sources/{source}/look", operator, sources.look),
        Route("POST", "/v1/sources/{source}/remove", operator, sources.remove, body=True),
        Route(
            "POST",
            "/v1/sources/{source}/webhook",
            webhook,
            sources.webhook,
            prove=sources.prove,
            budget="webhook",
            query=None,
        ),
        Route("POST", "/v1/nodes/{node}/drain", operator, acts.duty("draining"), query=WAIT, body=True),
        Route("POST", "/v1/nodes/{node}/disable", operator, acts.duty("disabled"), query=WAIT, body=True),
        Route("POST", "/v1/nodes/{node}/activate", operator, acts.duty("active"), query=WAIT, body=True),
        Route("POST", "/v1/suspensions", operator, acts.suspend, query=WAIT, body=True),
        Route("POST", "/v1/suspensions/end", operator, acts.resume, query=WAIT, body=True),
        Route("POST", "/v1/holds", operator, acts.hold, query=WAIT, body=True),
        Route("POST", "/v1/holds/end", operator, acts.release_hold, query=WAIT, body=True),
        Route("POST", "/v1/instances/{instance}/stop", operator, acts.stop_instance, query=WAIT, body=True),
        Route("POST", "/v1/nodes/{node}/enrol", node, agents.enrol, body=True, budget="agent"),
        Route("POST", "/v1/nodes/{node}/heartbeat", node, agents.heartbeat, budget="heartbeat"),
        Route("POST", "/v1/nodes/{node}/reports", node, agents.node_report, body=True, budget="agent"),
        Route("GET", "/v1/nodes/{node}/plan", node, agents.node_plan, query=READ, budget="agent"),
        Route("GET", "/v1/nodes/{node}/instances/{instance}/secret", node, agents.secret, budget="agent"),
        Route("GET", "/v1/edges/{edge}/plan", edge, agents.route_plan, query=READ, budget="agent"),
        Route("POST", "/v1/edges/{edge}/reports", edge, agents.edge_report, body=True, budget="agent"),
    ]
