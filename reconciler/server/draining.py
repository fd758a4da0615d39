"""Whether this server is on its way out. Set by `HttpServer.stop`, read by readiness and by every answer's header."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web


@dataclass(slots=True)
class Draining:
    begun: bool = False


DRAINING = web.AppKey("draining", Draining)
