"""One Secret manifest on disk, for the commands that change values of it: `trueup secret edit` and `rotate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from kit.errors import Refusal
from kit.files import write_atomically
from reconciler.cli.secret_keys import scope_of
from reconciler.cli.secret_values import usage
from reconciler.cli.source_tree import findings_text
from reconciler.core.sealed_text import StandingSecret, secrets_in


def add_manifest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a manifest")
    parser.add_argument("--name", default="", metavar="ENV/APP/NAME", help="which secret, if the file has several")


def read_manifest(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}", "name a Secret manifest") from error


def chosen(content: bytes, args: argparse.Namespace) -> StandingSecret:
    """The one that is named, or the only one."""
    secrets, findings = secrets_in(content, str(args.file), scope_of(args))
    if findings:
        raise Refusal(f"change {args.file}", findings_text(findings), fix="mend that first", code="manifest_invalid")
    named = {f"{each.manifest.id.env}/{each.manifest.id.app}/{each.manifest.id.name}": each for each in secrets}
    found = [each for name, each in named.items() if args.name in ("", name)]
    if len(found) != 1:
        raise usage(f"{args.file} has {len(found)} such secrets", f"choose with --name: {', '.join(named) or 'none'}")
    return found[0]


def replace_manifest(path: Path, before: bytes, after: bytes) -> None:
    """In one step, unless it is not what it was."""
    if read_manifest(path) != before:
        why = "somebody changed it meanwhile; nothing was written"
        raise Refusal(f"change {path}", why, fix="do it again", code="conflict")
    write_atomically(path, after, mode=path.stat().st_mode & 0o777)
