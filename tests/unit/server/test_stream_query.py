"""What may be asked of the change stream, by whom, and the filter that it becomes (S11)."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import MultiDict

from reconciler.core.filters import PARTS_OF, PlaceFilter
from reconciler.core.permission import Identity, Scope, Verb, allow
from reconciler.server.problems import Problem
from reconciler.server.stream_query import FILTERS, asked, reader_key
from reconciler.server.table import OWN, Route

READ: frozenset[Verb] = frozenset({"read"})
OPERATOR = Identity("operator", "ann")
NODE, EDGE = Identity("node", "node-a"), Identity("edge", "edge-a")
OF_SHOP = Identity("token", "t-1", Scope("acme", "shop", READ))
OF_ACME = Identity("token", "t-2", Scope("acme", "*", READ))
OF_ANY_SHOP = Identity("token", "t-3", Scope("*", "shop", READ))
OF_ALL = Identity("token", "t-4", Scope("*", "*", READ))


def query(text: str) -> MultiDict[str]:
    return MultiDict([(name, value) for name, _, value in (each.partition("=") for each in text.split("&") if each)])


async def nothing(_: Any) -> Any:
    raise AssertionError


ROUTE = Route("GET", "/v1/stream", "follow", OWN, nothing)


def admitted(who: Identity, text: str) -> bool:
    return allow(who, "follow", ROUTE.thing_for(who, {}, query(text)))


@pytest.mark.parametrize(
    ("who", "text", "key"),
    [
        (OPERATOR, "", "*"),
        (OPERATOR, "org=acme", "at:acme////"),
        (OPERATOR, "org=acme&project=shop", "at:acme/shop///"),
        (OPERATOR, "org=acme&project=shop&env=prod", "at:acme/shop/prod//"),
        (OPERATOR, "org=acme&project=shop&app=site", "at:acme/shop//site/"),
        (OPERATOR, "org=acme&project=shop&env=prod&app=site&kind=instance", "at:acme/shop/prod/site/instance"),
        (OPERATOR, "kind=node", "at:////node"),
        (OPERATOR, "org=acme&project=shop&env=prod&kind=environment", "at:acme/shop/prod//environment"),
        (OPERATOR, "org=acme&kind=revision", "at:acme////revision"),
        (OPERATOR, "node=node-a", "node:node-a"),
        (OPERATOR, "edge=1", "edge"),
        (OF_ALL, "", "*"),
        (OF_ALL, "node=node-a", "node:node-a"),
        (OF_ACME, "", "at:acme////"),
        (OF_ACME, "project=shop", "at:acme/shop///"),
        (OF_SHOP, "", "at:acme/shop///"),
        (OF_SHOP, "org=acme&env=prod", "at:acme/shop/prod//"),
        (OF_SHOP, "kind=instance", "at:acme/shop///instance"),
        (OF_ANY_SHOP, "org=globex", "at:globex/shop///"),
        (NODE, "", "node:node-a"),
        (EDGE, "", "edge"),
    ],
)
def test_what_is_asked_for_within_a_scope_is_one_key(who: Identity, text: str, key: str) -> None:
    assert admitted(who, text)
    assert reader_key(who, query(text)) == key


@pytest.mark.parametrize(
    ("who", "text"),
    [
        (OF_SHOP, "project=blog"),
        (OF_SHOP, "org=globex"),
        (OF_SHOP, "org=globex&project=shop"),
        (OF_SHOP, "node=node-a"),
        (OF_SHOP, "edge=1"),
        (OF_ACME, "org=globex"),
        (OF_ACME, "node=node-a"),
        (OF_ANY_SHOP, "org=acme&project=blog"),
        (Identity("token", "t-5", Scope("acme", "shop", frozenset({"act"}))), ""),
        (Identity("webhook", "main"), ""),
        (Identity("none", ""), "org=acme"),
    ],
)
def test_nobody_follows_what_is_outside_of_its_scope(who: Identity, text: str) -> None:
    assert not admitted(who, text)


@pytest.mark.parametrize("name", sorted(FILTERS))
@pytest.mark.parametrize("who", [NODE, EDGE], ids=str)
def test_a_machine_that_names_a_filter_is_refused(who: Identity, name: str) -> None:
    """Its own included: what it may see is no question of what it asks for."""
    value = {"edge": "1", "node": "node-a", "kind": "instance"}.get(name, "x")
    with pytest.raises(Problem) as refused:
        reader_key(who, query(f"{name}={value}"))
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("project=shop", "within an organisation"),
        ("env=prod", "within a project"),
        ("org=acme&env=prod", "within a project"),
        ("org=acme&app=site", "within a project"),
        ("kind=thing", "not known"),
        ("org=", "no name"),
        ("org=-", "no name"),
        ("org=*", "no name"),
        ("org=a/b", "no name"),
        ("org=acme&org=globex", "2 times"),
        ("node=a&edge=1", "filter of its own"),
        ("node=a&org=acme", "filter of its own"),
        ("edge=1&kind=instance", "filter of its own"),
        ("edge=edge-a", "not 1"),
        ("org=acme&kind=node", "has no org"),
        ("org=acme&kind=token", "has no org"),
        ("org=acme&project=shop&kind=revision", "has no project"),
        ("org=acme&project=shop&env=prod&kind=quota", "has no env"),
        ("org=acme&project=shop&app=site&kind=environment", "has no app"),
    ],
)
def test_what_names_no_filter_is_told_so(text: str, why: str) -> None:
    with pytest.raises(Problem, match=why) as refused:
        reader_key(OPERATOR, query(text))
    assert refused.value.status == 400


@pytest.mark.parametrize("text", ["snapshot=yes", "snapshot=1&cursor=log.1", "wait=-1", "wait=61", "wait=x"])
def test_a_beginning_that_is_none_is_told_so(text: str) -> None:
    with pytest.raises(Problem) as refused:
        asked(OPERATOR, query(text), 60)
    assert refused.value.status == 400


def test_a_key_says_what_was_asked_for() -> None:
    for kind in ("", *PARTS_OF):
        wanted = PlaceFilter("o", "p", "e", "a", kind)
        assert PlaceFilter.of(wanted.key) == wanted
