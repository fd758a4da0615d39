"""Who may do what: every route of the table against every kind of caller, and nothing beside the table."""

from __future__ import annotations

import contextlib
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kit.machine_identity import trusting
from kit.machine_names import CONTROLLER_HOST, MachineKind
from reconciler.certificates.authority import Authority
from reconciler.server.app import ROUTES, build_app
from reconciler.server.auth import Identity, check_token, make_token
from reconciler.server.deps import Deps
from reconciler.server.table import Route
from tests.attacks.machines import door
from tests.unit.server import world as world_module
from tests.unit.server.world import KEY, World, enrol_node, serving, token_of

CALLERS = {
    "none": "",
    "garbage": "operator:ops:" + "0" * 64,
    "node-own": token_of("node", "node-a"),
    "node-other": token_of("node", "node-b"),
    "edge": token_of("edge", "edge-a"),
    "edge-other": token_of("edge", "edge-b"),
    "webhook-own": token_of("webhook", "main"),
    "webhook-other": token_of("webhook", "other"),
    "operator": token_of("operator", "ops"),
}
NAMES = {
    "node": "node-a",
    "edge": "edge-a",
    "source": "main",
    "instance": "i-1",
    "token": "t-1",
    "view": "nodes",
    "key": "node-a",
}
OPERATOR, NODE, EDGE = {"operator"}, {"node-own"}, {"edge"}
KNOWN = set(CALLERS) - {"none", "garbage"}
ANY_STREAM = {"operator", "node-own", "node-other", "edge", "edge-other"}
EXPECTED = {
    "GET /healthz": set(CALLERS),
    "GET /readyz": set(CALLERS),
    "GET /openapi.json": set(CALLERS),
    "GET /v1/events": OPERATOR,
    "GET /v1/views/{view}": OPERATOR,
    "GET /v1/views/{view}/{key:.+}": OPERATOR,
    "GET /v1/status": OPERATOR,
    "GET /v1/why": OPERATOR,
    "GET /v1/state": OPERATOR,
    "GET /v1/diff": OPERATOR,
    "GET /v1/plan": OPERATOR,
    "GET /v1/log": OPERATOR,
    "GET /v1/stream": ANY_STREAM,
    "POST /v1/sources/{source}/look": OPERATOR,
    "POST /v1/sources/{source}/webhook": {"webhook-own"},
    "POST /v1/nodes/{node}/drain": OPERATOR,
    "POST /v1/nodes/{node}/disable": OPERATOR,
    "POST /v1/nodes/{node}/activate": OPERATOR,
    "POST /v1/suspensions": OPERATOR,
    "POST /v1/suspensions/end": OPERATOR,
    "POST /v1/holds": OPERATOR,
    "POST /v1/holds/end": OPERATOR,
    "POST /v1/instances/{instance}/stop": OPERATOR,
    "POST /v1/sources/{source}/remove": OPERATOR,
    "POST /v1/nodes/{node}/enrol": NODE,
    "POST /v1/nodes/{node}/heartbeat": NODE,
    "POST /v1/nodes/{node}/reports": NODE,
    "GET /v1/nodes/{node}/plan": NODE,
    "GET /v1/nodes/{node}/instances/{instance}/secret": NODE,
    "GET /v1/edges/{edge}/plan": EDGE,
    "POST /v1/edges/{edge}/reports": EDGE,
    "GET /v1/login": set(CALLERS),
    "GET /v1/whoami": KNOWN,
    "POST /v1/logout": KNOWN,
    "GET /v1/tokens": OPERATOR,
    "POST /v1/tokens": OPERATOR,
    "POST /v1/tokens/{token}/revoke": OPERATOR,
    "GET /v1/trust": set(CALLERS),
    "GET /v1/authority": OPERATOR,
    "POST /v1/join": set(CALLERS),
    "POST /v1/nodes/{node}/token": OPERATOR,
    "POST /v1/nodes/{node}/revoke": OPERATOR,
    "POST /v1/nodes/{node}/renew": NODE,
    "POST /v1/edges/{edge}/token": OPERATOR,
    "POST /v1/edges/{edge}/revoke": OPERATOR,
    "POST /v1/edges/{edge}/renew": EDGE,
}
"""Written by hand, so that a route which nobody thought about fails here."""


def path_of(route: Route) -> str:
    path = re.sub(r"{(\w+)(:[^}]*)?}", lambda found: NAMES[found[1]], route.path)
    return path + ("?wait=0" if route.streams else "?resource=node-a" if path == "/v1/why" else "")


async def passes(world: World, route: Route, token: str) -> bool:
    """True unless the caller is turned away: what a handler makes of an empty body is not the question here."""
    status, document, headers = await world.call(route.method, path_of(route), token)
    assert headers["X-Request-Id"]
    if status in (401, 403):
        assert document["code"] == ("unauthorized" if status == 401 else "forbidden")
        assert (status == 401) == (check_token(KEY, token) is None)
    else:
        assert status < 500, document
    return status not in (401, 403)


async def test_every_route_admits_exactly_the_callers_that_the_table_of_this_test_names(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "ca", "fleet.test", datetime.now(UTC))
    async with serving(authority=authority) as world:
        await enrol_node(world.log, "node-a")
        routes = {f"{route.method} {route.path}": route for route in world.app[ROUTES]}
        assert set(routes) == set(EXPECTED), "a route was added or removed: say here who may use it"
        for name, route in routes.items():
            admitted = {caller for caller, token in CALLERS.items() if await passes(world, route, token)}
            assert admitted == EXPECTED[name], name


