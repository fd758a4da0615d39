"""`trueup edge token|revoke EDGE`: how an edge joins the fleet and ceases to belong: `reconciler.cli.machines`."""

from __future__ import annotations

from typing import Any

from reconciler.cli.machines import register_machine_actions


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("edge", help="let an edge join, or revoke one")
    register_machine_actions(parser.add_subparsers(title="actions", metavar="ACTION", required=True), "edge")
