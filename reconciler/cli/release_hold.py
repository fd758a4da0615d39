"""`trueup release-hold ENV/APP`: the app becomes what Git says. An act of an operator: see `reconciler.cli.acts`."""

from __future__ import annotations

import argparse
from typing import Any

from reconciler.cli.acts import act, add_act_options


def register(subparsers: Any) -> None:
    text = "end a hold: the app becomes what Git says"
    parser = subparsers.add_parser("release-hold", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("app", metavar="ENV/APP")
    add_act_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return act(args, "/v1/holds/end", app=args.app)
