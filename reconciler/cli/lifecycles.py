"""`trueup lifecycles`: the transition tables of `reconciler.core.lifecycles`, as Mermaid diagrams or as tables.

docs/LIFECYCLES.md is what `trueup lifecycles --format mermaid` prints; a test holds both together.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from reconciler.cli.output import Page, print_json, print_page


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("lifecycles", help="the states that things go through")
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="only this one: instance, node, ...")
    parser.add_argument("--format", choices=("mermaid", "table"), default="table", help="default: table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from kit.errors import Refusal
    from reconciler.core import lifecycle_pages
    from reconciler.core.lifecycles import LIFECYCLES

    chosen = [each for each in LIFECYCLES if args.name in ("", each.name, each.name.partition(" ")[0])]
    if not chosen:
        names = ", ".join(each.name for each in LIFECYCLES)
        raise Refusal(f"show the lifecycle of {args.name!r}", "there is none", fix=f"name one of {names}", code="usage")
    if args.output == "json":
        print_json([lifecycle_pages.document(each) for each in chosen])
    elif args.format == "mermaid":
        sys.stdout.write(lifecycle_pages.mermaid_page(chosen))
    else:
        page = Page()
        for each in chosen:
            page.add(
                each.name.upper(),
                [f"told by {each.told_by}", lifecycle_pages.rule_of(each)],
                ("from", "to"),
                lifecycle_pages.rows(each),
            )
        print_page(page)
    return 0
