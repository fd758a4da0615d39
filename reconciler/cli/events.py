"""`trueup events`: reads the log, or follows it.

Without --after it shows the newest events that match, with it the first ones behind that event; either way page after
page until --limit. With --follow it goes on for ever (`events_follow`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from kit.errors import Refusal
from reconciler.cli.client import add_connection_options, connect
from reconciler.cli.output import Page, clean, print_entry, print_json, print_json_line, print_page

if TYPE_CHECKING:
    from kit.control_plane import ControlPlane
    from reconciler.core.event_filter import EventFilter
    from reconciler.core.events import Event

Doc = Mapping[str, Any]
PAGE_EVENTS = 1000
LIMIT_MAX = 1_000_000
COLUMNS = ("event", "time", "type", "actor", "source", "commit", "at", "request", "answers", "follows from", "what")

DESCRIPTION = """\
Reads the log: who did what, when, because of which commit, path and line, in which request, in answer to which event.
All filters must match. TIME is 2026-01-31T10:00:00Z (without a zone it is UTC) or 30s, 15m, 2h, 3d ago."""

_PLACES = (
    ("--org", "org", "ORG", "what is of this organisation"),
    ("--project", "project", "PROJECT", "of this project; give --org too, unless the token is bound to one"),
    ("--env", "env", "ENV", "of this environment of the project"),
    ("--app", "app", "APP", "of this app of the project"),
    ("--kind", "kind", "KIND", "of this kind: app, route, instance, node, ..."),
)
"""What something is about and where that belongs. The stream filters by these itself."""
_FILTERS = (
    *_PLACES,
    ("--actor", "actor", "TEXT", "occurs in the actor's name: an address, node:node-a, scheduler"),
    ("--source", "source_id", "SOURCE", ""),
    ("--commit", "commit", "COMMIT", "what this commit did; at least 4 digits"),
    ("--path", "path", "PATH", "a file of the repository, or a folder with all below it"),
    (
        "--request",
        "request",
        "ID",
        "the command that wrote it, or the request_id of the HTTP request that it came with",
    ),
    (
        "--follows-from",
        "correlation_id",
        "SOURCE@COMMIT",
        "all that followed from that revision; or from a request, by its id",
    ),
    ("--answers", "causation_id", "EVENT_ID", "what answered that event"),
    ("--aggregate-type", "aggregate_type", "TYPE", "source, app, instance, node, ...; several with commas"),
    ("--aggregate-id", "aggregate_id", "ID", ""),
    ("--type", "event_type", "TYPE", "instance.status_changed, or instance.* for all of them; several with commas"),
)
_ALIASES = {
    "--request": ("--command-id",),
    "--follows-from": ("--correlation-id",),
    "--answers": ("--causation-id",),
    "--type": ("--event-type",),
}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("events", help="read the log, or follow it", description=DESCRIPTION)
    add_connection_options(parser)
    parser.add_argument("--follow", "-f", action="store_true", help="go on with new events as they come")
    parser.add_argument(
        "--cursor-file", type=Path, metavar="FILE",
        help="with --follow, for scripts: JSON lines; FILE keeps how far they go, and the next run goes on from there",
    )  # fmt: skip
    parser.add_argument("--after", type=int, metavar="EVENT_ID", help="from behind this event; else the newest")
    parser.add_argument("--before", type=int, metavar="EVENT_ID", help="only older ones than this event")
    parser.add_argument("--since", default="", metavar="TIME", help="at or after this time")
    parser.add_argument("--until", default="", metavar="TIME", help="at or before this time")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many old events (default 50)")
    for flag, name, metavar, text in _FILTERS:
        parser.add_argument(flag, *_ALIASES.get(flag, ()), dest=name, default="", metavar=metavar, help=text or None)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.limit <= LIMIT_MAX:
        raise Refusal("read events", f"--limit {args.limit} is not from 0 to {LIMIT_MAX}", code="usage")
    if args.follow and (args.before is not None or args.until):
        raise Refusal("follow events", "what comes is behind --before and --until", fix="leave them out", code="usage")
    if args.cursor_file is not None and not args.follow:
        raise Refusal("read events", "--cursor-file is where --follow goes on", fix="give --follow", code="usage")
    from reconciler.cli.events_follow import follow

    asyncio.run(follow(args) if args.follow else _read(args))
    return 0


async def _read(args: argparse.Namespace) -> None:
    wanted(args)  # refuses what cannot be
    async with connect(args) as control_plane:
        _print_all(args, await old_events(control_plane, args, filters_of(args)))


def filters_of(args: argparse.Namespace) -> dict[str, Any]:
    """The query of GET /v1/events, as far as it chooses events."""
    query = {name: getattr(args, name) for _, name, _, _ in _FILTERS}
    query |= {name: _time(args, name) for name in ("since", "until")}
    return {**query, "commit": query["commit"].lower(), "before": "" if args.before is None else args.before}


def place_of(args: argparse.Namespace) -> dict[str, str]:
    """The same for the stream, as far as it knows it."""
    return {name: getattr(args, name) for _, name, _, _ in _PLACES if getattr(args, name)}


def wanted(args: argparse.Namespace) -> EventFilter:
    """What the stream does not know of it."""
    from reconciler.core.event_filter import EventFilter

    if not (args.causation_id or "0").isdigit():
        raise Refusal("read events", f"--answers {args.causation_id!r} is not an event's number", code="usage")
    return EventFilter(
        aggregate_types=tuple(filter(None, args.aggregate_type.split(","))),
        aggregate_id=args.aggregate_id,
        event_types=tuple(filter(None, args.event_type.split(","))),
        commit=args.commit.lower(),
        request=args.request,
        actor=args.actor,
        source_id=args.source_id,
        path=args.path,
        correlation_id=args.correlation_id,
        causation_id=int(args.causation_id or 0),
    )


def _time(args: argparse.Namespace, name: str) -> str:
    from reconciler.core.moments import parse_time

    text = getattr(args, name)
    time = parse_time(text, datetime.now(UTC)) if text else ""
    if time is None:
        fix = "write 2026-01-31T10:00:00Z, or 30s, 15m, 2h, 3d for that long ago"
        raise Refusal("read events", f"--{name} {text!r} is not a time", fix=fix, code="usage")
    return time


async def old_events(control_plane: ControlPlane, args: argparse.Namespace, query: Doc) -> dict[str, Any]:
    """The newest `limit` that match, or the first `limit` behind --after; page by page. `last_event_id` is where one
    goes on without a gap and without seeing anything twice."""
    newest = args.after is None
    place = {"newest": "true" if newest else "", "after": "" if newest else args.after, "before": query["before"]}
    found: list[Doc] = []
    head: Doc = {}
    while not head or len(found) < args.limit:
        size = max(1, min(PAGE_EVENTS, args.limit - len(found)))
        page = await control_plane.get_json(_path({**query, **place, "limit": size}))
        head = head if newest and head else page
        found = [*page["events"], *found] if newest else [*found, *page["events"]]
        onward = page["next_before"] if newest else page["next_after"]
        if onward is None:
            break
        place["before" if newest else "after"] = onward
    shown = found if args.limit else []
    last = head["last_event_id"] if newest or onward is None else onward
    return {"log_id": head["log_id"], "last_event_id": last, "events": shown}


def _path(query: Doc) -> str:
    return "/v1/events?" + urlencode({name: value for name, value in query.items() if value != ""})


def event_of(document: Doc) -> Event:
    from kit.codec import from_json
    from reconciler.core.events import Event

    return from_json(Event, document)


def _print_all(args: argparse.Namespace, document: Doc) -> None:
    if args.output == "json":
        print_json(document)
        return
    if not document["events"]:
        print_page(_nothing(document))
        return
    if sys.stdout.isatty():
        for event in document["events"]:
            print_one(args, event)
        return
    page = Page()
    page.add("", [], COLUMNS, map(row, document["events"]))
    print_page(page)


def _nothing(document: Doc) -> Page:
    page = Page()
    page.add("", [f"no events match; the log ends at event {document['last_event_id']}"])
    return page


def print_one(args: argparse.Namespace, event: Doc) -> None:
    if args.output == "json":
        print_json_line(event)
    elif sys.stdout.isatty():
        print_entry(*entry(event))
    else:
        sys.stdout.write("  ".join(clean(cell) for cell in row(event)) + "\n")
        sys.stdout.flush()


def row(event: Doc) -> tuple[str, ...]:
    """One line with everything; "-" where there is nothing, so that a script can count on the columns."""
    from reconciler.core.explain_history import sentence

    cause = event["cause"]
    place = f"{cause['path']}:{cause['line']}" if cause["path"] else ""
    cells = (
        f"#{event['event_id']}",
        event["occurred_at"],
        event["event_type"],
        cause["actor_id"] or cause["actor_type"],
        cause["source_id"],
        cause["commit"],
        place,
        event["command_id"],
        f"#{cause['causation_id']}" if cause["causation_id"] else "",
        cause["correlation_id"],
        sentence(event_of(event)),
    )
    return tuple(cell or "-" for cell in cells)


def entry(event: Doc) -> tuple[str, list[list[str]]]:
    """The same for a terminal: what happened first, then who and why. What is not there is left out."""
    number, at, kind, actor, source, commit, place, request, answers, follows, what = row(event)
    who = (("by", actor), ("source", source), ("commit", commit[:12]), ("at", place))
    why = (("request", request), ("answers", answers), ("follows from", follows))
    lines = ([f"{name} {value}" for name, value in parts if value != "-"] for parts in (who, why))
    return f"{number}  {what}", [[kind, at], *lines]
