"""The HTTP application and the server that carries it.

`reconciler.bootstrap` calls `build_app` with what `Deps` asks for and gives the result to `HttpServer`. The tail of the
log (`Hub`) runs for as long as the application does.

Shutdown: readiness says no and every answer closes its connection, for `drain_notice_s`; then whoever connects is told
503 with a Retry-After and closed, idle connections are closed, streams get their end line and go elsewhere, requests at
work have `drain_timeout_s` to finish and are cancelled after it. The listeners close last, so that until the process is
gone nobody has to guess what a refused connection means.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from aiohttp import web

from kit import logs
from reconciler.server.access_tokens import AccessTokens
from reconciler.server.acts import Acts
from reconciler.server.agents import Agents
from reconciler.server.authority import AuthorityReads
from reconciler.server.connections import Connection, Doorman
from reconciler.server.deps import Deps
from reconciler.server.description import Description
from reconciler.server.draining import DRAINING, Draining
from reconciler.server.former_tokens import FormerTokens
from reconciler.server.guard import Guard, add_headers
from reconciler.server.hub import Hub
from reconciler.server.limits import Limits
from reconciler.server.login import Login
from reconciler.server.machines import Machines
from reconciler.server.plan_source import PlanSource
from reconciler.server.pulse import Pulse
from reconciler.server.reads import Reads
from reconciler.server.renewals import Renewals
from reconciler.server.requests import only_known
from reconciler.server.routes import route_table
from reconciler.server.sent_plans import SentPlans
from reconciler.server.snapshots import Snapshots
from reconciler.server.sources import Sources
from reconciler.server.standing import Standing
from reconciler.server.streams import Streams
from reconciler.server.table import IDENTITY, Route

HUB = web.AppKey("hub", Hub)
STREAMS = web.AppKey("streams", Streams)
STANDING = web.AppKey("standing", Standing)
ROUTES = web.AppKey("routes", list[Route])
_log = logs.get("http")


def build_app(deps: Deps) -> web.Application:
    """Everything of docs/DATA.md, "HTTP". Nothing runs before the application is started."""
    hub = Hub(deps.log, deps.clock, deps.limits)
    plans, sent_plans = PlanSource(deps.views, deps.limits.view_wait_s), SentPlans()
    snapshots = Snapshots(deps.views, plans, sent_plans, deps.limits)
    streams = Streams(hub, deps.log, snapshots, deps.clock, deps.limits)

    async def stream(request: web.Request) -> web.StreamResponse:
        return await streams.serve(request, request[IDENTITY])

    pulse = Pulse(deps.clock, deps.heartbeat_ages_s)
    sources = Sources(deps)
    draining = Draining()
    former_tokens = FormerTokens(deps.clock, allowed=deps.machine_tokens)
    reads = Reads(deps, hub, pulse, sources.counts, draining, streams.document, former_tokens.warnings)
    agents = Agents(deps, pulse, plans, sent_plans)
    renewals = Renewals(deps.certificates)
    standing = _standing(deps, renewals)
    machines, tokens = Machines(deps, standing, renewals), AccessTokens(deps, standing)
    authority = AuthorityReads(deps, standing, renewals)
    description = Description()
    table = description.routes = route_table(
        reads,
        agents,
        Acts(deps),
        sources,
        machines,
        authority,
        tokens,
        Login(deps, standing),
        stream,
        description.serve,
    )
    made: dict[web.AbstractRoute, Route] = {}
    guard = Guard(deps, made, standing, former_tokens)
    app = web.Application(middlewares=[guard.middleware()], client_max_size=deps.limits.body_bytes_max)
    for route in table:
        # add_route, not add_get: that would also open HEAD, which is not in the table.
        made[app.router.add_route(route.method, route.path, route.handler, expect_handler=only_known)] = route
    app[HUB], app[STREAMS], app[ROUTES], app[STANDING] = hub, streams, table, standing
    app[DRAINING] = draining
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(_tail)
    app.cleanup_ctx.append(_keep_standing)
    app.on_shutdown.append(_end_streams)
    return app


def _standing(deps: Deps, renewals: Renewals) -> Standing:
    authority = deps.authority
    if authority is None:
        return Standing(deps.views, deps.token_key, deps.clock, "", renewals, frozenset)
    return Standing(deps.views, deps.token_key, deps.clock, authority.domain, renewals, lambda: authority.retired)


async def _tail(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[HUB].run(), name="tail of the log")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _keep_standing(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[STANDING].run(), name="who is revoked")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _end_streams(app: web.Application) -> None:
    app[HUB].close("shutdown")


class HttpServer:
    """Listens for as long as it is an asynchronous context. `url` is known once it listens (port 0 is any)."""

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        limits: Limits | None = None,
        *,
        machines: tuple[str, int, ssl.SSLContext] | None = None,
    ) -> None:
        """`machines`: host, port and TLS of a second listener, for clients with certificates."""
        self._limits = limits or Limits()
        self._machines = machines
        self._machines_listener: asyncio.Server | None = None
        self._host = host
        self._port = port
        self._listener: asyncio.Server | None = None
        self._draining = app[DRAINING]
        self._doorman = Doorman(self._limits)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,  # a client that leaves frees its stream at once; writes are shielded
            shutdown_timeout=self._limits.drain_timeout_s,
        )

    async def __aenter__(self) -> HttpServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        assert self._listener is not None, "not started"
        return _url("http", self._listener)

    @property
    def machines_url(self) -> str:
        """Empty when there is no such listener."""
        return _url("https", self._machines_listener) if self._machines_listener else ""

    async def start(self) -> None:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._protocol, self._host, self._port, backlog=512)
        if self._machines is not None:
            host, port, tls = self._machines
            self._machines_listener = await loop.create_server(
                self._protocol, host, port, ssl=tls, backlog=512, ssl_handshake_timeout=self._limits.header_timeout_s
            )
        _log.info("listening", url=self.url, machines=self.machines_url)

    async def stop(self) -> None:
        if self._listener is not None and not self._draining.begun:
            self._draining.begun = True
            _log.info("draining", notice_s=self._limits.drain_notice_s, connections=self._doorman.open_count)
            await asyncio.sleep(self._limits.drain_notice_s)
            self._doorman.close()
        await self._runner.cleanup()
        for listener in (self._listener, self._machines_listener):
            if listener is not None:
                listener.close()

    def _protocol(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None
        return Connection(server, self._doorman, self._limits)


def _url(scheme: str, listener: asyncio.Server) -> str:
    host, port = listener.sockets[0].getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
