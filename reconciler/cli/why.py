"""`trueup why RESOURCE`: the answer of GET /v1/why as a page. The reasoning is in `reconciler.core.explain`.

The reason comes first, with what to do about it; then what is wanted, what is there, and how it came to that.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.cli.client import add_connection_options, fetch
from reconciler.cli.output import Page, print_json, print_page

Doc = Mapping[str, Any]

DESCRIPTION = """\
Why is it as it is? RESOURCE is an app, route, volume, secret or environment by its name or by more of its identity
(site, app/site, prod/site/route/site, volume/notes-data), an instance id, a node, a commit, or an event as '#1234'.
Things that are gone are explained from the log."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("why", help="why a resource is as it is", description=DESCRIPTION)
    parser.add_argument("resource", metavar="RESOURCE")
    parser.add_argument("--min-event-id", type=int, default=0, help="wait until the views show this event")
    add_connection_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    document = fetch(args, "/v1/why", {"resource": args.resource, "min_event_id": args.min_event_id or ""})
    if args.output == "json":
        print_json(document)
    else:
        print_page(page(document))
    return 0


def page(document: Doc) -> Page:
    made = Page()
    made.add("", [f"{document['subject']['label']}: {document['verdict']}", document["headline"]])
    for number, each in enumerate(document["differences"], start=1):
        made.add(f"WHY {number}: {each['code']}" if each["code"] else f"WHY {number}", _difference(each))
    made.add("WANTED", _desired(document["desired"]))
    columns = ("instance", "process", "node", "desired", "status", "since", "restarts", "release")
    made.add("THERE", _facts(document["facts"]), columns, map(_observed, document["observed"]))
    steps = ("event", "time", "because of", "what")
    omitted = document["history_omitted"]
    note = [f"{omitted} older events are left out: `trueup events` has them all"] if omitted else []
    made.add("HOW IT CAME TO THIS", note, steps, map(_step, document["history"]))
    made.add("SEE ALSO", [f"trueup why {each['label']}" for each in document["see_also"]])
    return made


def _desired(desired: Doc | None) -> Iterable[str]:
    if desired is None:
        return
    yield from desired["summary"]
    if desired["commit"]:
        yield f"commit {desired['commit']} of source {desired['source_id']}: {desired['subject'] or '(no subject)'}"
    if desired["author"]:
        yield f"by {desired['author']}"
    if desired["path"]:
        yield f"at {desired['path']}:{desired['line']}"


def _facts(facts: Iterable[Doc]) -> list[str]:
    return [f"{each['name']}: {each['value']}" for each in facts if each["value"]]


def _observed(each: Doc) -> tuple[Any, ...]:
    offline = " (offline)" if each["node_state"] == "offline" else ""
    former = "" if each["current"] else " (former)"
    return (
        each["instance_id"],
        each["process"],
        each["node_id"] + offline,
        each["desired"],
        each["status"],
        each["since"] or "-",
        each["restarts"],
        each["release_id"] + former,
    )


def _difference(each: Doc) -> Iterable[str]:
    yield each["message"]
    yield from (f"  {detail}" for detail in each["details"])
    if each["fix"]:
        yield f"To mend it: {each['fix']}"
    if each["event_id"]:
        yield f"Seen in event {each['event_id']}" + (f" at {each['at']}" if each["at"] else "")


def _step(each: Doc) -> tuple[Any, ...]:
    again = f" ({each['count']} times, last #{each['last_event_id']} at {each['last_at']})" if each["count"] > 1 else ""
    return (f"#{each['event_id']}", each["at"], each["cause"], each["what"] + again)
