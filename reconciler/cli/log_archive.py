"""`trueup log archive`: copies the oldest events into compressed files. An action of `reconciler.cli.log`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from reconciler.cli.client import add_store_options, opened_store
from reconciler.cli.output import Page, print_json, print_page

DESCRIPTION = """\
Copies the events before EVENT_ID into DIR and never deletes any. A second run goes on where the first one ended.
`trueup views rebuild --archive DIR` reads them before the table, `trueup log verify --archive DIR` proves them."""


def register(actions: Any) -> None:
    parser = actions.add_parser("archive", help="copy the oldest events into files", description=DESCRIPTION)
    parser.add_argument("--before", type=int, required=True, metavar="EVENT_ID", help="only events before this one")
    # --output is the folder here; the form of the answer is --format.
    parser.add_argument("--output", dest="folder", required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--format", dest="output", choices=("table", "json"), default="table")
    add_store_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    async def archive() -> dict[str, Any]:
        async with opened_store(args) as store:
            return await store.archive(args.before, Path(args.folder))

    manifest = asyncio.run(archive())
    if args.output == "json":
        print_json(manifest)
        return 0
    page = Page()
    rows = [(each["name"], each["first_event_id"], each["last_event_id"], each["sha256"]) for each in manifest["files"]]
    page.add("", [], ("file", "first", "last", "sha256"), rows)
    print_page(page)
    return 0
