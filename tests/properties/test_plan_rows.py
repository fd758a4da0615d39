"""Plans out of rows that are kept sorted equal plans out of all rows, whatever changes between two pictures.

An edge asks now and then only, holding any version that it was ever told; what it then holds is the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kit.codec import to_json
from kit.plan_delta import whole
from reconciler.core import route_book
from reconciler.core.plan_rows import NodeRows, changes
from reconciler.core.plans import node_plan, route_plan
from reconciler.core.route_book import RouteBook
from tests.unit.projections.samples import PAYLOADS, SPECS

NODES = ("node-a", "node-b")
APPS = ("a", "b")
ENV = "acme/shop/prod"
some = st.sampled_from


def _instance(node: str, app: str, process: str, desired: str, status: str) -> dict[str, Any]:
    mine = {"node_id": node, "app": f"{ENV}/{app}/app/{app}", "process": process, "desired": desired, "status": status}
    endpoints = [{"port": 8080, "address": "fd00::1", "reach_port": 80}]
    return {**PAYLOADS["instance.allocated"], **mine, "endpoints": endpoints}


def _route(hostname: str, listen_port: int, protocol: str, created: int) -> dict[str, Any]:
    spec = {**SPECS["route"], "hostname": hostname, "listen_port": listen_port, "protocol": protocol}
    return {"kind": "route", "spec": spec, "created_event_id": created}


def _volume(node: str) -> dict[str, Any]:
    return {"kind": "volume", "spec": SPECS["volume"], "home_node": node}


INSTANCES = st.builds(
    _instance, some(NODES), some(APPS), some(("web", "db")), some(("running", "draining")), some(("ready", "unready"))
)
ROUTES = st.builds(
    _route, some(("x.example", "y.example")), some((443, 444)), some(("tls_passthrough", "tcp_raw")), st.integers(1, 3)
)
ROUTE_IDS = [f"{ENV}/{app}/route/{name}" for app in APPS for name in ("one", "two")]
VOLUME_IDS = [f"{ENV}/{app}/volume/data" for app in APPS]
STEPS = st.fixed_dictionaries(
    {
        "instances": st.dictionaries(some(["i-1", "i-2", "i-3", "i-4"]), st.none() | INSTANCES, max_size=3),
        "resources": st.dictionaries(some(ROUTE_IDS), st.none() | ROUTES, max_size=3),
        "volumes": st.dictionaries(some(VOLUME_IDS), st.none() | st.builds(_volume, some((*NODES, "")))),
        "tombstones": st.dictionaries(st.tuples(some(VOLUME_IDS), some(NODES)), some((None, {}))),
        "asks": st.integers(-1, 9),
    }
)
Rows = dict[str, dict[str, Any]]


def _after(rows: Rows, step: Mapping[str, Any]) -> Rows:
    named: Rows = {
        "instances": {key: row and {**row, "instance_id": key} for key, row in step["instances"].items()},
        "resources": {
            key: row and {**row, "resource_id": key, "name": key.rsplit("/", 1)[1]}
            for key, row in {**step["resources"], **step["volumes"]}.items()
        },
        "tombstones": {
            f"{volume}@{node}": row if row is None else {"resource_id": volume, "node_id": node}
            for (volume, node), row in step["tombstones"].items()
        },
    }
    return {
        view: {key: row for key, row in {**rows[view], **changed}.items() if row is not None}
        for view, changed in named.items()
    }


def _by_name(plan: Mapping[str, Any]) -> dict[str, Any]:
    named = {route["route_id"]: route for route in plan["routes"]}
    assert len(named) == len(plan["routes"])
    return {**plan, "routes": named, "digest": ""}


@given(st.lists(STEPS, max_size=12))
@settings(deadline=None)
def test_what_is_kept_gives_the_plans_of_all_rows(steps: list[dict[str, Any]]) -> None:
    rows: Rows = {view: {} for view in ("instances", "resources", "tombstones")}
    nodes, book = NodeRows(), RouteBook()
    told: list[Mapping[str, Any]] = []
    for generation, step in enumerate(steps, start=1):
        before, rows = rows, _after(rows, step)
        for view in rows:
            changed = changes(before[view], rows[view])
            nodes.take(view, changed)
            book.take(view, changed)
        for node in NODES:
            wanted = node_plan(rows, node, log_id="log", generation=generation)
            assert node_plan(nodes.of_node(node), node, log_id="log", generation=generation) == wanted
        for _ in book.settle():
            pass
        held = told[step["asks"] % len(told)] if told and step["asks"] >= 0 else None
        answer = book.answer("edge-1", "log", generation, held["digest"] if held else "")
        told.append(whole(held if "base" in answer else None, answer))
        assert _by_name(told[-1]) == _by_name(to_json(route_plan(rows, "edge-1", log_id="log", generation=generation)))


def _book(routes: int) -> RouteBook:
    book = RouteBook()
    _turn(
        book,
        {
            f"{ENV}/a/route/r{number}": _route(f"{number}.example", 443, "tls_passthrough", 1)
            for number in range(routes)
        },
    )
    return book


def _turn(book: RouteBook, routes: Mapping[str, Any]) -> None:
    book.take("resources", [(key, None, {**row, "resource_id": key}) for key, row in routes.items()])
    for _ in book.settle():
        pass


def test_a_route_that_cannot_be_planned_stays_as_it_was_and_stops_no_other() -> None:
    book = _book(2)
    first = whole(None, book.answer("edge-1", "log", 1, ""))
    one, two = (f"{ENV}/a/route/r{number}" for number in range(2))
    _turn(
        book,
        {
            one: {**_route("0.example", 443, "tls_passthrough", 1), "spec": {}},
            two: _route("new.example", 443, "tls_passthrough", 1),
        },
    )
    assert list(book.broken) == [one] and "hostname" in book.broken[one]
    told = whole(first, book.answer("edge-1", "log", 2, first["digest"]))
    assert sorted(route["hostname"] for route in told["routes"]) == ["0.example", "new.example"]
    _turn(book, {one: _route("mended.example", 443, "tls_passthrough", 1)})
    assert not book.broken


def test_versions_are_bounded_and_who_holds_an_older_one_is_told_the_whole() -> None:
    book = _book(1)
    first = book.answer("edge-1", "log", 1, "")
    for number in range(route_book.VERSIONS_MAX):
        _turn(book, {f"{ENV}/a/route/r0": _route(f"v{number}.example", 443, "tls_passthrough", 1)})
    assert "base" not in book.answer("edge-1", "log", 2, first["digest"])
    large = route_book.CHANGES_MAX + 1
    before = book.answer("edge-1", "log", 2, "")
    _turn(
        book,
        {
            f"{ENV}/b/route/r{number}": _route(f"{number}.b.example", 443, "tls_passthrough", 1)
            for number in range(large)
        },
    )
    answer = book.answer("edge-1", "log", 3, before["digest"])
    assert "base" not in answer and len(answer["routes"]) == large + 1
