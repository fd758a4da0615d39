"""The tables [[oidc]] and [[oidc_rules]] of the controller's TOML file. Read by `reconciler.settings`.

An issuer says who somebody is; only the rules say what he may, read from top to bottom, the first that matches counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kit.settings import setting
from reconciler.core.oidc_rules import Rule
from reconciler.core.permission import ALL, SCOPED_VERBS, Verb
from reconciler.oidc.addresses import unfit_address

ISSUERS_MAX = 20
RULES_MAX = 500
NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_PLACE = re.compile(r"\*|[a-z0-9][a-z0-9-]{0,62}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}")
_WORD = re.compile(r"[!-~]{1,255}")


def _check_name(value: str) -> str:
    return "" if _NAME.fullmatch(value) else f"expected a-z, 0-9 and hyphens, found {value[:80]!r}"


def _check_place(value: str) -> str:
    return "" if _PLACE.fullmatch(value) else f"expected * or a-z, 0-9 and hyphens, found {value[:80]!r}"


def _check_word(value: str) -> str:
    return "" if not value or _WORD.fullmatch(value) else f"expected one word, found {value[:80]!r}"


def _check_hosts(value: tuple[str, ...]) -> str:
    wrong = [each for each in value if not _HOST.fullmatch(each)]
    return f"expected names of hosts, found {wrong[0][:80]!r}" if wrong else ""


def _check_ttl(value: float) -> str:
    return "" if 60 <= value <= 86_400 else f"expected between 1m and 24h, found {value:g} s"


def _check_lifetime(value: float) -> str:
    return "" if 60 <= value <= 7 * 86_400 else f"expected between 1m and 168h, found {value:g} s"


def _check_verbs(value: tuple[str, ...]) -> str:
    unknown = sorted(set(value) - SCOPED_VERBS)
    return f"expected some of {', '.join(sorted(SCOPED_VERBS))}, found {unknown[0]!r}" if unknown else ""


def _check_match(value: Mapping[str, tuple[str, ...]]) -> str:
    """A rule for everybody has to be written: at a public issuer everybody is the whole world."""
    if not value or not all(value.values()):
        return "names no claim, or no value of one; for everybody of an issuer of yours alone: { iss = its address }"
    return ""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """An issuer whose tokens are accepted."""

    name: str = setting("how it is called: identities are oidc:NAME:SUBJECT", check=_check_name)
    issuer: str = setting("its address, exactly as it stands in the claim iss")
    client_id: str = setting(
        "public client with which `trueup login` works; empty: CI only", default="", check=_check_word
    )
    audience: str = setting("what the claim aud has to say (default: client_id)", default="", check=_check_word)
    scopes: tuple[str, ...] = setting("what `trueup login` asks for", default=("openid", "offline_access"))
    bearer: str = setting(
        "which token `trueup login` sends: id_token, or access_token where that is a JWT for the audience",
        default="id_token",
    )
    subject_claim: str = setting(
        "the claim that names a person for ever; one that is given to somebody else later is none", default="sub"
    )
    hosts: tuple[str, ...] = setting(
        "hosts beside the issuer's own that serve its keys", default=(), check=_check_hosts
    )
    ca_file: Path | None = setting("certificates that the issuer's is checked against", default=None)
    keys_ttl_s: float = setting(
        "how long its keys are used before they are read anew: a key that it took back works so long",
        default=600.0,
        check=_check_ttl,
    )
    lifetime_max_s: float = setting(
        "a token that is good for longer is refused", default=86_400.0, check=_check_lifetime
    )
    insecure_loopback: bool = setting("let the issuer be http:// on this host, for tests", default=False)

    @property
    def accepted_audience(self) -> str:
        return self.audience or self.client_id

    def complaints(self) -> Iterator[tuple[str, str]]:
        if why := unfit_address(self.issuer, loopback=self.insecure_loopback):
            yield "issuer", why
        if not self.accepted_audience:
            yield "audience", "is needed, or a client_id: a token that is meant for somebody else must not work here"
        if self.bearer not in ("id_token", "access_token"):
            yield "bearer", f"expected id_token or access_token, found {self.bearer[:80]!r}"
        if self.client_id and "openid" not in self.scopes:
            yield "scopes", "openid has to be one of them"


@dataclass(frozen=True, slots=True)
class OidcRuleSettings:
    """What some of an issuer's tokens may."""

    issuer: str = setting("the name of its table [[oidc]]", check=_check_name)
    match: Mapping[str, tuple[str, ...]] = setting(
        "claim = value, or a list of values; all have to fit", check=_check_match
    )
    may: tuple[str, ...] = setting("verbs, as for tokens; [] shuts out whom it matches", check=_check_verbs)
    org: str = setting("only of this organisation", default=ALL, check=_check_place)
    project: str = setting("only of this project", default=ALL, check=_check_place)

    @property
    def rule(self) -> Rule:
        verbs: frozenset[Verb] = frozenset(verb for verb in SCOPED_VERBS if verb in self.may)
        return Rule(self.match, verbs, self.org, self.project)


def oidc_disagreements(issuers: Sequence[OidcSettings], rules: Sequence[OidcRuleSettings]) -> Iterator[tuple[str, str]]:
    """(setting, what is wrong) of what only shows in all tables together."""
    for field, what in (("name", "are called"), ("issuer", "are")):
        for value, count in Counter(getattr(each, field) for each in issuers).items():
            if count > 1:
                yield "oidc", f"{count} of them {what} {value}"
    names = {each.name for each in issuers}
    for unknown in sorted({each.issuer for each in rules} - names):
        yield "oidc_rules", f"there is no [[oidc]] {unknown!r}"
    for kind, found, most in (("oidc", issuers, ISSUERS_MAX), ("oidc_rules", rules, RULES_MAX)):
        if len(found) > most:
            yield kind, f"there are {len(found)}, and {most} are the most"
