"""Whom a JWT proves, and what he may. Made by `reconciler.bootstrap`, asked by `reconciler.server.guard`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kit.clock import Clock
from kit.errors import Refusal
from reconciler.core.oidc_rules import Rule, identity_of, scope_of
from reconciler.core.permission import Identity, Scope
from reconciler.oidc.fetching import IssuerHttp
from reconciler.oidc.issuer_keys import IssuerKeys
from reconciler.oidc.settings import OidcRuleSettings, OidcSettings
from reconciler.oidc.token_text import LEEWAY_S, proven, refused, unproven


@dataclass(frozen=True, slots=True)
class Proven:
    """`ends_at_s`: when it stops to be good, in seconds since 1970."""

    identity: Identity
    ends_at_s: float


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: OidcSettings
    keys: IssuerKeys
    rules: tuple[Rule, ...]


class Issuers:
    """All that the settings name."""

    def __init__(self, issuers: Sequence[OidcSettings], rules: Sequence[OidcRuleSettings], clock: Clock) -> None:
        self._of = {
            each.issuer: _Issuer(
                each,
                IssuerKeys(each, IssuerHttp(each.ca_file), clock),
                tuple(rule.rule for rule in rules if rule.issuer == each.name),
            )
            for each in issuers
        }

    async def prove(self, token: str) -> Proven:
        """`Refusal` with code "unauthorized" or "token_expired": it proves nobody; "forbidden": somebody whom no rule
        names. `Transient`: the issuer's keys are not known."""
        said = unproven(token)
        issuer = self._of.get(said.issuer)
        if issuer is None:
            raise refused(f"it is of {said.issuer[:200]!r}, which this controller does not know", "see GET /v1/login")
        settings = issuer.settings
        key = await issuer.keys.find(said.kid, said.algorithm)
        if key is None:
            raise refused("its issuer has no such key (kid)")
        claims = proven(
            token,
            key,
            said.algorithm,
            issuer=settings.issuer,
            audience=settings.accepted_audience,
            lifetime_max_s=settings.lifetime_max_s,
        )
        return Proven(_identity(issuer, claims), claims["exp"] + LEEWAY_S)

    def for_people(self) -> list[dict[str, Any]]:
        """What `trueup login` has to know; nothing of it is secret."""
        return [
            {
                "name": each.settings.name,
                "issuer": each.settings.issuer,
                "client_id": each.settings.client_id,
                "scopes": list(each.settings.scopes),
                "bearer": each.settings.bearer,
                "hosts": list(each.settings.hosts),
            }
            for each in self._of.values()
            if each.settings.client_id
        ]


def _identity(issuer: _Issuer, claims: dict[str, Any]) -> Identity:
    settings = issuer.settings
    if settings.subject_claim == "email" and claims.get("email_verified") is not True:
        raise refused("its issuer has not verified the address (email_verified)")
    scope = scope_of(issuer.rules, claims)
    identity = identity_of(settings.name, claims.get(settings.subject_claim), scope or Scope())
    if identity is None:
        raise refused(f"its claim {settings.subject_claim} is no name of up to 255 characters without spaces")
    if scope is None:
        why = f"no [[oidc_rules]] lets {identity} in"
        fix = "an operator adds a rule that matches its claims (docs/SECURITY.md)"
        raise Refusal("accept the token", why, fix=fix, code="forbidden")
    return identity
