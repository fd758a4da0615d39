"""`trueup log [RANGE]`: the history of the branch, and what became of each commit. The answer of GET /v1/log.

`reconciler.cli.log` makes it an action of its own, `history`, which is meant when no other one is named. Commits may be
named as Git names them, in a local clone; the controller is asked about commit ids.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import Refusal
from reconciler.cli.client import add_connection_options, connect, fetch
from reconciler.cli.output import Page, add_output_option, print_entry, print_json, print_json_line, print_page

if TYPE_CHECKING:
    from reconciler.core.history import Entry

Doc = Mapping[str, Any]
PAGE_ENTRIES = 50
LIMIT_MAX = 100_000
DESCRIPTION = """\
The commits of the followed branch, newest first, each with what became of it, what it did, and how long it took to
converge. RANGE is A..B (B without A and what came before it), or one commit to begin with. For example:
trueup log --since 7d --path apps/site. With --follow each commit is shown again whenever something becomes of it."""


def register(actions: Any) -> None:
    parser = actions.add_parser("history", help="what each commit did; the same without `history`")
    parser.description = DESCRIPTION
    parser.add_argument("range", nargs="?", default="", metavar="RANGE", help="A..B or B; default: all")
    parser.add_argument("--source", default="", help="the source; not needed when there is only one")
    parser.add_argument("--path", default="", metavar="PATH", help="only commits that changed this file or folder")
    parser.add_argument("--since", default="", metavar="TIME", help="committed at or after: 2026-01-31T10:00:00Z, 7d")
    parser.add_argument("--until", default="", metavar="TIME", help="committed at or before")
    parser.add_argument("--limit", "-n", type=int, default=20, metavar="N", help="at most so many (default 20)")
    parser.add_argument("--follow", "-f", action="store_true", help="oldest first, then new ones as they come")
    parser.add_argument("--after", type=int, metavar="EVENT_ID", help="with --follow: only what was told behind it")
    parser.add_argument("--verbose", "-v", action="store_true", help="each change, finding and event too")
    parser.add_argument("--repo", type=Path, default=Path(), help="a local clone that knows the names in RANGE")
    add_connection_options(parser)
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not 1 <= args.limit <= LIMIT_MAX:
        raise Refusal("read the history", f"--limit {args.limit} is not from 1 to {LIMIT_MAX}", code="usage")
    if args.follow or args.after is not None:
        return _follow(args)
    document = _read(args, _query(args))
    if args.output == "json":
        print_json(document)
    elif not document["entries"]:
        print_page(_nothing(document))
    else:
        _print(document["entries"], verbose=args.verbose)
    return 0


def _follow(args: argparse.Namespace) -> int:
    if not args.follow:
        raise Refusal("read the history", "--after is where --follow goes on", fix="give --follow", code="usage")
    if args.range or args.until:
        why = "what comes is behind RANGE and --until"
        raise Refusal("follow the history", why, fix="leave them out", code="usage")
    page = _read(args, _query(args))
    for entry in reversed(page["entries"] if args.after is None else ()):
        _print_one(args, entry)
    asyncio.run(_follow_on(args, page))
    return 0


async def _follow_on(args: argparse.Namespace, page: Doc) -> None:
    from reconciler.cli.log_follow import follow

    after = page["event_id"] if args.after is None else args.after
    async with connect(args) as control_plane:
        await follow(control_plane, page, after, args.path.strip("/"), lambda entry: _print_one(args, entry))


def _print_one(args: argparse.Namespace, entry: Doc) -> None:
    if args.output == "json":
        print_json_line(entry)
    else:
        _print([entry], verbose=args.verbose)
        sys.stdout.flush()


def _query(args: argparse.Namespace) -> dict[str, str | int]:
    stop, dots, start = args.range.rpartition("..")
    start = start if dots else args.range
    return {
        "source": args.source,
        "from": _commit(args.repo, start),
        "to": _commit(args.repo, stop),
        "path": args.path.strip("/"),
        "since": _time(args.since, "--since"),
        "until": _time(args.until, "--until"),
    }


def _commit(repository: Path, name: str) -> str:
    if not name or re.fullmatch(r"[0-9a-f]{7,64}", name):
        return name
    from reconciler.cli.source_tree import commit_named, open_clone

    return commit_named(open_clone(repository, "read the history"), name, "read the history")


def _time(text: str, option: str) -> str:
    from reconciler.core.moments import parse_time

    time = parse_time(text, datetime.now(UTC)) if text else ""
    if time is None:
        fix = "write 2026-01-31T10:00:00Z, or 30s, 15m, 2h, 3d for that long ago"
        raise Refusal("read the history", f"{option} {text!r} is not a time", fix=fix, code="usage")
    return time


def _read(args: argparse.Namespace, query: Mapping[str, str | int]) -> dict[str, Any]:
    """Page by page, until there are enough. The first page's head is the answer's."""
    document: dict[str, Any] = fetch(args, "/v1/log", {**query, "limit": min(PAGE_ENTRIES, args.limit)})
    entries, onward = list(document["entries"]), document["next"]
    while onward is not None and len(entries) < args.limit:
        place = {"from": onward["start"], "under": onward["under"]}
        limit = min(PAGE_ENTRIES, args.limit - len(entries))
        page = fetch(args, "/v1/log", {**query, **place, "limit": limit})
        entries, onward = [*entries, *page["entries"]], page["next"]
    return {**document, "entries": entries, "next": onward}


def _nothing(document: Doc) -> Page:
    page = Page()
    page.add("", [f"no commit matches; source {document['source']} is at {document['head'][:12] or 'nothing yet'}"])
    return page


def _print(entries: Iterable[Doc], *, verbose: bool) -> None:
    page = Page()
    for document in entries:
        heading, lines = told(document, verbose=verbose)
        if sys.stdout.isatty():
            print_entry(heading, [[line] for line in lines])
        else:
            page.add(heading, lines)
    if page.blocks:
        print_page(page)


def told(document: Doc, *, verbose: bool) -> tuple[str, list[str]]:
    """A heading and lines."""
    from kit.codec import from_json
    from reconciler.core.history import Entry, entry_lines, events_text, outcome_text

    entry = from_json(Entry, document)
    heading = f"{entry.commit[:12]}  {outcome_text(entry)}"
    lines = [entry.subject or "(no subject)", f"{entry.author}, {entry.at}", *entry_lines(entry)]
    if verbose:
        lines += _details(entry)
    if entry.events:
        lines.append(f"events: {events_text(entry.events)}")
    return heading, lines


def _details(entry: Entry) -> Iterator[str]:
    from reconciler.core.explain_history import finding_text, name_of

    for part in entry.parts:
        yield f"part: {part['commit'][:12]} {part['subject'] or '(no subject)'} ({part['author']})"
    if len(entry.parts) < entry.brought:
        yield f"and other parts: git log {entry.parent[:12]}..{entry.commit[:12]}"
    for change in entry.changes:
        yield f"{change['verb']} {name_of(change['resource_id'])} ({change['path']}:{change['line']})"
    if entry.changes_omitted:
        yield f"and {entry.changes_omitted} more changes"
    for finding in entry.findings:
        yield f"{finding['severity']}: {finding_text(finding)}"
    if entry.findings_omitted:
        yield f"and {entry.findings_omitted} more findings"
    for failure in entry.deployments.failures:
        yield f"deployment {failure.deployment_id} of {name_of(failure.app)} failed: {failure.message}"
