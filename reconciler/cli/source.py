"""`trueup source list`, `look`, `remove`: the repositories that are followed, through the controller."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from reconciler.cli.client import REQUEST_TIMEOUT_S, add_connection_options, connect, fetch
from reconciler.cli.output import Page, add_output_option, print_json, print_page
from reconciler.cli.status import age

Doc = Mapping[str, Any]

REMOVE = """\
Deletes all that a source declared that no controller follows any more: take it out of the settings first. The number of
its resources has to be named, so that nobody deletes more than he looked at."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("source", help="the repositories that are followed")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="all of them, those too that nobody follows any more")
    listing.set_defaults(run=_list)
    look = commands.add_parser("look", help="look at one now instead of at its next poll")
    look.set_defaults(run=_look)
    remove = commands.add_parser("remove", help="delete what a source declared that nobody follows", description=REMOVE)
    remove.add_argument(
        "--delete-resources", type=int, required=True, metavar="N", help="how many resources it has, and shall go"
    )
    remove.add_argument("--delete-volumes", action="store_true", help="the data of its volumes goes too")
    remove.add_argument("--reason", required=True, metavar="TEXT", help="why; it is recorded in the log")
    remove.set_defaults(run=_remove)
    for each in (look, remove):
        each.add_argument("name", metavar="NAME")
    for each in (listing, look, remove):
        add_connection_options(each)
        add_output_option(each)


def _list(args: argparse.Namespace) -> int:
    sources = fetch(args, "/v1/status")["sources"]
    if args.output == "json":
        print_json(sources)
    else:
        print_page(page(sources))
    return 0


def page(sources: list[Doc]) -> Page:
    made = Page()
    columns = ("source", "for", "repository", "branch", "path", "resources", "applied", "fetched", "led by")
    made.add("SOURCES", [], columns, [_row(each) for each in sources])
    told = [f"{each['source_id']}: {problem['message']}" for each in sources for problem in each["problems"]]
    made.add("PROBLEMS", told)
    return made


def _row(each: Doc) -> tuple[Any, ...]:
    leader = each["leader"] or ("nobody" if each["followed"] else "not followed")
    return (
        each["source_id"],
        f"{each['org']}/{each['project']}",
        each["url"],
        each["branch"],
        each["path"] or "-",
        each["resources"],
        each["applied_commit"][:12] or "-",
        age(each["fetch_age_s"]),
        leader,
    )


def _look(args: argparse.Namespace) -> int:
    return _told(args, _post(args, "look", {}), f"source {args.name} is looked at now")


def _remove(args: argparse.Namespace) -> int:
    asked = {"resources": args.delete_resources, "volumes": args.delete_volumes, "reason": args.reason}
    answer = _post(args, "remove", asked)
    gone = f"source {args.name} and its {args.delete_resources} resources are removed (event {answer['event_id']})"
    return _told(args, answer, gone if answer["event_id"] else f"source {args.name} was removed before")


def _post(args: argparse.Namespace, what: str, document: Doc) -> Any:
    async def ask() -> Any:
        async with connect(args) as control_plane:
            path = f"/v1/sources/{quote(args.name, safe='')}/{what}"
            return await control_plane.post_json(path, document, timeout_s=REQUEST_TIMEOUT_S)

    return asyncio.run(ask())


def _told(args: argparse.Namespace, answer: Doc, text: str) -> int:
    if args.output == "json":
        print_json(answer)
    else:
        sys.stdout.write(text + "\n")
    return 0
