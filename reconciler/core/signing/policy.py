"""Who may sign, until when, and where one signer is not enough: the operator's signers file, read.

Made by `policy_file`, asked by `verdicts` and `approvals`. It never comes from the repository that it judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from reconciler.core.signing.globs import matches

Require = Literal["off", "warn", "head", "all"]
"""warn: as all, but nothing is refused. head: the commit that is applied. all: every commit since the applied one."""
COMMITS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Signer:
    """`emails` in lower case. A `machine` (a forge that signs merges) never counts where several signers are needed."""

    name: str
    emails: frozenset[str]
    machine: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """`fingerprint`: SHA256:... of an SSH key, 40 hex digits of a GPG primary key. `file`: the GPG key's armour."""

    signer: Signer
    kind: Literal["ssh", "gpg"]
    fingerprint: str
    valid_after: datetime | None = None
    valid_before: datetime | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What matches any of `paths`, or a commit that changes a resource of any of `envs`, needs so many signers."""

    paths: tuple[str, ...]
    envs: frozenset[str]
    signers: int


@dataclass(frozen=True, slots=True)
class Policy:
    """`keys` by fingerprint. `root`: the commit behind which the first adoption begins to check; "" for none.
    `signed_for`: the value that every signed message must carry in its trailer Trueup-Signed-For; "" for none.
    `accepted`: commits that the operator answers for."""

    require: Require = "all"
    root: str = ""
    signed_for: str = ""
    commits_max: int = COMMITS_MAX
    accepted: frozenset[str] = frozenset()
    keys: Mapping[str, Key] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def signers_for_path(self, path: str) -> int:
        return max((rule.signers for rule in self.rules if any(matches(each, path) for each in rule.paths)), default=0)

    def signers_for_envs(self, envs: frozenset[str]) -> int:
        return max((rule.signers for rule in self.rules if rule.envs & envs), default=0)
