"""Claims follow from events: taken, handed over, freed."""

from __future__ import annotations

from dataclasses import replace

from reconciler.core.claims import Claims
from reconciler.core.events import NewEvent
from tests.unit.projections.samples import ROUTE, SPECS, VOLUME, WORKLOAD, as_log, new_event

ENV = "acme/shop/prod"
OTHER = "acme/shop/prod/site/route/other"


def held(*events: NewEvent) -> dict[str, str]:
    claims = Claims()
    for event in as_log(events):
        claims.apply(event)
    return {f"{kind}:{key}": claim.owner for (kind, key), claim in claims.held.items()}


def counted(holder: str, used: str) -> dict[str, str]:
    """What is held when this is all that is used."""
    scopes = (ENV, "acme/shop", "acme")
    return {f"use:{holder}": f"{ENV} {used}", **{f"quota:{scope}": f" | {used}" for scope in scopes}}


def route(what: str, resource_id: str = ROUTE, **changes: object) -> NewEvent:
    return new_event(f"route.{what}", resource_id=resource_id, spec={**SPECS["route"], **changes})


def test_a_route_holds_its_name_and_its_listener() -> None:
    shop = {f"resource:{ROUTE}": "shop", **counted(ROUTE, "routes=1")}
    assert held(route("created")) == {**shop, "hostname:www.example.org:443": ROUTE}
    assert held(route("created"), route("updated", hostname="b.example.org", protocol="tcp_raw")) == {
        **shop,
        "hostname:b.example.org:443": ROUTE,
        "hostname:*:443": ROUTE,
    }
    assert held(route("created"), new_event("route.deleted")) == {}


def test_a_resource_that_another_source_takes_over_is_that_ones() -> None:
    claims = Claims()
    created, moved = as_log([route("created"), new_event("route.moved")])
    claims.apply(created)
    claims.apply(replace(moved, cause=replace(moved.cause, source_id="other")))
    owners = {(kind, key): claim.owner for (kind, key), claim in claims.held.items()}
    assert owners["resource", ROUTE] == "other"
    assert owners["hostname", "www.example.org:443"] == ROUTE


def test_a_host_name_is_handed_over_whatever_comes_first_in_the_command() -> None:
    gone = new_event("route.deleted")
    for order in ((gone, route("created", OTHER)), (route("created", OTHER), gone)):
        assert held(route("created"), *order) == {
            f"resource:{OTHER}": "shop",
            "hostname:www.example.org:443": OTHER,
            **counted(OTHER, "routes=1"),
        }


def test_an_instance_holds_address_and_volumes_until_it_is_over() -> None:
    allocated, stopping = (
        new_event("instance.allocated"),
        new_event("instance.desired_state_changed", desired="stopped"),
    )
    stopped = new_event("instance.status_changed", status="stopped", counter=2)
    mine = {"address:fd00::1": "i-1", f"volume_writer:{VOLUME}": "i-1"}
    used = counted("i-1", "instances=1 memory_bytes=243269632")
    assert held(allocated) == {**mine, **used}
    assert held(allocated, stopped) == {**mine, **used}, "it is still desired running"
    assert held(allocated, new_event("instance.desired_state_changed")) == {**mine, **used}, "it drains"
    assert held(allocated, stopping) == mine, "it is not stopped yet, and shall not run any more"
    assert held(allocated, stopping, stopped) == {}
    assert held(allocated, stopped, stopping) == {}
    assert held(allocated, stopping, stopped, stopped) == {}


def test_a_report_of_an_older_epoch_frees_nothing() -> None:
    again = new_event("instance.allocated", epoch=2)
    old = new_event("instance.status_changed", status="stopped", epoch=1)
    draining = new_event("instance.desired_state_changed")
    assert held(new_event("instance.allocated"), again, draining, old) != {}


def test_a_reader_of_a_volume_holds_only_its_address() -> None:
    mounts = [{"volume_id": VOLUME, "path": "/data", "read_only": True}]
    assert held(new_event("instance.allocated", workload={**WORKLOAD, "mounts": mounts})) == {
        "address:fd00::1": "i-1",
        **counted("i-1", "instances=1 memory_bytes=243269632"),
    }


def test_a_node_that_moves_frees_its_subnet() -> None:
    assert held(new_event("node.enrolled"), new_event("node.enrolled", subnet="fd01::/64")) == {
        "subnet:fd01::/64": "node-a"
    }
