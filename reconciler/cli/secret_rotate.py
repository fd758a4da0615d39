"""`trueup secret rotate FILE KEY`: a new value for one key of a Secret manifest, sealed for its place.

The value is read from standard input, without the line end behind it (from a terminal it is asked for and not shown),
from --file PATH as it is, or made: --generate BYTES gives that many random bytes as base64url. Everything else in the
file stays byte by byte. No key is needed, only the recipient of the project. Once it is committed the processes that
use the secret are replaced; until then the old value has to stay good where it is used, so: make the new one valid
there, rotate, commit, wait for `trueup status`, and take the old one away. What sops encrypted is changed with sops.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import secrets
import sys
from pathlib import Path
from typing import Any

from kit.errors import Refusal
from reconciler.cli import exits
from reconciler.cli.output import print_json
from reconciler.cli.secret_keys import add_key_options, add_recipient_options, find_recipient, scope_of
from reconciler.cli.secret_manifests import add_manifest_options, chosen, read_manifest, replace_manifest
from reconciler.cli.secret_values import read_bounded, usage
from reconciler.core.sealed_text import StandingSecret, with_values
from reconciler.core.secret_file import secret_file
from reconciler.vault.sealing import sealed_for

GENERATED_BYTES_MIN, GENERATED_BYTES_MAX = 16, 1024


def register(actions: Any) -> None:
    parser = actions.add_parser("rotate", help="give one key of a Secret manifest a new value", description=__doc__)
    add_manifest_options(parser)
    parser.add_argument("key", metavar="KEY", help="a key that it has; trueup secret edit adds others")
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--generate", type=int, metavar="BYTES", help="a random value of that many bytes, as base64url")
    origin.add_argument(
        "--file", dest="value_file", default="", metavar="PATH", help="the value is this file's content"
    )
    add_recipient_options(parser)
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    content = read_manifest(args.file)
    standing = chosen(content, args)
    secret = standing.manifest.id
    _refuse_what_is_not_ours(standing, args.file, args.key)
    recipient, value = find_recipient(args), _value(args)
    if not value:
        raise usage("the new value is empty", "give it on standard input, with --file, or with --generate BYTES")
    secret_file({args.key: value})
    changes = {(str(secret), args.key): sealed_for(value, secret, args.key, recipient)}
    replace_manifest(args.file, content, with_values(content, str(args.file), scope_of(args), changes))
    app = f"{secret.env}/app/{secret.app}"
    if getattr(args, "output", "table") == "json":
        print_json({"path": str(args.file), "secret": secret.short, "key": args.key, "rolls_out": [app]})
    else:
        told = f"{args.key} of {secret.short} has a new value in {args.file}, and nothing else is changed."
        sys.stdout.write(f"{told}\nOnce it is committed {app} rolls out: its processes that use {secret.name}.\n")
    return exits.OK


def _refuse_what_is_not_ours(standing: StandingSecret, path: Path, key: str) -> None:
    secret = standing.manifest
    attempted = f"rotate {key[:128]} of {secret.id.short}"
    if secret.sops is not None:
        why = "its values are encrypted by sops, which has a MAC over all of them"
        whole = f"""sops set --value-stdin {path} '["spec"]["values"]["{key}"]', with the value as JSON"""
        raise Refusal(attempted, why, fix=whole if secret.sops.path else "sops edit, of the document", code="usage")
    if key not in secret.values:
        known = ", ".join(sorted(secret.values))
        raise Refusal(attempted, "it has no such key", fix=f"keys: {known}; trueup secret edit adds one", code="usage")


def _value(args: argparse.Namespace) -> bytes:
    if args.generate is not None:
        if not GENERATED_BYTES_MIN <= args.generate <= GENERATED_BYTES_MAX:
            why = f"--generate {args.generate} is not from {GENERATED_BYTES_MIN} to {GENERATED_BYTES_MAX}"
            raise usage(why, "32 bytes cannot be guessed")
        return base64.urlsafe_b64encode(secrets.token_bytes(args.generate)).rstrip(b"=")
    if args.value_file:
        return read_bounded(args.value_file)
    if sys.stdin.isatty():
        return getpass.getpass(f"new value of {args.key}: ").encode()
    return read_bounded("-").removesuffix(b"\n").removesuffix(b"\r")
