"""`trueup node drain|disable|activate NODE`: what a node may do, an act of an operator (`reconciler.cli.acts`); and
`trueup node token|revoke NODE`: how it joins and ceases to belong (`reconciler.cli.machines`)."""

from __future__ import annotations

import argparse
from typing import Any

from reconciler.cli.acts import act, add_act_options
from reconciler.cli.machines import register_machine_actions

DESCRIPTION = """\
drain: nothing is placed on the node any more; stateless instances move away one after the other, each after its
replacement is ready; stateful ones stay, and `trueup why NODE` names them. disable: the same, with no end of its own,
and that the node may fall silent is no trouble. activate: it works again. A node that is offline keeps what was
said."""

_HELP = {
    "drain": "move away what can move, place nothing there",
    "disable": "the same, for good: it may be switched off",
    "activate": "end the drain, or enable it again",
}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "node", help="let a node join, drain, disable, activate or revoke it", description=DESCRIPTION
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, text in _HELP.items():
        action = actions.add_parser(name, help=text, description=DESCRIPTION)
        action.add_argument("node", metavar="NODE")
        add_act_options(action, ends=name == "drain")
        action.set_defaults(run=run, action=name)
    register_machine_actions(actions, "node")


def run(args: argparse.Namespace) -> int:
    return act(args, f"/v1/nodes/{args.node}/{args.action}")
