"""The signers file: TOML to a `Policy`, or a `Refusal` ("signers_invalid") that names everything wrong with it.

Called by `reconciler.git.signers_file`, which reads the file. The format, with an example: docs/SIGNERS.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from kit.errors import Refusal
from reconciler.core.signing import globs, ssh
from reconciler.core.signing.armour import SignatureUnreadable
from reconciler.core.signing.policy import COMMITS_MAX, Key, Policy, Require, Rule, Signer

SIGNERS_MAX = 1000
SIGNERS_NEEDED_MAX = 10
COMMITS_BOUND = 20_000
_COMMIT = re.compile(r"[0-9a-f]{40}")
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    ssh: str = ""
    gpg: str = ""
    file: str = ""
    valid_after: _Moment | None = None
    valid_before: _Moment | None = None


class _Signer(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@ -]{0,63}$")]
    emails: Annotated[list[str], msgspec.Meta(min_length=1, max_length=20)]
    key: Annotated[list[_Key], msgspec.Meta(min_length=1, max_length=20)]
    machine: bool = False


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    signers: Annotated[int, msgspec.Meta(ge=2, le=SIGNERS_NEEDED_MAX)] = 2
    paths: list[str] = []
    envs: list[str] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    signer: Annotated[list[_Signer], msgspec.Meta(min_length=1, max_length=SIGNERS_MAX)]
    require: Literal["off", "warn", "head", "all"] = "all"
    root: str = ""
    signed_for: Annotated[str, msgspec.Meta(max_length=100)] = ""
    commits_max: Annotated[int, msgspec.Meta(ge=1, le=COMMITS_BOUND)] = COMMITS_MAX
    accepted: list[str] = []
    rule: list[_Rule] = []


def read_policy(text: str, where: str) -> Policy:
    """`where`: the file's name, for the error."""
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise invalid(where, str(error)) from error
    wrong: list[str] = []
    keys: dict[str, Key] = {}
    for signer in file.signer:
        who = Signer(signer.name, frozenset(each.strip().lower() for each in signer.emails), signer.machine)
        for number, each in enumerate(signer.key, start=1):
            _add(keys, who, each, f"signer {signer.name}, key {number}", wrong)
    wrong.extend(_complaints(file))
    if wrong:
        raise invalid(where, "; ".join(wrong))
    rules = tuple(Rule(tuple(each.paths), frozenset(each.envs), each.signers) for each in file.rule)
    require: Require = file.require
    return Policy(require, file.root, file.signed_for, file.commits_max, frozenset(file.accepted), keys, rules)


def invalid(where: str, why: str) -> Refusal:
    fix = "mend the file; docs/SIGNERS.md has its format. Until then no commit is applied"
    return Refusal(f"read the signers {where}", why, fix=fix, code="signers_invalid")


def _add(keys: dict[str, Key], signer: Signer, given: _Key, place: str, wrong: list[str]) -> None:
    if bool(given.ssh) == bool(given.gpg) or bool(given.gpg) != bool(given.file):
        wrong.append(f"{place}: give either ssh, or gpg (the fingerprint) with file")
        return
    try:
        fingerprint = ssh.fingerprint(ssh.read_public_key(given.ssh)) if given.ssh else _gpg_fingerprint(given.gpg)
    except SignatureUnreadable as error:
        wrong.append(f"{place}: {error}")
        return
    if given.valid_after and given.valid_before and given.valid_after >= given.valid_before:
        wrong.append(f"{place}: it is never valid")
    if fingerprint in keys:
        wrong.append(f"{place}: {keys[fingerprint].signer.name} has this key already; a key is one person's")
    kind: Literal["ssh", "gpg"] = "ssh" if given.ssh else "gpg"
    keys[fingerprint] = Key(signer, kind, fingerprint, given.valid_after, given.valid_before, given.file)


def _gpg_fingerprint(text: str) -> str:
    fingerprint = text.replace(" ", "").upper()
    if not re.fullmatch(r"[0-9A-F]{40}", fingerprint):
        raise SignatureUnreadable("gpg is the fingerprint of the primary key, 40 hex digits")
    return fingerprint


def _complaints(file: _File) -> Iterator[str]:
    names = [each.name for each in file.signer]
    yield from (
        f"two signers have the name {name}" for name in sorted({each for each in names if names.count(each) > 1})
    )
    for commit in (*([file.root] if file.root else []), *file.accepted):
        if not _COMMIT.fullmatch(commit):
            yield f"{commit[:80]!r} is no commit: 40 hex digits are needed"
    people = sum(not each.machine for each in file.signer)
    for number, rule in enumerate(file.rule, start=1):
        if not rule.paths and not rule.envs:
            yield f"rule {number}: it names neither paths nor envs"
        if rule.signers > people:
            yield f"rule {number}: it needs {rule.signers} signers, and there are {people} (machines do not count)"
        yield from (f"rule {number}, {glob!r}: {why}" for glob in rule.paths if (why := globs.complaint(glob)))
    if file.rule and not file.root:
        yield "rules need a root: the commit from which on they hold when nothing is applied yet"
