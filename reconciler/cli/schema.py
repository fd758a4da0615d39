"""`trueup schema [KIND]`: the JSON Schema of manifests, for editors. One document, of every kind or of one.

Begin a manifest with `# yaml-language-server: $schema=PATH` and the YAML language server checks it as it is typed.
"""

from __future__ import annotations

import argparse
from typing import Any

from reconciler.cli import exits
from reconciler.cli.output import print_json
from reconciler.core.editor_schema import editor_schema
from reconciler.core.language.documents import KINDS


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("schema", help="print the JSON Schema of manifests", description=__doc__)
    parser.add_argument("kind", nargs="?", default="", choices=["", *KINDS], metavar="KIND", help=", ".join(KINDS))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    print_json(editor_schema(args.kind))
    return exits.OK
