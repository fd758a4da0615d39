"""`trueup resume SCOPE`: what was suspended follows Git again. An act of an operator: see `reconciler.cli.acts`."""

from __future__ import annotations

import argparse
from typing import Any

from reconciler.cli.acts import act, add_act_options

DESCRIPTION = """\
SCOPE is what was suspended: source/NAME, env/ENV, or an app as ENV/APP. It then becomes what Git says now."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("resume", help="let it follow Git again", description=DESCRIPTION)
    parser.add_argument("scope", metavar="SCOPE")
    add_act_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return act(args, "/v1/suspensions/end", scope=args.scope)
