"""`trueup secret exposed [--node NODE] [--secret SECRET]`: who was given which version of which secret.

What a host has had in its memory cannot be taken back. Once a node is lost (stolen, broken into, gone) all that it was
given and that is "current" has to be changed where it comes from, and then here: trueup secret rotate, or seal. An
"earlier" version needs nothing, unless its values are still good elsewhere. The history, with times and instances, is
in `trueup events --aggregate-type delivery`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from reconciler.cli import exits
from reconciler.cli.client import add_connection_options, view_rows
from reconciler.cli.output import Page, add_output_option, print_json, print_page
from reconciler.core.explain_names import matches
from reconciler.core.exposure import Exposed, exposed
from reconciler.core.model import ResourceId


def register(actions: Any) -> None:
    parser = actions.add_parser("exposed", help="list which nodes were given which secrets", description=__doc__)
    parser.add_argument("--node", default="", metavar="NODE", help="what that node was given")
    parser.add_argument("--secret", default="", metavar="SECRET", help="who was given it: NAME, ENV/APP/NAME, ...")
    add_connection_options(parser)
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    deliveries = view_rows(args, "deliveries")
    found = exposed(deliveries, view_rows(args, "resources") if deliveries else {}, node_id=args.node)
    if args.secret:
        found = [each for each in found if matches(args.secret, ResourceId.parse(each.resource_id))]
    if args.output == "json":
        print_json({"exposed": [asdict(each) for each in found]})
        return exits.OK
    made = Page()
    current = sum(each.worth == "current" for each in found)
    heads = [f"{len(found)} versions of secrets were given, {current} of them are current"]
    made.add("GIVEN", heads, ("secret", "version", "worth", "node", "at", "for instance"), map(_cells, found))
    print_page(made)
    return exits.OK


def _cells(each: Exposed) -> tuple[str, ...]:
    return (each.resource_id, each.version_id, each.worth, each.node_id, each.at, each.instance_id)
