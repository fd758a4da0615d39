"""`trueup log archive`: copies the oldest events into compressed files. An action of `reconciler.cli.log`."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from reconciler.cli.client import add_state_option, state_folder
from reconciler.cli.output import Page, print_json, print_page

DESCRIPTION = """\
Copies the events before EVENT_ID into DIR and never deletes any. A second run goes on where the first one ended.
`trueup views rebuild --archive DIR` reads them before the table."""


def register(actions: Any) -> None:
    parser = actions.add_parser("archive", help="copy the oldest events into files", description=DESCRIPTION)
    parser.add_argument("--before", type=int, required=True, metavar="EVENT_ID", help="only events before this one")
    # --output is the folder here; the form of the answer is --format.
    parser.add_argument("--output", dest="folder", required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--format", dest="output", choices=("table", "json"), default="table")
    parser.add_argument("--database-url", metavar="URL", help="the controller's (or TRUEUP_DATABASE_URL)")
    add_state_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from reconciler.store.opening import store_of

    async def archive() -> dict[str, Any]:
        async with store_of(
            state_folder(args), args.database_url or os.environ.get("TRUEUP_DATABASE_URL", "")
        ) as store:
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
