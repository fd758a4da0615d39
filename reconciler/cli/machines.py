"""What `trueup node` and `trueup edge` have in common: the token to join with, and taking a machine's identity back."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from kit.machine_names import MachineKind
from reconciler.cli.client import REQUEST_TIMEOUT_S, add_connection_options, connect
from reconciler.cli.output import Page, add_output_option, print_json, print_page

_FLAG = {"node": "--node-id", "edge": "--edge-id"}


def register_machine_actions(actions: Any, kind: MachineKind) -> None:
    token = actions.add_parser("token", help="print a token to join the fleet with: once, within ten minutes")
    revoke = actions.add_parser("revoke", help="void its certificates and tokens, and end its open streams")
    revoke.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the history")
    for parser, run in ((token, print_token), (revoke, print_revoked)):
        parser.add_argument("name", metavar=kind.upper())
        add_connection_options(parser)
        add_output_option(parser)
        parser.set_defaults(run=run, kind=kind)


def print_token(args: argparse.Namespace) -> int:
    answer = _post(args, f"/v1/{args.kind}s/{args.name}/token", {})
    if args.output == "json":
        print_json(answer)
        return 0
    made = Page()
    made.add("", [answer["token"]])
    command = f"trueup-{'agent' if args.kind == 'node' else 'edge'} {_FLAG[args.kind]} {args.name}"
    made.add("", [f"good once, until {answer['expires_at']}; on the host, beside its other settings:"])
    made.add("", [f"  {command} --controller {answer['controller']} --join-token ..."])
    print_page(made)
    return 0


def print_revoked(args: argparse.Namespace) -> int:
    answer = _post(args, f"/v1/{args.kind}s/{args.name}/revoke", {"reason": args.reason})
    if args.output == "json":
        print_json(answer)
        return 0
    was = f"recorded as event {answer['event_id']}" if answer["event_id"] else "it was revoked before"
    made = Page()
    made.add("", [f"{args.kind} {args.name} is revoked: {was}"])
    made.add("", ["what runs there runs on; see docs/runbooks/certificates.md"])
    print_page(made)
    return 0


def _post(args: argparse.Namespace, path: str, document: Any) -> Any:
    async def ask() -> Any:
        async with connect(args) as control_plane:
            return await control_plane.post_json(path, document, timeout_s=REQUEST_TIMEOUT_S)

    return asyncio.run(ask())
