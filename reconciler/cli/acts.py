"""What the commands that act have in common: `trueup node`, `suspend`, `resume`, `hold`, `release-hold`, `instance`.

Each is one POST with a key of its own, made here unless --key gives one: sent again, after a time-out say, it has one
effect. Prints what was recorded; the event's number is what `trueup status --min-event-id` waits for, and --wait waits
here.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import uuid
from collections.abc import Mapping
from typing import Any

from kit.codec import from_json
from kit.errors import Transient, TrueupError
from kit.settings import parse_seconds
from reconciler.cli.client import REQUEST_TIMEOUT_S, add_connection_options, connect
from reconciler.cli.output import Page, add_output_option, print_json, print_page
from reconciler.core.events import Event
from reconciler.core.explain_history import sentence

TRIES_MAX = 3
PAUSE_S = 0.5
_DAYS = re.compile(r"(\d+(?:\.\d+)?)d")


def add_act_options(parser: argparse.ArgumentParser, *, ends: bool = False) -> None:
    """`ends`: it may be given an end of its own."""
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; everybody sees it until the act is over")
    if ends:
        end = parser.add_mutually_exclusive_group()
        end.add_argument(
            "--for", dest="for_s", type=_duration, metavar="DURATION", help="ends by itself after 30m, 2h, 1d"
        )
        end.add_argument("--until", default="", metavar="TIME", help="ends by itself at this time; without a zone UTC")
    parser.add_argument("--wait", action="store_true", help="end only when status and why show it")
    parser.add_argument("--key", default="", metavar="KEY", help="8 to 128 characters: the same key is the same act")
    add_connection_options(parser)
    add_output_option(parser)


def act(args: argparse.Namespace, path: str, **body: str) -> int:
    """Posts the act and prints what became of it."""
    key = args.key or uuid.uuid4().hex
    document: dict[str, Any] = {"reason": args.reason, **body}
    if getattr(args, "for_s", None):
        document["for_s"] = args.for_s
    if getattr(args, "until", ""):
        document["until"] = args.until
    answer = asyncio.run(_post(args, f"{path}?wait=true" if args.wait else path, document, key))
    if args.output == "json":
        print_json(answer)
    else:
        print_page(_page(answer, key))
    return 0


async def _post(args: argparse.Namespace, path: str, document: Mapping[str, Any], key: str) -> Any:
    async with connect(args) as control_plane:
        for left in reversed(range(TRIES_MAX)):
            try:
                return await control_plane.post_json(
                    path, document, timeout_s=REQUEST_TIMEOUT_S, headers={"Idempotency-Key": key}
                )
            except Transient as error:
                if not left:
                    raise _again(error, key) from error
                await asyncio.sleep(PAUSE_S * (TRIES_MAX - left))
    raise AssertionError("unreachable")


def _again(error: TrueupError, key: str) -> Transient:
    fix = f"{error.fix + '; ' if error.fix else ''}it may have been recorded: try again with --key {key}"
    return Transient(error.attempted, error.why, fix=fix, code=error.code)


def _page(answer: Mapping[str, Any], key: str) -> Page:
    made = Page()
    events = [from_json(Event, each) for each in answer["events"]]
    made.add("", [sentence(event) for event in events])
    made.add("", [f"recorded as event {answer['event_id']}, key {key}"])
    return made


def _duration(text: str) -> float:
    days = _DAYS.fullmatch(text)
    try:
        return float(days[1]) * 86_400 if days else parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, 1d") from error
