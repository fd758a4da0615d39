"""Everybody times every route: schemas/golden/permissions.json is the table, so that a review sees whatever widens.

After a change that is meant: TRUEUP_UPDATE_GOLDEN=1 pytest tests/unit/server/test_permissions.py; read the difference.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kit.errors import Bug
from reconciler.core.permission import (
    IDENTITY_ROLES,
    NOBODY,
    SCOPED_VERBS,
    THING_KINDS,
    VERBS,
    Identity,
    Scope,
    Thing,
    allow,
)
from reconciler.server.app import ROUTES
from reconciler.server.table import Route
from tests.unit.server.world import serving

GOLDEN = Path(str(resources.files("schemas"))) / "golden" / "permissions.json"
PATH = {
    "node": "node-a",
    "edge": "edge-a",
    "source": "shop",
    "instance": "i-1",
    "token": "t-1",
    "view": "nodes",
    "key": "x",
}
PROJECTS = {"shop": ("acme", "shop")}
EVERY = frozenset(SCOPED_VERBS)
READ = frozenset({"read"})


def token(verbs: Any, org: str = "*", project: str = "*") -> Identity:
    return Identity("token", "t-1", Scope(org, project, verbs))


def oidc(verbs: Any, org: str = "*", project: str = "*") -> Identity:
    return Identity("oidc", "corp:ann", Scope(org, project, verbs))


CALLERS = {
    "nobody": NOBODY,
    "the node": Identity("node", "node-a"),
    "another node": Identity("node", "node-b"),
    "a node that is called as the edge": Identity("node", "edge-a"),
    "the edge": Identity("edge", "edge-a"),
    "another edge": Identity("edge", "edge-b"),
    "the source's webhook": Identity("webhook", "shop"),
    "another source's webhook": Identity("webhook", "blog"),
    "operator": Identity("operator", "ann"),
    "token for nothing": token(frozenset()),
    "token to read": token(READ),
    "token to act": token(frozenset({"act"})),
    "token for every verb": token(EVERY),
    "token for every verb of the project": token(EVERY, "acme", "shop"),
    "token for every verb of the organisation": token(EVERY, "acme"),
    "token for every verb of another project": token(EVERY, "acme", "blog"),
    "OIDC for nothing": oidc(frozenset()),
    "OIDC to read": oidc(READ),
    "OIDC for every verb": oidc(EVERY),
    "OIDC for every verb of the project": oidc(EVERY, "acme", "shop"),
}


def may(caller: Identity, route: Route) -> bool:
    thing = route.thing_for(caller, PATH, {"source": "shop"})
    whose = PROJECTS[thing.name] if thing.kind == "source" else ("", "")
    return allow(caller, route.verb, Thing(thing.kind, thing.name, *whose))


async def test_everybody_may_what_the_golden_table_says_and_nothing_else() -> None:
    async with serving() as world:
        routes = world.app[ROUTES]
    table = {
        f"{route.method} {route.path}": {
            "does": f"{route.verb} {route.thing}",
            "may": [name for name, caller in CALLERS.items() if may(caller, route)],
        }
        for route in routes
    }
    assert len(table) == len(routes)
    text = json.dumps(table, indent=1) + "\n"
    if os.environ.get("TRUEUP_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


async def nothing(_: web.Request) -> web.StreamResponse:
    raise AssertionError


@pytest.mark.parametrize(
    ("verb", "thing"),
    [
        ("", ""),
        ("read", ""),
        ("", "fleet"),
        ("rule", "fleet"),
        ("read", "world"),
        ("act", "node {nodes}"),
        ("act", "x y"),
    ],
)
def test_a_route_that_does_not_say_what_it_does_to_what_does_not_start(verb: Any, thing: str) -> None:
    with pytest.raises(Bug, match="not said what it does"):
        Route("GET", "/v1/nodes/{node}/x", verb, thing, nothing)


def test_what_is_not_written_down_is_denied() -> None:
    """Over all roles, verbs and things at once: a machine reaches its own name only, nobody reaches nothing."""
    for role, verb, kind in product(IDENTITY_ROLES, VERBS, THING_KINDS):
        somebody = Identity(role, "a", Scope(verbs=frozenset(VERBS)))
        allowed = allow(somebody, verb, Thing(kind, "a"))
        if kind == "service":
            assert allowed == (verb in ("probe", "join") or (verb == "self" and role != "none"))
        elif role == "none":
            assert not allowed
        elif role in ("node", "edge", "webhook"):
            assert not allow(somebody, verb, Thing(kind, "b"))
            assert not allow(Identity(role, ""), verb, Thing(kind, ""))
            assert not allowed or kind == (role if role != "webhook" else "source")
        if role in ("token", "oidc") and kind != "service":
            assert allowed == allow(Identity("operator", "a"), verb, Thing(kind, "a"))


@pytest.mark.parametrize("verb", VERBS)
def test_a_token_without_the_verb_does_nothing_with_it(verb: Any) -> None:
    others = frozenset(VERBS) - {verb, "read"}
    for kind in ("fleet", "source", "node", "edge"):
        assert not allow(token(others), verb, Thing(kind, "a"))


def test_a_thing_whose_project_is_not_known_is_out_of_reach_of_a_bound_token() -> None:
    assert allow(token(EVERY, "acme", "shop"), "look", Thing("source", "shop", "acme", "shop"))
    assert not allow(token(EVERY, "acme", "shop"), "look", Thing("source", "shop"))
    assert not allow(token(EVERY, "", ""), "look", Thing("source", "shop"))
