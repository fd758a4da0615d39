"""`trueup status`: GET /v1/status as a page."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.cli.client import add_connection_options, fetch
from reconciler.cli.output import Page, print_json, print_page

Doc = Mapping[str, Any]


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("status", help="everything on one page")
    add_connection_options(parser)
    parser.add_argument("--min-event-id", type=int, default=0, help="wait until the views show this event")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    document = fetch(args, "/v1/status", {"min_event_id": args.min_event_id or ""})
    if args.output == "json":
        print_json(document)
    else:
        print_page(page(document))
    return 0


def page(document: Doc) -> Page:
    made = Page()
    lag = max((each["lag_events"] for each in document["projections"]), default=0)
    problems = document["problems"]
    headline = "all is as Git says" if not problems else f"{problems} problem{'s' * (problems != 1)}"
    rolling = len(document["deployments"])
    held = len(document.get("acts", ()))
    if held:
        apart = "all else is as Git says" if not problems else headline
        headline = f"{apart}, {held} {'things are' if held > 1 else 'thing is'} held back by people"
    if rolling:
        headline += f", {rolling} deployment{'s' * (rolling != 1)} rolling"
    behind = f", the views are {lag} events behind" if lag else ""
    made.add("", [f"{headline} (event {document['event_id']}{behind})"])
    made.add("HELD BACK BY PEOPLE", [line for each in document.get("acts", ()) for line in _act(each)])
    made.add("PROBLEMS", _problems(document))
    made.add("WARNINGS", [f"{each['message']} ({each['fix']})" for each in document.get("warnings", ())])
    for heading, columns, rows in _tables(document):
        made.add(heading, [], columns, rows)
    return made


def _tables(document: Doc) -> Iterable[tuple[str, tuple[str, ...], Iterable[tuple[Any, ...]]]]:
    columns: tuple[str, ...] = ("source", "branch", "applied", "state", "refused", "fetched", "led by", "subject")
    yield "SOURCES", columns, map(_source, filter(_is_of_use, document["sources"]))
    yield "APPS", ("app", "process", "ready", "state", "release", "commit"), _apps(document["apps"])
    columns = ("deployment", "app", "kind", "reason", "release", "commit")
    yield "DEPLOYMENTS", columns, map(_deployment, document["deployments"])
    yield "ROUTES", ("route", "hostname", "state", "backends", "edges"), map(_route, document["routes"])
    yield "VOLUMES", ("volume", "home", "status", "state"), map(_volume, document["volumes"])
    yield "QUOTAS", ("scope", "of", "used", "limit"), map(_quota, document.get("quotas", ()))
    columns = ("node", "state", "heartbeat", "ready", "memory promised", "of", "accelerator", "agent")
    yield "NODES", columns, map(_node, document["nodes"])
    columns = ("lease", "controller", "since", "epoch", "trouble")
    yield "LEASES", columns, map(_lease, document.get("leases", ()))
    yield "PROJECTIONS", ("view", "event", "behind", "for"), map(_projection, document["projections"])


_PARTS = {
    "sources": "source_id",
    "apps": "app",
    "routes": "route",
    "volumes": "volume",
    "nodes": "node_id",
    "loops": "loop",
    "alarms": "identity_id",
}


def _problems(document: Doc) -> Iterable[str]:
    for part, name in _PARTS.items():
        for each in document.get(part, ()):
            for problem in each["problems"]:
                yield f"{each[name]}: {problem['message']}"
    for each in document.get("quarantined", ()):
        what = f"event {each['event_id']} cannot be folded: {each['error']}"
        yield f"view {each['projection']}, row {each['key']}: {what}"


def _act(each: Doc) -> Iterable[str]:
    yield f"{each['message']} ({each['effect']})"
    yield from (f"  {detail}" for detail in each["details"])
    yield f"  to end it: {each['fix']}"


def _source(each: Doc) -> tuple[Any, ...]:
    refused = each["refused_commit"][:12] or "-"
    applied = each["applied_commit"][:12] or "-"
    where = f"{each['branch']}:{each['path']}" if each["path"] else each["branch"]
    commits = (applied, each["applied_status"] or "-", refused)
    fetched = age(each["fetch_age_s"])
    return (each["source_id"], where, *commits, fetched, each["leader"] or "nobody", each["applied_subject"])


def _is_of_use(each: Doc) -> bool:
    """Sources that are over and have nothing any more are left to `trueup source list`."""
    return bool(each["followed"] or each["resources"])


def age(seconds: float | None) -> str:
    """How long ago the controller that is asked fetched it; a standby fetches too."""
    return "not here" if seconds is None else f"{seconds:.0f} s ago"


def _apps(apps: Iterable[Doc]) -> Iterable[tuple[Any, ...]]:
    for app in apps:
        for each in app["processes"]:
            ready = f"{each['ready']}/{each['desired']}"
            yield (app["app"], each["process"], ready, app["state"], app["release_id"] or "-", app["commit"][:12])


def _deployment(each: Doc) -> tuple[Any, ...]:
    commit = each["commit"][:12]
    return (each["deployment_id"], each["app"], each["kind"], each["reason"], each["release_id"], commit)


def _route(each: Doc) -> tuple[Any, ...]:
    edges = ", ".join(f"{edge['edge_id']} {edge['status']} ({edge['backends']})" for edge in each["edges"])
    listen = f"{each['hostname']}:{each['listen_port']}"
    return (each["route"], listen, each["state"], len(each["backends"]), edges or "none")


def _volume(each: Doc) -> tuple[Any, ...]:
    return (each["volume"], each["home_node"] or "-", each["status"] or "-", each["state"])


def _node(each: Doc) -> tuple[Any, ...]:
    age_s = each["heartbeat_age_s"]
    return (
        each["node_id"],
        _node_state(each),
        "not yet" if age_s is None else f"{age_s:.0f} s ago",
        f"{each['ready']}/{each['instances']}",
        f"{each['memory_promised_bytes'] >> 20} MiB",
        f"{each['memory_bytes'] >> 20} MiB",
        each["accelerator"],
        each["agent_version"],
    )


def _node_state(each: Doc) -> str:
    duty = each.get("duty", "active")
    return each["state"] if duty == "active" else duty if each["state"] == "active" else f"{duty}, {each['state']}"


def _quota(each: Doc) -> tuple[Any, ...]:
    sized = each["dimension"].endswith("_bytes")
    used, limit = (f"{each[name] >> 20} MiB" if sized else each[name] for name in ("used", "limit"))
    return (each["scope"], each["dimension"], used, limit)


def _lease(each: Doc) -> tuple[Any, ...]:
    holder = each["holder"] if each["held"] else "nobody"
    return (each["lease"], holder, each["since"] if each["held"] else "-", each["epoch"], each["trouble"] or "-")


def _projection(each: Doc) -> tuple[Any, ...]:
    return (each["view"], each["checkpoint"], each["lag_events"], f"{each.get('lag_s', 0.0):.1f} s")
