"""`trueup secret edit FILE`: a Secret manifest's values in your editor; what changed is sealed anew.

On the controller's host, since it needs the platform's key. The values lie in memory while they are edited, one
KEY=VALUE a line as `trueup secret seal` reads them; lines may be added and removed. A value that stays as it was keeps
its ciphertext, so that a review shows what changed. Some editors keep copies of what they edit elsewhere: switch that
off for folders named trueup-edit-*.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from kit.errors import Refusal
from kit.plain_text import counted
from reconciler.cli import exits
from reconciler.cli.client import add_state_option
from reconciler.cli.main import print_error
from reconciler.cli.private_edit import edit, private_file
from reconciler.cli.secret_keys import add_key_options, add_project_options, open_vault, scope_of
from reconciler.cli.secret_manifests import add_manifest_options, chosen, read_manifest, replace_manifest
from reconciler.cli.secret_values import usage, values_in
from reconciler.core.sealed_text import with_values
from reconciler.core.secret_file import SecretManifest, secret_file, secret_lines
from reconciler.vault import Vault, place_of
from reconciler.vault.sealing import sealed_for


def register(actions: Any) -> None:
    parser = actions.add_parser("edit", help="edit the values of a Secret manifest", description=__doc__)
    add_manifest_options(parser)
    add_project_options(parser)
    add_state_option(parser)
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    vault, path = open_vault(args), args.file
    content = read_manifest(path)
    secret = chosen(content, args).manifest
    if secret.sops is not None:
        why = "its values are a document of sops, which has a MAC over all of them"
        raise Refusal(f"edit {secret.id.short}", why, fix="edit the document with: sops edit", code="usage")
    before = _own_values(vault, secret)
    after = _edited(before, f"{secret.id.short} in {path}")
    changes = {key: after.get(key) for key in {*before, *after} if before.get(key) != after.get(key)}
    if changes:
        recipient = vault.recipient_of(secret.id.org, secret.id.project)
        sealed = {
            (str(secret.id), key): None if value is None else sealed_for(value, secret.id, key, recipient)
            for key, value in changes.items()
        }
        anew = with_values(content, str(path), scope_of(args), sealed)
        replace_manifest(path, content, anew)
    sys.stdout.write(f"{counted(len(changes), 'value')} changed: {', '.join(sorted(changes)) or 'none'}\n")
    return exits.OK


def _own_values(vault: Vault, secret: SecretManifest) -> dict[str, bytes]:
    """Nobody reads here what was copied from elsewhere."""
    opened = vault.opened(secret)
    for key, each in opened.items():
        if each.sealed_to == "platform" or each.place != place_of(secret.id, key):
            why = f"the value of {key} was not sealed to {secret.id.org}/{secret.id.project} for this place"
            fix = "see what trueup secret rewrap says about it, or seal it anew"
            raise Refusal(f"edit {secret.id.short}", why, fix=fix, code="secret_elsewhere")
    return {key: each.value for key, each in opened.items()}


def _edited(values: Mapping[str, bytes], what: str) -> dict[str, bytes]:
    """Asks again as long as the lines make no values and somebody is there to ask."""
    with private_file(f"# {what}\n".encode() + secret_lines(values)) as path:
        while True:
            try:
                return _fit(values_in(edit(path)))
            except Refusal as refusal:
                if refusal.code == "editor_failed" or not sys.stdin.isatty():
                    raise
                print_error(refusal)
                sys.stderr.write("Enter edits again, Ctrl-C gives up.\n")
                sys.stdin.readline()


def _fit(values: dict[str, bytes]) -> dict[str, bytes]:
    if not values:
        raise usage("there are no values left", "a secret that is not needed goes with its manifest")
    secret_file(values)
    return values
