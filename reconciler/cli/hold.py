"""`trueup hold ENV/APP --release RELEASE`: an app stays on one of its releases although Git says another. An act of an
operator: see `reconciler.cli.acts`."""

from __future__ import annotations

import argparse
from typing import Any

from reconciler.cli.acts import act, add_act_options

DESCRIPTION = """\
The app goes to that release now, and stays there while Git says what it said when the hold began; a commit that
declares another release ends the hold. `git revert` is the better way back: a hold is for when that has to wait."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("hold", help="keep an app on an earlier release", description=DESCRIPTION)
    parser.add_argument("app", metavar="ENV/APP")
    parser.add_argument("--release", required=True, metavar="RELEASE", help="`trueup state release` lists them")
    add_act_options(parser, ends=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return act(args, "/v1/holds", app=args.app, release_id=args.release)
