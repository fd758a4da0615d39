"""`trueup secret rewrap [--check] PATHS`: seals the values of Secret manifests anew, to their project's newest key.

On the controller's host, since it needs the platform's key. What the values are does not change, nor does their version
id, so nothing is replaced for it; comments and layout stay. A value that was sealed to the project for its place is the
project's own. Any other one (sealed to the platform's recipient of earlier versions, or with age alone) may have been
copied from somebody else: it is taken if its secret, with these values, is what the controller applied, or if --vouch
says that it was meant. A value for another place is refused. A file with anything refused stays as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kit.errors import Refusal, Transient, TrueupError
from kit.files import write_atomically
from kit.plain_text import counted
from reconciler.cli import exits
from reconciler.cli.client import add_connection_options, fetch
from reconciler.cli.secret_keys import add_key_options, add_project_options, open_vault, scope_of
from reconciler.cli.source_tree import findings_text, manifest_files, show
from reconciler.core.declared import Scope
from reconciler.core.findings import Finding, errors
from reconciler.core.model import ResourceId
from reconciler.core.sealed_text import StandingSecret, secrets_in, with_values
from reconciler.core.secret_file import SecretRefusal
from reconciler.vault import Vault, place_of
from reconciler.vault.opening import Opened
from reconciler.vault.sealing import sealed_for, sops_command_for

AppliedVersion = Callable[[ResourceId], str]
"""Of a secret, as the controller knows it; "" for none."""


@dataclass(slots=True)
class Outcome:
    changed: list[str] = field(default_factory=list)
    values: int = 0
    findings: list[Finding] = field(default_factory=list)


def register(actions: Any) -> None:
    parser = actions.add_parser("rewrap", help="seal values anew to their project's newest key", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files and folders")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a file would change")
    parser.add_argument("--vouch", action="store_true", help="do not ask the controller: every value is meant for here")
    add_project_options(parser)
    add_connection_options(parser)
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    vault, outcome = open_vault(args), Outcome()
    rewrap = Rewrap(vault, scope_of(args), None if args.vouch else lambda secret: _applied(args, secret))
    for path in manifest_files(args.paths, outcome.findings):
        _one(path, rewrap, outcome, write=not args.check)
    document = {
        "changed": outcome.changed,
        "values": outcome.values,
        "written": not args.check,
        "findings": [f"{each.place}: {each.message}" for each in outcome.findings],
    }
    show(document, _render(outcome, check=args.check), getattr(args, "output", "table"))
    return exits.GENERIC if errors(outcome.findings) or (args.check and outcome.changed) else exits.OK


def _one(path: Path, rewrap: Rewrap, outcome: Outcome, *, write: bool) -> None:
    content = path.read_bytes()
    if b"BEGIN AGE ENCRYPTED FILE" not in content:
        return
    anew, count, findings = rewrap(content, str(path))
    outcome.findings += findings
    if count and not findings:
        outcome.changed.append(str(path))
        outcome.values += count
        if write:
            write_atomically(path, anew, mode=path.stat().st_mode & 0o777)


class Rewrap:
    """`applied`: None when somebody vouches for the values."""

    def __init__(self, vault: Vault, scope: Scope, applied: AppliedVersion | None) -> None:
        self._vault = vault
        self._scope = scope
        self._applied = applied

    def __call__(self, content: bytes, path: str) -> tuple[bytes, int, list[Finding]]:
        """The file anew, and how many values of it; or what is wrong."""
        secrets, findings = secrets_in(content, path, self._scope)
        anew: dict[tuple[str, str], str] = {}
        for each in secrets:
            if each.manifest.sops is not None:
                findings += self._of_sops(each, path)
                continue
            try:
                opened = self._vault.opened(each.manifest)
            except SecretRefusal as refusal:
                findings.append(_finding(each, path, refusal))
                continue
            refused = list(self._refused(each, opened))
            findings += [_finding(each, path, refusal) for refusal in refused]
            anew |= {} if refused else self._anew(each.manifest.id, opened)
        if findings or not anew:
            return content, 0, findings
        return with_values(content, path, self._scope, anew), len(anew), []

    def _of_sops(self, each: StandingSecret, path: str) -> Iterator[Finding]:
        """sops writes its documents; here it is said when one has to be encrypted anew."""
        secret = each.manifest.id
        try:
            opened = self._vault.opened(each.manifest)
        except SecretRefusal as refusal:
            yield _finding(each, path, refusal)
            return
        if any(value.sealed_to != "newest" for value in opened.values()):
            why = "this document of sops is not encrypted to its project's newest recipient"
            fix = sops_command_for(secret, self._vault.recipient_of(secret.org, secret.project))
            yield _finding(each, path, SecretRefusal("", why, fix, "secret_earlier_key"))

    def _anew(self, secret: ResourceId, opened: dict[str, Opened]) -> dict[tuple[str, str], str]:
        recipient = self._vault.recipient_of(secret.org, secret.project)
        return {
            (str(secret), key): sealed_for(each.value, secret, key, recipient)
            for key, each in opened.items()
            if each.sealed_to != "newest" or each.place is None
        }

    def _refused(self, each: StandingSecret, opened: dict[str, Opened]) -> Iterator[SecretRefusal]:
        secret = each.manifest.id
        for key, value in opened.items():
            if value.place not in (None, place_of(secret, key)):
                why = f"the value of {key} was sealed for another secret or key"
                yield SecretRefusal(
                    key, why, "find out how it came here; seal it anew if it is meant", "secret_elsewhere"
                )
        doubtful = [key for key, value in opened.items() if value.sealed_to == "platform" or value.place is None]
        if doubtful and self._applied is not None:
            version = self._vault.version_id(secret, {key: value.value for key, value in opened.items()})
            if version != self._applied(secret):
                where = f"{secret.org}/{secret.project}"
                why = f"nothing shows that the value of {doubtful[0]} is from {where}: it was not applied"
                fix = "find out who sealed it, and seal it anew; or say with --vouch that it is meant"
                yield SecretRefusal(doubtful[0], why, fix, "secret_not_applied")


def _finding(each: StandingSecret, path: str, refusal: SecretRefusal) -> Finding:
    mark = each.marks.get(refusal.key)
    line, column = (mark.line, mark.column) if mark else (each.line, 0)
    return Finding(path, line, column, f"/spec/values/{refusal.key}", refusal.code, refusal.why, refusal.fix)


def _applied(args: argparse.Namespace, secret: ResourceId) -> str:
    try:
        row = fetch(args, f"/v1/views/resources/{quote(str(secret), safe='/')}")["doc"]
    except TrueupError as error:
        if error.code == "not_found":
            return ""
        why = f"the controller was asked whether {secret.short} was applied: {error.why}"
        fix = "start it, or name it with --controller; or say with --vouch that every value is meant"
        kind = Transient if error.retryable else Refusal
        raise kind("rewrap secrets", why, fix=fix, code=error.code) from error
    return str(row["spec"].get("version_id", ""))


def _render(outcome: Outcome, *, check: bool) -> str:
    lines = [findings_text(outcome.findings)] if outcome.findings else []
    lines += [f"{'would change' if check else 'changed'}: {path}" for path in outcome.changed]
    lines.append(f"{counted(outcome.values, 'value')} {'to seal' if check else 'sealed'} anew")
    return "\n".join(lines)
