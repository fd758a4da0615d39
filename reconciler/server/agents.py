"""What node agents and edges say and ask: enrolment, heartbeats, reports, plans, secrets.

Called through `reconciler.server.routes`; the guard has already matched the caller with the name in the path. Documents
are those of `kit.wire`. A document that names another node than the path is refused: the path was authorised, the
document was not.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from kit import logs
from kit.codec import from_json, to_json
from kit.plan_delta import PLAN_BASE
from kit.sealed_file import FORM
from kit.wire import EdgeReport, Enrolment, NodeReport
from reconciler.core.decide.deliveries import Delivery, Parties, delivery_refused
from reconciler.server.deps import Deps
from reconciler.server.plan_source import PlanSource
from reconciler.server.problems import Problem
from reconciler.server.pulse import Pulse
from reconciler.server.rates import Buckets
from reconciler.server.requests import query_int, read_document
from reconciler.server.sent_plans import SentPlans
from reconciler.server.table import IDENTITY

Document = TypeVar("Document", Enrolment, NodeReport, EdgeReport)
_log = logs.get("agents")


class Agents:
    def __init__(self, deps: Deps, pulse: Pulse, plans: PlanSource, sent_plans: SentPlans) -> None:
        self._deps = deps
        self._pulse = pulse
        self._plans = plans
        self._sent_plans = sent_plans
        self._entries = Buckets(deps.limits.report_entries_rate, deps.limits.rate_callers_max)

    async def enrol(self, request: web.Request) -> web.Response:
        enrolment = await self._document(request, Enrolment, request.match_info["node"])
        await self._deps.handlers.enrol_node(enrolment)
        return web.json_response({"node_id": enrolment.node_id})

    async def heartbeat(self, request: web.Request) -> web.Response:
        """No body is needed. 404 node_unknown tells an agent to enrol again."""
        node_id = request.match_info["node"]
        if not await self._plans.is_enrolled(node_id):
            raise _unknown_node(node_id)
        await self._deps.handlers.record_heartbeat(node_id)
        self._pulse.beat(node_id)
        return web.json_response({"node_id": node_id})

    async def node_report(self, request: web.Request) -> web.Response:
        report = await self._document(request, NodeReport, request.match_info["node"])
        self._bound(request, len(report.instances) + len(report.volumes))
        return web.json_response(to_json(await self._deps.handlers.record_node_report(report)))

    async def edge_report(self, request: web.Request) -> web.Response:
        report = await self._document(request, EdgeReport, request.match_info["edge"])
        self._bound(request, len(report.routes))
        await self._deps.handlers.record_edge_report(report)
        return web.json_response({"applied_generation": report.applied_generation})

    def _bound(self, request: web.Request, entries: int) -> None:
        """Each entry may be an event: of those a machine makes so many at once, and so many in the long run."""
        most, machine = self._deps.limits.report_entries_max, str(request[IDENTITY])
        if entries > most:
            raise Problem(
                "body_too_large", f"the report has {entries} entries, more than {most}", fix="send it in parts"
            )
        if wait_s := self._entries.take(machine, self._deps.clock.now_s(), entries):
            detail = f"{machine} has reported more than its rate allows"
            raise Problem("rate_limited", detail, retry_after_s=max(1, math.ceil(wait_s)))

    async def node_plan(self, request: web.Request) -> web.Response:
        """Never an empty plan for a node that is not known: an agent would take it for "stop everything"."""
        node_id = request.match_info["node"]
        plan = await self._plans.node_plan(node_id, query_int(request, "min_event_id", 0))
        if plan is None:
            raise _unknown_node(node_id)
        return _answer(self._sent_plans.answer(f"node:{node_id}", to_json(plan), request.headers.get(PLAN_BASE, "")))

    async def route_plan(self, request: web.Request) -> web.Response:
        edge_id, base = request.match_info["edge"], request.headers.get(PLAN_BASE, "")
        return _answer(await self._plans.route_plan(edge_id, base, query_int(request, "min_event_id", 0)))

    async def secret(self, request: web.Request) -> web.Response:
        """Sealed to the node, so that nobody on the way can read it. The log says so before it leaves, or it does
        not. What was lost in the meantime gets nothing: that is decided there, once more, on fresh views."""
        node_id, instance_id = request.match_info["node"], request.match_info["instance"]
        _known_form(request.query.get("form", ""))
        parties = await self._parties(node_id, instance_id)
        if refused := delivery_refused(parties, node_id, instance_id):
            raise refused
        assert parties.node is not None
        assert parties.instance is not None
        sealed = await self._deps.secret_for(parties.instance, parties.node)
        delivery = Delivery(node_id, instance_id, parties.node["seal_recipient"], FORM)
        await self._deps.handlers.record_delivery(delivery)
        app, version_id = parties.instance["app"], parties.instance["workload"]["secret"]["version_id"]
        _log.info("sealed file given", node_id=node_id, instance_id=instance_id, app=app, version_id=version_id)
        document = {"version_id": version_id, "sealed": base64.b64encode(sealed).decode(), "app": app}
        return web.json_response(document)

    async def _parties(self, node_id: str, instance_id: str) -> Parties:
        get = self._deps.views.get
        return Parties(
            await get("nodes", node_id), await get("identities", f"node/{node_id}"), await get("instances", instance_id)
        )

    async def _node_row(self, node_id: str) -> Mapping[str, Any]:
        node = await self._deps.views.get("nodes", node_id)
        if node is None:
            raise _unknown_node(node_id)
        return node

    async def _document(self, request: web.Request, kind: type[Document], name: str) -> Document:
        raw = await read_document(request, self._deps.limits)
        document = from_json(kind, raw)
        named = document.edge_id if isinstance(document, EdgeReport) else document.node_id
        if named != name:
            raise Problem("node_mismatch", f"the document is about {named[:80]!r}, the path about {name!r}")
        return document


def _answer(plan: Mapping[str, Any]) -> web.Response:
    """msgspec is five times as fast as json."""
    return web.Response(body=msgspec.json.encode(plan), content_type="application/json")


def _known_form(form: str) -> None:
    if form != FORM:
        why = f"secret files are given in the form {FORM} alone, and {form[:20] or 'none'!r} was asked for"
        raise Problem("form_unknown", why, fix="bring the agent to the version of the controller")


def _unknown_node(node_id: str) -> Problem:
    return Problem("node_unknown", f"node {node_id} is not enrolled", fix="the agent enrols at its start")
