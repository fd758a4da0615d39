"""`trueup diff A B`: the answer of GET /v1/diff as a page: what changed, and because of which events."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.cli.client import add_connection_options, fetch
from reconciler.cli.output import Page, print_json, print_page

Doc = Mapping[str, Any]

DESCRIPTION = """\
What changed between two moments, which are written as for `trueup state --at`. For example: trueup diff 1a2b3c4d now"""

_SIGNS = {"created": "+", "updated": "~", "removed": "-", "passed": "±"}
_SAID = {"passed": "came and went"}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("diff", help="what changed between two moments", description=DESCRIPTION)
    parser.add_argument("older", metavar="A", help="event, time, commit or now")
    parser.add_argument("newer", nargs="?", default="now", metavar="B", help="the same; default: now")
    parser.add_argument("--of", default="", metavar="KIND|RESOURCE", help="only this; else everything")
    add_connection_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    document = fetch(args, "/v1/diff", {"from": args.older, "to": args.newer, "of": args.of})
    if args.output == "json":
        print_json(document)
    else:
        print_page(page(document))
    return 0


def page(document: Doc) -> Page:
    made = Page()
    older, newer, changes = document["from"], document["to"], document["changes"]
    made.add("", [_headline(changes), f"from event {_end(older)}", f"to event {_end(newer)}"])
    made.add("NOT TOLD", [f"{name} does not follow the log: {why}" for name, why in document["broken"].items()])
    for each in changes:
        heading = f"{_SIGNS[each['verb']]} {each['kind']} {each['label']} {_SAID.get(each['verb'], each['verb'])}"
        made.add(heading, _fields(each["fields"]), ("event", "time", "because of", "what"), map(_cause, each["causes"]))
    return made


def _headline(changes: Iterable[Doc]) -> str:
    counted = Counter(each["verb"] for each in changes)
    told = [f"{counted[verb]} {_SAID.get(verb, verb)}" for verb in _SIGNS if counted[verb]]
    return ", ".join(told) or "nothing changed"


def _end(end: Doc) -> str:
    return f"{end['event_id']}, {end['at'] or 'before the first event'}"


def _fields(fields: Iterable[Doc]) -> Iterable[str]:
    return (f"{each['path']}: {_value(each['before'])} -> {_value(each['after'])}" for each in fields)


def _value(value: Any) -> str:
    if value in (None, ""):
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _cause(each: Doc) -> tuple[str, ...]:
    return (f"#{each['event_id']}", each["at"], each["cause"], each["what"])
