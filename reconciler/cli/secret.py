"""`trueup secret seal`: values in, a Secret manifest with encrypted values out.

Values come as KEY=VALUE lines from standard input or a file; a value of several lines, or a binary one, is written
`base64:...` there, or given with --file KEY=PATH. Each value is sealed to its project's recipient, for its environment,
app, secret and key: copied elsewhere it is refused. Only the platform can open it; what is printed may be committed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from typing import Any

from reconciler.cli import exits, secret_edit, secret_exposed, secret_keys, secret_rewrap, secret_rotate
from reconciler.cli.output import print_json
from reconciler.cli.secret_keys import add_key_options, add_recipient_options, find_recipient
from reconciler.cli.secret_values import gather, usage
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import secret_file
from reconciler.vault.sealing import sealed_for

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("secret", help="make and keep Secret manifests", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    sealing = actions.add_parser("seal", help="encrypt values for a Secret manifest", description=__doc__)
    for part in ("env", "app", "name"):
        sealing.add_argument(f"--{part}", required=True, help=f"metadata.{part} of the manifest")
    sealing.add_argument("values", nargs="?", default="", help="a file of KEY=VALUE lines (default: standard input)")
    sealing.add_argument(
        "--file", action="append", default=[], metavar="KEY=PATH", help="a value from a file; may be repeated"
    )
    sealing.set_defaults(run=run_seal)
    add_recipient_options(sealing)
    add_key_options(sealing)
    for each in (secret_keys, secret_rewrap, secret_edit, secret_rotate, secret_exposed):
        each.register(actions)


def run_seal(args: argparse.Namespace) -> int:
    values = gather(args.values, args.file)
    document = seal_manifest(values, env=args.env, app=args.app, name=args.name, recipient=find_recipient(args))
    if getattr(args, "output", "table") == "json":
        print_json(document)
    else:
        sys.stdout.write(render(document))
    return exits.OK


def seal_manifest(values: Mapping[str, bytes], *, env: str, app: str, name: str, recipient: str) -> dict[str, Any]:
    """The manifest as a document, with armored values. `Refusal` when a name, a key or a size is out of bounds."""
    for part, given in (("env", env), ("app", app), ("name", name)):
        if not _NAME.fullmatch(given):
            raise usage(f"--{part} {given[:40]!r} is not a name", "use lower-case letters, digits and hyphens")
    if not values:
        raise usage("there are no values", "give KEY=VALUE lines on standard input, or --file KEY=PATH")
    secret_file(values)
    identity = ResourceId("-", "-", env, app, "secret", name)
    return {
        "apiVersion": "trueup/v1",
        "kind": "Secret",
        "metadata": {"name": name, "app": app, "env": env},
        "spec": {"values": {key: sealed_for(value, identity, key, recipient) for key, value in sorted(values.items())}},
    }


def render(document: Mapping[str, Any]) -> str:
    """As YAML, one block of text per value."""
    meta = document["metadata"]
    lines = [
        "apiVersion: trueup/v1",
        "kind: Secret",
        "metadata:",
        *(f"  {key}: {meta[key]}" for key in ("name", "app", "env")),
        "spec:",
        "  values:",
    ]
    for key, armored in document["spec"]["values"].items():
        lines += [f"    {key}: |", *(f"      {line}" for line in armored.strip().splitlines())]
    return "\n".join(lines) + "\n"
