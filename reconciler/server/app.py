"""The HTTP application and the server that carries it.

`reconciler.bootstrap` calls `build_app` with what `Deps` asks for and gives the result to `HttpServer`. The tail of the
log (`Hub`) runs for as long as the application does.

Shutdown: readiness says no and every answer closes its connection, for `drain_notice_s`; then no new connection is
accepted, idle ones are closed, streams get their end line and go elsewhere, requests at work have `drain_timeout_s` to
finish and are cancelled after it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from kit import logs
from reconciler.core.filters import keys
from reconciler.server.acts import Acts
from reconciler.server.agents import Agents
from reconciler.server.connections import Connection, Doorman
from reconciler.server.deps import Deps
from reconciler.server.description import Description
from reconciler.server.draining import DRAINING, Draining
from reconciler.server.guard import Guard, add_headers
from reconciler.server.hub import Hub
from reconciler.server.limits import Limits
from reconciler.server.pulse import Pulse
from reconciler.server.reads import Reads
from reconciler.server.routes import route_table
from reconciler.server.sources import Sources
from reconciler.server.streams import Streams
from reconciler.server.table import IDENTITY, Route

HUB = web.AppKey("hub", Hub)
STREAMS = web.AppKey("streams", Streams)
ROUTES = web.AppKey("routes", list[Route])
_log = logs.get("http")


def build_app(deps: Deps) -> web.Application:
    """Everything of docs/DATA.md, "HTTP". Nothing runs before the application is started."""
    hub = Hub(deps.log, keys, deps.clock, deps.limits)
    streams = Streams(hub, deps.log, deps.clock, deps.limits)

    async def stream(request: web.Request) -> web.StreamResponse:
        return await streams.serve(request, request[IDENTITY])

    pulse = Pulse(deps.clock, deps.heartbeat_ages_s)
    sources = Sources(deps)
    draining = Draining()
    reads, agents = Reads(deps, hub, pulse, sources.counts, draining), Agents(deps, pulse)
    description = Description()
    table = description.routes = route_table(reads, agents, Acts(deps), sources, stream, description.serve)
    made: dict[web.AbstractRoute, Route] = {}
    app = web.Application(middlewares=[Guard(deps, made).middleware()], client_max_size=deps.limits.body_bytes_max)
    for route in table:
        # add_route, not add_get: that would also open HEAD, which is not in the table.
        made[app.router.add_route(route.method, route.path, route.handler)] = route
    app[HUB], app[STREAMS], app[ROUTES] = hub, streams, table
    app[DRAINING] = draining
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(_tail)
    app.on_shutdown.append(_end_streams)
    return app


async def _tail(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[HUB].run(), name="tail of the log")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _end_streams(app: web.Application) -> None:
    app[HUB].close("shutdown")


class HttpServer:
    """Listens for as long as it is an asynchronous context. `url` is known once it listens (port 0 is any)."""

    def __init__(self, app: web.Application, host: str, port: int, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
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
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._protocol, self._host, self._port, backlog=512)
        _log.info("listening", url=self.url)

    async def stop(self) -> None:
        if self._listener is not None and not self._draining.begun:
            self._draining.begun = True
            _log.info("draining", notice_s=self._limits.drain_notice_s, connections=self._doorman.open_count)
            await asyncio.sleep(self._limits.drain_notice_s)
            self._listener.close()
        await self._runner.cleanup()

    def _protocol(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None
        return Connection(server, self._doorman, self._limits)
