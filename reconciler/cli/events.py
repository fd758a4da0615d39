"""`trueup events`: reads the log, or follows it.

Without --after it shows the newest events. With --follow it goes on for ever: through restarts of the controller, from
the last cursor, without a gap and without showing an event twice.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kit.backoff import Backoff
from kit.errors import Refusal, Transient
from reconciler.cli.client import add_connection_options, connect
from reconciler.cli.output import Page, clean, print_json, print_json_line, print_page

if TYPE_CHECKING:
    from kit.control_plane import ControlPlane

Doc = Mapping[str, Any]
PAGE_EVENTS = 1000
IDLE_TIMEOUT_S = 45.0


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("events", help="read the log, or follow it")
    add_connection_options(parser)
    parser.add_argument("--follow", "-f", action="store_true", help="go on with new events as they come")
    parser.add_argument("--after", type=int, metavar="EVENT_ID", help="from behind this event; else the newest")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many old events (default 50)")
    parser.add_argument("--aggregate-type", default="", metavar="TYPE", help="source, app, instance, node, ...")
    parser.add_argument("--aggregate-id", default="", metavar="ID")
    parser.add_argument("--event-type", default="", metavar="TYPE", help="such as instance.status_changed")
    parser.add_argument("--commit", default="", metavar="COMMIT", help="what this commit did; at least 4 digits")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.limit <= 100_000:
        raise Refusal("read events", f"--limit {args.limit} is not from 0 to 100000", code="usage")
    asyncio.run(_run(args))
    return 0


async def _run(args: argparse.Namespace) -> None:
    async with connect(args) as control_plane:
        old = await _old_events(control_plane, args)
        if not args.follow:
            _print_all(args, old)
            return
        for event in old["events"]:
            _print_one(args, event)
        async for event in _new_events(control_plane, f"{old['log_id']}.{old['last_event_id']}"):
            if wanted(event, args):
                _print_one(args, event)


async def _old_events(control_plane: ControlPlane, args: argparse.Namespace) -> dict[str, Any]:
    """The newest `limit`, or the first `limit` behind --after."""
    filters = {name: getattr(args, name) for name in ("aggregate_type", "aggregate_id", "event_type", "commit")}
    head = await control_plane.get_json("/v1/events", limit=1)
    if args.after is None:
        after = 0 if any(filters.values()) else max(0, head["last_event_id"] - args.limit)
    else:
        after = args.after
    found: deque[Doc] = deque(maxlen=args.limit if args.after is None else None)
    while args.limit and (args.after is None or len(found) < args.limit):
        page = await control_plane.get_json("/v1/events", after=after, limit=PAGE_EVENTS, **filters)
        found.extend(page["events"])
        head = page
        if page["next_after"] is None:
            break
        after = page["next_after"]
    return {"log_id": head["log_id"], "last_event_id": head["last_event_id"], "events": list(found)[: args.limit]}


async def _new_events(control_plane: ControlPlane, cursor: str) -> AsyncIterator[Doc]:
    backoff, failures, rng = Backoff(0.2, 10.0), 0, random.Random()  # noqa: S311  # jitter
    while True:
        try:
            async with control_plane.lines("/v1/stream", idle_timeout_s=IDLE_TIMEOUT_S, cursor=cursor) as lines:
                async for line in lines:
                    failures = 0
                    if line["type"] == "change":
                        yield line["event"]
                    cursor = line.get("cursor", cursor)
        except Transient as error:
            failures += 1
            if failures == 1:
                sys.stderr.write(f"waiting: {clean(error.why)}\n")
        await asyncio.sleep(backoff.delay_s(max(failures, 1), rng))


def wanted(event: Doc, args: argparse.Namespace) -> bool:
    """The filters of GET /v1/events, for the stream."""
    types, kinds = args.event_type, args.aggregate_type
    return (
        (not kinds or event["aggregate_type"] in kinds.split(","))
        and (not args.aggregate_id or event["aggregate_id"] == args.aggregate_id)
        and (not types or event["event_type"] in types.split(","))
        and (not args.commit or event["cause"]["commit"].startswith(args.commit.lower()))
    )


def _print_all(args: argparse.Namespace, document: Doc) -> None:
    if args.output == "json":
        print_json(document)
        return
    page = Page()
    page.add("", [], ("event", "time", "type", "because of", "what"), rows(document["events"]))
    if not page.blocks:
        page.add("", [f"no events match; the log ends at event {document['last_event_id']}"])
    print_page(page)


def _print_one(args: argparse.Namespace, event: Doc) -> None:
    if args.output == "json":
        print_json_line(event)
        return
    [row] = rows([event])
    sys.stdout.write("  ".join(clean(cell) for cell in row).rstrip() + "\n")
    sys.stdout.flush()


def rows(events: Iterable[Doc]) -> Iterable[tuple[str, ...]]:
    from kit.codec import from_json
    from reconciler.core.events import Event
    from reconciler.core.explain_history import step

    for document in events:
        told = step(from_json(Event, document))
        yield (f"#{told.event_id}", told.at, told.type, told.cause, told.what)