CERTIFIED: dict[str, tuple[MachineKind, str]] = {
    "node-own": ("node", "node-a"),
    "node-other": ("node", "node-b"),
    "edge": ("edge", "edge-a"),
    "edge-other": ("edge", "edge-b"),
}


async def test_the_machines_port_admits_the_same_by_certificate_and_nobody_by_a_machines_token(tmp_path: Path) -> None:
    """Who has no certificate there is asked for a token, as at the other port."""
    async with door(tmp_path) as fleet, contextlib.AsyncExitStack() as sessions:
        machines = {caller: await fleet.joined(*who) for caller, who in CERTIFIED.items()}
        await enrol_node(fleet.world.log, "node-a")
        bundle = trusting(fleet.authority.bundle)
        callers: dict[str, tuple[aiohttp.ClientSession, ssl.SSLContext, str]] = {}
        for caller, token in CALLERS.items():
            session = await sessions.enter_async_context(aiohttp.ClientSession())
            tls = machines[caller].context() if caller in machines else bundle
            callers[caller] = (session, tls, "" if caller in machines else token)
        former = await sessions.enter_async_context(aiohttp.ClientSession())
        callers["former-node"] = (former, bundle, CALLERS["node-own"])
        for route in fleet.world.app[ROUTES]:
            name = f"{route.method} {route.path}"
            expected = EXPECTED[name] | ({"former-node"} if "none" in EXPECTED[name] else set())
            admitted = set()
            for caller, (session, tls, token) in callers.items():
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                more: Any = {"ssl": tls, "server_hostname": CONTROLLER_HOST, "headers": headers}
                async with session.request(route.method, fleet.url + path_of(route), **more) as answer:
                    assert answer.status < 500, (name, caller)
                    admitted |= {caller} if answer.status not in (401, 403) else set()
            assert admitted == expected, name


async def test_what_is_served_beside_the_table_is_answered_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def planted(_: web.Request) -> web.Response:
        raise AssertionError("it was let through")

    def with_more(deps: Deps) -> web.Application:
        app = build_app(deps)
        app.router.add_get("/metrics", planted)
        return app

    monkeypatch.setattr(world_module, "build_app", with_more)
    async with serving() as world:
        for caller, token in CALLERS.items():
            status, _, _ = await world.call("GET", "/metrics", token)
            assert status in (401, 403), caller


async def test_no_method_or_path_beside_the_table_is_open() -> None:
    async with serving() as world:
        known = {(route.method, route.path) for route in world.app[ROUTES]}
        served = {(each.method, getattr(each.resource, "canonical", "")) for each in world.app.router.routes()}
        assert {method for method, _ in served} == {"GET", "POST"}
        assert len(served) == len(known)
        for method in ("HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
            assert (await world.call(method, "/v1/status"))[0] == 401
            assert (await world.call(method, "/v1/status", CALLERS["operator"]))[0] == 405
        for path in ("/", "/v1", "/v1/nope", "/v1/nodes/node-a", "//v1/status", "/v1/status/", "/V1/status"):
            assert (await world.call("GET", path))[0] == 401
            assert (await world.call("GET", path, CALLERS["operator"]))[0] == 404


@pytest.mark.parametrize(
    "name", ["node-b/../node-a", "node-a%2fx", "node-A", "node-a%00", "node-a%20", "node%2Da%2f.."]
)
async def test_no_spelling_of_a_path_reaches_another_node(name: str) -> None:
    from yarl import URL

    async with serving() as world:
        await enrol_node(world.log, "node-a")
        assert world.session is not None
        url = URL(f"{world.url}/v1/nodes/{name}/plan", encoded=True)
        headers = {"Authorization": f"Bearer {CALLERS['node-other']}"}
        async with world.session.get(url, headers=headers) as answer:
            assert answer.status in (401, 403, 404), await answer.text()


async def test_a_document_about_another_node_is_refused() -> None:
    from tests.unit.server.world import enrolment

    async with serving() as world:
        body = enrolment("node-b")
        status, document, _ = await world.call("POST", "/v1/nodes/node-a/enrol", CALLERS["node-own"], json=body)
        assert (status, document["code"]) == (403, "node_mismatch")
        assert world.calls == []


@pytest.mark.parametrize(
    "token",
    [
        "",
        "operator",
        "operator:ops",
        "operator:ops:",
        ":::",
        token_of("operator", "ops")[:-1],
        token_of("operator", "ops") + "0",
        token_of("operator", "ops").upper(),
        token_of("node", "node-a").replace("node:", "operator:", 1),
        token_of("node", "node-a").replace("node-a", "node-b"),
        make_token(b"x" * 32, "operator", "ops"),
        "operator:ops:" + "é" * 64,
        "a" * 10_000,
    ],
)
def test_a_token_that_was_not_made_with_the_key_proves_nothing(token: str) -> None:
    assert check_token(KEY, token) is None


def test_a_token_proves_its_role_and_name() -> None:
    assert check_token(KEY, token_of("edge", "edge-a.b_c")) == Identity("edge", "edge-a.b_c")


@pytest.mark.parametrize("name", ["", "-a", "a-", "a:b", "a/b", "A", "a" * 64, "a b", "ä"])
def test_a_name_that_could_be_read_as_another_gets_no_token(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        make_token(KEY, "node", name)
