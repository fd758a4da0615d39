"""`trueup secret recipient`, `rotate-key`, `drop-keys`: whom secrets are sealed to, and the key that opens them.

A project's recipient is derived from the platform's key. It is found, in this order: as given; from the key file on the
controller's host; from the controller. Anybody may have it. docs/runbooks/secret-keys.md tells how a rotation goes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.cli import exits
from reconciler.cli.client import add_connection_options, add_state_option, fetch, state_folder
from reconciler.cli.output import print_json
from reconciler.cli.secret_needed import refuse_if_needed
from reconciler.cli.secret_values import usage
from reconciler.core.declared import Scope
from reconciler.keys import CONTROLLER_URL, PLATFORM_KEY
from reconciler.vault import Vault, key_file

DEFAULT = "default"
DROP = """\
What is sealed to an earlier key opens never again. So it is refused while the controller names a version of a secret,
declared or of an instance, that the newest key alone does not open, in no clone in the state folder: rewrap and push
first (docs/runbooks/secret-keys.md). The number of earlier keys has to be named, so that nobody drops more than he
looked at."""


def register(actions: Any) -> None:
    showing = actions.add_parser("recipient", help="print what a project's secrets are sealed to", description=__doc__)
    showing.set_defaults(run=_recipient)
    add_recipient_options(showing)
    add_key_options(showing)
    rotating = actions.add_parser(
        "rotate-key", help="make a new platform key; the earlier ones still open", description=__doc__
    )
    rotating.set_defaults(run=_rotate)
    dropping = actions.add_parser("drop-keys", help="forget all platform keys but the newest", description=DROP)
    dropping.add_argument(
        "--keys", type=int, required=True, metavar="N", help="how many earlier keys it has, and shall go"
    )
    dropping.set_defaults(run=_drop)
    dropping.add_argument("--vouch", action="store_true", help="do not ask the controller: nothing needs them any more")
    for each in (rotating, dropping):
        add_key_options(each)
    add_state_option(rotating)
    add_connection_options(dropping)


def add_recipient_options(parser: argparse.ArgumentParser) -> None:
    recipient = os.environ.get("TRUEUP_RECIPIENT", "")
    parser.add_argument("--recipient", default=recipient, metavar="AGE1", help="the project's, if it is known")
    parser.add_argument(
        "--source", default="", metavar="NAME", help="the project of that source; the controller is asked"
    )
    add_project_options(parser)
    add_connection_options(parser)


def add_project_options(parser: argparse.ArgumentParser) -> None:
    for part in ("org", "project"):
        said = os.environ.get(f"TRUEUP_{part.upper()}", DEFAULT)
        parser.add_argument(f"--{part}", default=said, help=f"{part} that the source declares for (default: {said})")


def add_key_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--platform-key-file", metavar="FILE", help="default: platform.agekey in the state folder")
    parser.add_argument(
        "--output", choices=("table", "json"), default=argparse.SUPPRESS, help="for people, or programs"
    )


def scope_of(args: argparse.Namespace) -> Scope:
    return Scope(args.org, args.project)


def find_recipient(args: argparse.Namespace) -> str:
    """As given, else from the platform's key (which is not made here), else as the controller says."""
    if args.recipient:
        return str(args.recipient)
    if not args.source and os.access(key_path(args), os.R_OK):
        return open_vault(args).recipient_of(args.org, args.project)
    if args.controller or os.environ.get("TRUEUP_CONTROLLER") or (state_folder(args) / CONTROLLER_URL).exists():
        return _asked(args)
    why = f"{key_path(args)} is not there, or not for you, and no controller is named"
    raise usage(why, "give --recipient age1..., as trueup secret recipient prints it, or --controller")


def _asked(args: argparse.Namespace) -> str:
    told = [each for each in fetch(args, "/v1/status")["sources"] if _meant(each, args)]
    if not told or not told[0]["recipient"]:
        what = f"source {args.source}" if args.source else f"source of {args.org}/{args.project}"
        raise usage(f"the controller knows no {what}", "trueup source list shows all; name one with --source")
    return str(told[0]["recipient"])


def _meant(source: Any, args: argparse.Namespace) -> bool:
    if args.source:
        return bool(source["source_id"] == args.source)
    return (source["org"], source["project"]) == (args.org, args.project)


def key_path(args: argparse.Namespace) -> Path:
    return Path(args.platform_key_file) if args.platform_key_file else state_folder(args) / PLATFORM_KEY


def open_vault(args: argparse.Namespace) -> Vault:
    with _there(key_path(args)) as path:
        return Vault(path)


def _recipient(args: argparse.Namespace) -> int:
    recipient = find_recipient(args)
    return _told(args, {"recipient": recipient}, recipient)


def _rotate(args: argparse.Namespace) -> int:
    with _there(key_path(args)) as path:
        key = key_file.rotate(path)
    text = (
        f"{path} has a new key before {len(key.identities) - 1} earlier; every project has a new recipient.\n"
        "Now: copy the file to the other controllers and into the backup, then trueup secret rewrap\n"
        "(docs/runbooks/secret-keys.md)."
    )
    return _told(args, {"path": str(path), "identities": len(key.identities)}, text)


def _drop(args: argparse.Namespace) -> int:
    with _there(key_path(args)) as path:
        if not args.vouch:
            refuse_if_needed(args, path)
        dropped = key_file.drop_earlier(path, args.keys)
    return _told(args, {"path": str(path), "dropped": dropped}, f"{path} holds the newest key alone; {dropped} dropped")


@contextmanager
def _there(path: Path) -> Iterator[Path]:
    """The key file, or a word about where it is."""
    try:
        yield path
    except OSError as error:
        fix = "run it on the controller's host, as its user, with --state or --platform-key-file"
        raise usage(f"{path} cannot be used: {error.strerror}", fix) from None


def _told(args: argparse.Namespace, document: dict[str, Any], text: str) -> int:
    if getattr(args, "output", "table") == "json":
        print_json(document)
    else:
        sys.stdout.write(f"{text}\n")
    return exits.OK
