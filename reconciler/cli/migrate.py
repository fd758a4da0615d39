"""`trueup migrate`: brings the schema of the operator's own Postgres up to date, for controllers that may not."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from kit.errors import Refusal
from reconciler.cli.client import database_url
from reconciler.cli.output import print_json

DESCRIPTION = """\
The log-in of the URL has to be a member of trueup_migrate. Controllers whose own log-in is that of trueup_app only
refuse to start on a schema that lacks something; run this before them: docs/runbooks/own-postgres.md."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("migrate", help="change the schema", description=DESCRIPTION)
    parser.add_argument("--database-url", metavar="URL", help="of a log-in that may (or TRUEUP_DATABASE_URL)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from reconciler.store.settings import StoreSettings
    from reconciler.store.store import migrate_only

    url = database_url(args)
    if not url:
        fix = "give --database-url; the embedded one is migrated when its controller starts"
        raise Refusal("migrate the database", "no database is named", fix=fix, code="usage")
    applied = asyncio.run(migrate_only(StoreSettings(Path(), database_url=url)))
    if args.output == "json":
        print_json({"applied": applied})
    else:
        sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "the schema is up to date\n")
    return 0
