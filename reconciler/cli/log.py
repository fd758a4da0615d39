"""`trueup log`: what each commit did. `trueup log verify`, `export-head`, `new-id`: is the log what was written?

The history comes from the controller (`log_history`). The others ask the database themselves, and run where it can be
reached: on the controller's host with the embedded one, else with --database-url.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import Refusal
from reconciler.cli import log_archive, log_history
from reconciler.cli.client import add_store_options, database_url, opened_store
from reconciler.cli.output import add_output_option, print_json

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

DESCRIPTION = """\
`trueup log [RANGE]` shows the commits of the branch and what became of each; `trueup log history --help` says more.

Each event carries a hash over itself and the hash before it. `verify` follows the chain and names the first event that
was changed, removed or put in. Only heads that were exported to another host, signed, prove that the whole log was not
rewritten or its end cut off: docs/runbooks/log-verify.md."""

ACTIONS = ("history", "verify", "export-head", "new-id", "archive")


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("log", help="what each commit did; prove that the log was not changed")
    parser.description = DESCRIPTION
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    log_history.register(commands)
    verify = commands.add_parser("verify", help="follow the hash chain")
    verify.add_argument("--heads", metavar="PATH", type=Path, help="exported heads, all compared with the log")
    verify.add_argument("--from-head", metavar="PATH", type=Path, help="the same, and begin at the newest of them")
    verify.add_argument("--key", metavar="FILE", type=Path, help="the public or private key of the heads, PEM")
    verify.add_argument("--archive", metavar="DIR", type=Path, help="follow the chain through these files first")
    verify.add_argument("--to", metavar="N", type=int, help="the last event to look at; default: the head")
    verify.set_defaults(run=lambda args: asyncio.run(_verify(args)))
    export = commands.add_parser("export-head", help="add the signed head to those that are kept elsewhere")
    export.add_argument("--key", metavar="FILE", type=Path, required=True, help="Ed25519 private key, PEM")
    export.add_argument("--output", metavar="PATH", type=Path, required=True, help="a folder, or a file of lines")
    export.set_defaults(run=lambda args: asyncio.run(_export(args)))
    new_id = commands.add_parser("new-id", help="after a restore from an older backup: refuse all older cursors")
    new_id.add_argument("--reason", metavar="TEXT", required=True, help="why; it is recorded in the log")
    new_id.set_defaults(run=lambda args: asyncio.run(_new_id(args)))
    log_archive.register(commands)
    for each in (verify, export, new_id):
        add_store_options(each)
        add_output_option(each)


def spelled_out(arguments: list[str]) -> list[str]:
    """`trueup log RANGE` is `trueup log history RANGE`: a range is what is no action and does not ask for help."""
    first = arguments[1] if len(arguments) > 1 else ""
    named = first in ACTIONS or first in ("-h", "--help")
    return arguments if named else [*arguments[:1], "history", *arguments[1:]]


async def _verify(args: argparse.Namespace) -> int:
    from reconciler.core.chain import GENESIS
    from reconciler.store.archive_chain import verify_archive
    from reconciler.store.heads import check_heads, public_key, read_heads
    from reconciler.store.verify import Verdict, read_head, verify

    path = args.heads or args.from_head
    if path and not args.key:
        raise Refusal(f"check the heads in {path}", "their key is not given", fix="give --key", code="usage")
    heads = read_heads(path, public_key(args.key)) if path else []
    start = heads[-1].head if args.from_head and heads else None
    async with _connected(args) as connection:
        now = await read_head(connection)
        bad, why = await check_heads(connection, [each.head for each in heads], now)
        archived = await verify_archive(connection, args.archive, now) if args.archive else Verdict(0, 0)
        if bad:
            verdict = Verdict(0, now.event_id, bad, why)
        elif archived.first_bad:
            verdict = archived
        else:
            known = start is not None and start.log_id == now.log_id
            after, before = (start.event_id, start.hash) if start and known else (0, GENESIS)
            verdict = await verify(connection, after=after, hash_before=before, upto=args.to)
    if verdict.first_bad:
        raise Refusal(
            f"verify the log from event {verdict.first_bad}",
            verdict.why,
            fix="follow docs/runbooks/log-verify.md before anything is appended",
            code="log_tampered",
        )
    checked = {"checked": verdict.checked, "last_event_id": verdict.last_event_id, "heads": len(heads)}
    _say(args, {**checked, "archived": archived.checked})
    return 0


async def _export(args: argparse.Namespace) -> int:
    from reconciler.store.heads import export_head, private_key
    from reconciler.store.verify import read_head

    key = private_key(args.key)
    async with _connected(args) as connection:
        head = await read_head(connection)
    export_head(args.output, key, head, datetime.now(UTC).isoformat(timespec="seconds"))
    _say(args, {"log_id": head.log_id, "epoch": head.epoch, "event_id": head.event_id, "hash": head.hash.hex()})
    return 0


async def _new_id(args: argparse.Namespace) -> int:
    from reconciler.store.identity import give_new_id

    async with _connected(args, as_owner=True) as connection:
        head = await give_new_id(connection, args.reason, getpass.getuser())
    _say(args, {"log_id": head.log_id, "epoch": head.epoch, "event_id": head.event_id})
    return 0


@asynccontextmanager
async def _connected(args: argparse.Namespace, *, as_owner: bool = False) -> AsyncIterator[Connection]:
    """To read, with the least rights of the URL's role; `as_owner`: with those that migrations have."""
    from reconciler.store.pool import connect
    from reconciler.store.roles import OWNER_ROLE, connect_to_read

    url = database_url(args)
    async with contextlib.AsyncExitStack() as stack:
        if url and not as_owner:
            connection = await connect_to_read(url)
        else:
            access = (await stack.enter_async_context(opened_store(args))).access
            if not as_owner:
                connection = await connect(access.app_url, role=access.app_role)
            elif access.migrate_url:
                connection = await connect(access.migrate_url, role=OWNER_ROLE)
            else:
                fix = "use a log-in that is a member of trueup_migrate"
                raise Refusal("act as the owner of the log", "this log-in may not", fix=fix, code="postgres_denied")
        stack.push_async_callback(connection.close)
        yield connection


def _say(args: argparse.Namespace, document: dict[str, Any]) -> None:
    if getattr(args, "output", "table") == "json":
        print_json(document)
    else:
        sys.stdout.write(", ".join(f"{name} {value}" for name, value in document.items()) + "\n")
