"""What the claims of an OIDC token may do: the first rule that matches says it, and without one nothing. Pure.

Called by `reconciler.oidc.issuers` with claims that are verified. A rule compares whole values, never parts of them:
patterns in such rules let strangers in. A rule that gives no verbs shuts out whom it matches, if it stands first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.core.permission import ALL, Identity, Scope, Verb

SUBJECT_CHARS_MAX = 255
_SUBJECT = re.compile(rf"[!-~]{{1,{SUBJECT_CHARS_MAX}}}")


@dataclass(frozen=True, slots=True)
class Rule:
    """`match`: claim -> values, one of which it has to have (or to hold, where the claim is a list); all claims have to
    match. One that names no claim matches nothing."""

    match: Mapping[str, Sequence[str]]
    verbs: frozenset[Verb]
    org: str = ALL
    project: str = ALL

    def fits(self, claims: Mapping[str, Any]) -> bool:
        return bool(self.match) and all(
            not wanted.isdisjoint(_values(claims.get(name))) for name, wanted in self._wanted()
        )

    def _wanted(self) -> Iterable[tuple[str, frozenset[str]]]:
        return ((name, frozenset(values)) for name, values in self.match.items())


def scope_of(rules: Iterable[Rule], claims: Mapping[str, Any]) -> Scope | None:
    """None: nobody said that these claims may anything."""
    for rule in rules:
        if rule.fits(claims):
            return Scope(rule.org, rule.project, rule.verbs) if rule.verbs else None
    return None


def identity_of(name: str, subject: Any, scope: Scope) -> Identity | None:
    """oidc:NAME:SUBJECT; None for a subject that cannot stand in a line of history."""
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        return None
    return Identity("oidc", f"{name}:{subject}", scope)


def _values(claim: Any) -> frozenset[str]:
    """The texts that a claim has; what is neither a text nor a truth value nor a whole number has none."""
    each = claim if isinstance(claim, list) else [claim]
    texts = (str(one).lower() if isinstance(one, bool) else str(one) for one in each if isinstance(one, (str, int)))
    return frozenset(texts)
