"""What an entry of the route table is. The table itself is in `reconciler.server.routes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from reconciler.server.auth import Identity, Role

ANONYMOUS: Literal["anonymous"] = "anonymous"

IDENTITY = web.RequestKey("identity", Identity)
"""Who asks; set by the guard on every route but the anonymous ones."""
REQUEST_ID = web.RequestKey("request_id", str)

Budget = Literal["request", "agent", "heartbeat", "stream", "webhook", "unproven"]
"""What a request counts against: see `reconciler.server.rates`."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """`roles`: who may; nobody else. `path` parameters {node}, {edge} and {source} have to be the caller's own name,
    see `auth.PATH_NAME_OF_ROLE`. `streams`: the answer has no time limit of its own. `prove`: tells who asks when there
    is no Authorization header; it raises a `Problem` when it cannot. `budget`: the rate of its callers. `query`: the
    parameters that it knows, any other is refused; None: nobody looks. `body`: it reads one."""

    method: Literal["GET", "POST"]
    path: str
    roles: frozenset[Role | Literal["anonymous"]]
    handler: Handler
    streams: bool = False
    prove: Callable[[web.Request], Awaitable[Identity]] | None = None
    budget: Budget = "request"
    query: frozenset[str] | None = frozenset()
    body: bool = False
