"""`trueup views list|rebuild|verify|explain`: the views, which can be thrown away and folded anew from the log.

It works on the database directly, beside a running controller or without one: `reconciler.store.opening`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kit.errors import Refusal
from reconciler.cli.client import add_store_options, opened_store
from reconciler.cli.output import Page, add_output_option, clean, print_json, print_json_line, print_page

if TYPE_CHECKING:
    from reconciler.store.rebuild import Rebuilt

DESCRIPTION = """\
Works on the database of the controller, on its host, while the controller runs or not. Readers go on reading during a
rebuild, and see each row as it was or as it should be. "claims" is the table of unique keys, which also follows from
the log. verify changes nothing and exits with 1 when something differs."""

KEYS_SHOWN_MAX = 20


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("views", help="the views", description=DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    texts = {
        "list": "where each view is in the log",
        "rebuild": "fold views anew from the log",
        "verify": "compare views with the log",
        "explain": "every event that made one row, with what it changed",
    }
    made = {name: actions.add_parser(name, help=text, description=DESCRIPTION) for name, text in texts.items()}
    for name, action in made.items():
        add_store_options(action)
        add_output_option(action)
        action.set_defaults(run=RUN[name], verify=name == "verify")
    for name in ("rebuild", "verify"):
        made[name].add_argument("views", nargs="*", metavar="VIEW", help='a view, or "claims"; none: all')
        made[name].add_argument("--archive", metavar="DIR", help="read the events of this archive before the table's")
    made["explain"].add_argument("view", metavar="VIEW")
    made["explain"].add_argument("key", metavar="KEY")


def run_list(args: argparse.Namespace) -> int:
    async def look() -> list[dict[str, Any]]:
        async with opened_store(args) as store:
            head, lags_s = await store.log.head(), await store.views.lags_s()
            checkpoints, out = await store.views.checkpoints(), await store.views.quarantined()
        return [
            {
                "view": name,
                "event_id": event_id,
                "lag_events": max(0, head.last_event_id - event_id),
                "lag_s": round(lags_s[name], 3),
                "quarantined": [each.key for each in out if each.projection == name],
            }
            for name, event_id in sorted(checkpoints.items())
        ]

    found = asyncio.run(look())
    if args.output == "json":
        print_json({"views": found})
        return 0
    page = Page()
    rows = [(*list(each.values())[:3], f"{each['lag_s']:.1f} s", len(each["quarantined"])) for each in found]
    page.add("", [], ("view", "event", "behind", "for", "quarantined"), rows)
    print_page(page)
    return 0


def run_rebuild(args: argparse.Namespace) -> int:
    """For `rebuild` and `verify`."""
    known_views(args.views)
    results = asyncio.run(_rebuild(args))
    documents = [
        {
            "view": each.view,
            "event_id": each.event_id,
            "differing": each.differing,
            "keys": [{"key": key, "what": what} for key, what in each.keys],
            "quarantined": each.quarantined,
        }
        for each in results
    ]
    if args.output == "json":
        print_json({"views": documents, "changed": not args.verify})
    else:
        print_page(_page(documents, "differ" if args.verify else "mended"))
    return int(args.verify and any(each.differing for each in results))


async def _rebuild(args: argparse.Namespace) -> list[Rebuilt]:
    from pathlib import Path

    def progress(event_id: int, upto: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\rfolded {event_id} of {upto} events")

    archive = Path(args.archive) if args.archive else None
    async with opened_store(args) as store:
        done = await store.rebuild_views(args.views, verify=args.verify, archive=archive, progress=progress)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    return done


def _page(documents: Iterable[Mapping[str, Any]], word: str) -> Page:
    page = Page()
    rows = [(each["view"], each["event_id"], each["differing"], each["quarantined"]) for each in documents]
    page.add("", [], ("view", "event", word, "quarantined"), rows)
    for each in documents:
        lines = [f"{key['what']}: {key['key']}" for key in each["keys"][:KEYS_SHOWN_MAX]]
        more = each["differing"] - len(lines)
        page.add(each["view"].upper(), lines + ([f"and {more} more"] if more else []))
    return page


def run_explain(args: argparse.Namespace) -> int:
    from kit.codec import to_json

    known_views([args.view], claims=False)

    async def follow() -> int:
        count = 0
        async with opened_store(args) as store:
            async for step in store.trace(args.view, args.key):
                count += 1
                if args.output == "json":
                    print_json_line(to_json(step))
                else:
                    sys.stdout.write("".join(f"{line}\n" for line in _lines(to_json(step))))
        return count

    if not asyncio.run(follow()):
        raise Refusal(f"explain {args.key} of view {args.view}", "no event touches that key", code="not_found")
    return 0


def _lines(step: Mapping[str, Any]) -> Iterable[str]:
    yield clean(f"#{step['event_id']}  {step['at']}  {step['event_type']}: {step['row']} {step['error']}".rstrip())
    for name, value in sorted(step["changed"].items()):
        yield clean(f"    {name} = {value!r}")
    for name in step["removed"]:
        yield clean(f"    {name} is gone")


def known_views(names: Iterable[str], *, claims: bool = True) -> None:
    from reconciler.core.views import PROJECTIONS

    known = [*PROJECTIONS, *(["claims"] if claims else [])]
    for name in names:
        if name not in known:
            raise Refusal(f"find the view {name}", f"there are {', '.join(known)}", code="not_found")


RUN = {"list": run_list, "rebuild": run_rebuild, "verify": run_rebuild, "explain": run_explain}
