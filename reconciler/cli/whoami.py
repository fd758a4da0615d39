"""`trueup whoami`: who one is to the controller, what one may, and until when."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from reconciler.cli.client import add_connection_options, fetch
from reconciler.cli.output import Page, print_json, print_page


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("whoami", help="who you are to the controller, what you may, and until when")
    add_connection_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    who = fetch(args, "/v1/whoami")
    if args.output == "json":
        print_json(who)
    else:
        print_who("", who)
    return 0


def print_who(controller: str, who: Mapping[str, Any]) -> None:
    """Of a login too, then with its controller."""
    made = Page()
    made.add("", [f"{who['identity']}{f' at {controller}' if controller else ''}"])
    lines = [f"may {', '.join(who['verbs'])} in {who['org']}/{who['project']}"] if who["org"] else []
    lines += [f"until {who['expires_at']}"] if who["expires_at"] else []
    made.add("", lines)
    print_page(made)
