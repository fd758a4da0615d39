"""`trueup suspend SCOPE`: keep it as it is. An act of an operator: see `reconciler.cli.acts`."""

from __future__ import annotations

import argparse
from typing import Any

from reconciler.cli.acts import act, add_act_options

DESCRIPTION = """\
SCOPE is source/NAME, env/ENV, or an app as ENV/APP. Of a suspended source commits are fetched and not applied. Of a
suspended environment or app commits are recorded, and nothing of it rolls, scales or is removed; crashed instances
restart, and those of lost nodes are replaced. It lasts until `trueup resume`, or until the time that is given."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "suspend", help="keep a source, environment or app as it is", description=DESCRIPTION
    )
    parser.add_argument("scope", metavar="SCOPE")
    add_act_options(parser, ends=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return act(args, "/v1/suspensions", scope=args.scope)
