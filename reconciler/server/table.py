"""What an entry of the route table is. The table itself is in `reconciler.server.routes`.

Each entry says what is done (`verb`) to what (`thing`), which is all that `reconciler.core.permission` is asked about:
"fleet", or "node {node}" for the node that the path names, or "source ?source" for the one that the query names. An
entry that says neither, or something that is not known, is a Bug when the controller starts.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from kit.errors import Bug
from reconciler.core.permission import (
    IDENTITY_ROLES,
    NOBODY,
    THING_KINDS,
    VERBS,
    Identity,
    Thing,
    Verb,
    allow,
    asked_place,
)

IDENTITY = web.RequestKey("identity", Identity)
"""Who asks; set by the guard on every route but those that are open to everybody."""
REQUEST_ID = web.RequestKey("request_id", str)

Budget = Literal["request", "agent", "heartbeat", "stream", "webhook", "unproven"]
"""What a request counts against: see `reconciler.server.rates`."""

ENDS_AT_S = web.RequestKey("ends_at_s", float)
"""When what the caller showed stops to be good, in seconds since 1970; not set when nothing but a view says so."""

OWN = "own"
"""The thing of the change stream: a machine's own; for people the fleet, or the part of it that they ask for."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_THING = re.compile(r"(\w+)(?: (?:{(\w+)}|\?(\w+)))?")
_SOMEBODY = "somebody"


@dataclass(frozen=True, slots=True)
class Route:
    """What it does to what: `verb` and `thing`, see `reconciler.core.permission`. `streams`: the answer has no time
    limit of its own. `prove`: tells who asks when there is no Authorization header; it raises a `Problem` when it
    cannot. `budget`: the rate of its callers. `query`: the parameters that it knows, any other is refused; None: nobody
    looks. `body`: it reads one."""

    method: Literal["GET", "POST"]
    path: str
    verb: Verb
    thing: str
    handler: Handler
    streams: bool = False
    prove: Callable[[web.Request], Awaitable[Identity]] | None = None
    budget: Budget = "request"
    query: frozenset[str] | None = frozenset()
    body: bool = False

    def __post_init__(self) -> None:
        found = _THING.fullmatch(self.thing)
        known = self.thing == OWN or (
            found is not None and found[1] in THING_KINDS and (not found[2] or f"{{{found[2]}}}" in self.path)
        )
        if self.verb not in VERBS or not known:
            raise Bug(
                f"serve {self.method} {self.path}",
                f"it is not said what it does to what: {self.verb!r} {self.thing!r}",
                fix="name a verb and a thing of reconciler.core.permission in reconciler/server/routes.py",
                code="route_unnamed",
            )

    def thing_for(self, identity: Identity, path: Mapping[str, str], query: Mapping[str, str]) -> Thing:
        if self.thing == OWN:
            match identity.role:
                case "node" | "edge":
                    return Thing(identity.role, identity.name)
                case _:
                    return _fleet_part(identity, query)
        found = _THING.fullmatch(self.thing)
        assert found is not None
        name = path[found[2]] if found[2] else query.get(found[3], "") if found[3] else ""
        kind = next(each for each in THING_KINDS if each == found[1])
        return Thing(kind, name)

    @property
    def open_to_all(self) -> bool:
        return allow(NOBODY, self.verb, self.thing_for(NOBODY, _WhateverPath(), {}))

    @property
    def roles(self) -> frozenset[str]:
        """Who may, when the path names the caller itself; "anonymous" alone: all. Tokens and OIDC are as operators."""
        if self.open_to_all:
            return frozenset({"anonymous"})
        callers = [Identity(role, _SOMEBODY) for role in IDENTITY_ROLES if role not in ("none", "token", "oidc")]
        return frozenset(
            each.role for each in callers if allow(each, self.verb, self.thing_for(each, _WhateverPath(), {}))
        )


def _fleet_part(identity: Identity, query: Mapping[str, str]) -> Thing:
    """What of the fleet's changes a person asks for. Those of a machine are of many projects."""
    if "node" in query or "edge" in query:
        return Thing("fleet")
    return Thing("fleet", "", *asked_place(identity.scope, query.get("org", ""), query.get("project", "")))


class _WhateverPath(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return _SOMEBODY
