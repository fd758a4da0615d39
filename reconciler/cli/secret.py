"""`trueup secret seal`: values in, a Secret manifest with encrypted values out. `trueup secret recipient`: whom to.

Values come as KEY=VALUE lines from standard input or a file; a value of several lines, or a binary one, is written
`base64:...` there, or given with --file KEY=PATH. Each value is sealed for its environment, app, secret and key: copied
elsewhere it is refused. Only the platform can open it; what is printed may be committed.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kit.errors import Refusal
from reconciler.cli import exits
from reconciler.cli.output import print_json
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import secret_file
from reconciler.vault import Vault, bound, place_of, seal

INPUT_BYTES_MAX = 1 << 20
_KEY = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("secret", help="make Secret manifests", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    sealing = actions.add_parser("seal", help="encrypt values for a Secret manifest", description=__doc__)
    for part in ("env", "app", "name"):
        sealing.add_argument(f"--{part}", required=True, help=f"metadata.{part} of the manifest")
    sealing.add_argument("values", nargs="?", default="", help="a file of KEY=VALUE lines (default: standard input)")
    sealing.add_argument(
        "--file", action="append", default=[], metavar="KEY=PATH", help="a value from a file; may be repeated"
    )
    sealing.set_defaults(run=run_seal)
    showing = actions.add_parser("recipient", help="print the platform's recipient")
    showing.set_defaults(run=run_recipient)
    for each in (sealing, showing):
        each.add_argument("--recipient", default=os.environ.get("TRUEUP_RECIPIENT", ""), help="age1... of the platform")
        each.add_argument(
            "--output", choices=("table", "json"), default=argparse.SUPPRESS, help="for people, or programs"
        )
        each.add_argument("--state", default=Path(".state"), type=Path, help="else: the controller's state folder")


def run_seal(args: argparse.Namespace) -> int:
    values = gather(args.values, args.file)
    document = seal_manifest(values, env=args.env, app=args.app, name=args.name, recipient=find_recipient(args))
    if getattr(args, "output", "table") == "json":
        print_json(document)
    else:
        sys.stdout.write(render(document))
    return exits.OK


def run_recipient(args: argparse.Namespace) -> int:
    recipient = find_recipient(args)
    if getattr(args, "output", "table") == "json":
        print_json({"recipient": recipient})
    else:
        sys.stdout.write(f"{recipient}\n")
    return exits.OK


def seal_manifest(values: Mapping[str, bytes], *, env: str, app: str, name: str, recipient: str) -> dict[str, Any]:
    """The manifest as a document, with armored values. `Refusal` when a name, a key or a size is out of bounds."""
    for part, given in (("env", env), ("app", app), ("name", name)):
        if not _NAME.fullmatch(given):
            raise _usage(f"--{part} {given[:40]!r} is not a name", "use lower-case letters, digits and hyphens")
    if not values:
        raise _usage("there are no values", "give KEY=VALUE lines on standard input, or --file KEY=PATH")
    secret_file(values)
    identity = ResourceId("-", "-", env, app, "secret", name)
    sealed = {
        key: seal(bound(value, place_of(identity, key)), recipient, armored=True).decode()
        for key, value in sorted(values.items())
    }
    return {
        "apiVersion": "trueup/v1",
        "kind": "Secret",
        "metadata": {"name": name, "app": app, "env": env},
        "spec": {"values": sealed},
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


def gather(values: str, files: Iterable[str]) -> dict[str, bytes]:
    """From KEY=VALUE lines (a path, "-" or "" for standard input) and KEY=PATH pairs. With pairs alone, standard input
    is left in peace."""
    found: dict[str, bytes] = {}
    for pair in files:
        key, equals, path = pair.partition("=")
        if not equals:
            raise _usage("--file wants KEY=PATH", "for example --file TLS_KEY=key.pem")
        _add(found, key, _read(path), f"--file {key[:40]}")
    if values or not found:
        for number, line in enumerate(_read(values or "-").split(b"\n"), start=1):
            _add_line(found, line.removesuffix(b"\r"), number)
    return found


def find_recipient(args: argparse.Namespace) -> str:
    """As given, else that of the platform's key in the state folder (which is not made here)."""
    if args.recipient:
        return str(args.recipient)
    path = args.state / "platform.agekey"
    if not path.exists():
        raise _usage(f"{path} is not there", "give --recipient age1..., as the controller prints it at its start")
    return Vault.open_or_create(path).recipient


def _add_line(found: dict[str, bytes], line: bytes, number: int) -> None:
    """Messages name the line, never what is in it."""
    if not line.strip() or line.startswith(b"#"):
        return
    key, equals, value = line.partition(b"=")
    if not equals:
        raise _usage(f"line {number} is no KEY=VALUE", "write one value a line")
    if value.startswith(b"base64:"):
        try:
            value = base64.b64decode(value.removeprefix(b"base64:"), validate=True)
        except binascii.Error:
            raise _usage(f"line {number} is not base64 after base64:", "make it with: base64 -w0 FILE") from None
    _add(found, key.decode("utf-8", "replace"), value, f"line {number}")


def _add(found: dict[str, bytes], key: str, value: bytes, where: str) -> None:
    if not _KEY.fullmatch(key):
        raise _usage(f"{where}: the key is not a variable's name", "use A-Z, 0-9 and _, beginning with a letter")
    if key in found:
        raise _usage(f"{where}: the key {key} is there twice", "give each key once")
    found[key] = value


def _read(path: str) -> bytes:
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as handle:
            content = handle.read(INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise _usage(f"{path} cannot be read: {error.strerror}", "name a file") from error
    if len(content) > INPUT_BYTES_MAX:
        raise _usage(f"{path} has more than {INPUT_BYTES_MAX} bytes", "a value may have 64 KiB")
    return content


def _usage(why: str, fix: str) -> Refusal:
    return Refusal("seal a secret", why, fix=fix, code="usage")
