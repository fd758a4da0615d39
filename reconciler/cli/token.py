"""`trueup token ROLE NAME`: prints the bearer token of a node, an edge, an operator, or the secret of a webhook.

It needs the key in the controller's state folder, so it runs where the controller runs.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from kit.errors import Refusal
from reconciler.cli.client import add_state_option, state_folder
from reconciler.cli.output import print_json

DESCRIPTION = """\
Prints a bearer token. The name of a node or an edge is the one that its agent is started with; the name of a webhook is
that of the source, and the token is the secret to give to the forge. Tokens end when STATE/token.key is replaced."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("token", help="print a token", description=DESCRIPTION)
    parser.add_argument("role", choices=("node", "edge", "operator", "webhook"))
    parser.add_argument("name", metavar="NAME")
    add_state_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from reconciler.core.tokens import make_token
    from reconciler.keys import token_key

    state = state_folder(args)
    if not state.is_dir():
        fix = "name the controller's state folder with --state"
        raise Refusal(
            f"make a token of {args.role} {args.name}", f"there is no folder {state}", fix=fix, code="not_found"
        )
    try:
        token = make_token(token_key(state), args.role, args.name)
    except ValueError as error:
        raise Refusal("make a token", str(error), code="usage") from error
    if args.output == "json":
        print_json({"role": args.role, "name": args.name, "token": token})
    else:
        sys.stdout.write(token + "\n")
    return 0
