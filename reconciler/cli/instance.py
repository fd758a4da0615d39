"""`trueup instance stop INSTANCE`: another one takes its place. An act of an operator: see `reconciler.cli.acts`."""

from __future__ import annotations

import argparse
from typing import Any

from reconciler.cli.acts import act, add_act_options

DESCRIPTION = """\
The instance drains as long as its manifest allows and ends; the scheduler puts another one in its place, since Git
still wants it. `trueup why ENV/APP` shows the instances."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("instance", help="stop one instance", description=DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    stop = actions.add_parser("stop", help="stop it; another one takes its place", description=DESCRIPTION)
    stop.add_argument("instance", metavar="INSTANCE")
    add_act_options(stop)
    stop.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return act(args, f"/v1/instances/{args.instance}/stop")
