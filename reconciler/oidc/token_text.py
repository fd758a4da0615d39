"""A JWT as text: what it says before anything is proven, and what it says when the key is known. Pure but for time.

Used by `reconciler.oidc.issuers`. The signature and the times are checked by PyJWT. What is checked here beside it: no
name stands twice (two readers would read two tokens), no header that means more than a signature, a bounded life.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jwt

from kit.errors import Refusal

ALGORITHMS = ("RS256", "ES256", "EdDSA")
TOKEN_CHARS_MAX = 8000
LEEWAY_S = 60
KINDS = ("", "jwt", "at+jwt", "application/at+jwt")
"""Values of the header typ; others say that it is for something else, such as a logout."""
_LOOKS_LIKE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
LOG_IN = "log in again: `trueup login`"


@dataclass(frozen=True, slots=True)
class Unproven:
    """What a token says of itself: where to look for the proof."""

    algorithm: str
    kid: str
    issuer: str


def looks_like_jwt(text: str) -> bool:
    """No other bearer token of ours has this form."""
    return _LOOKS_LIKE.fullmatch(text[: TOKEN_CHARS_MAX + 1]) is not None


def unproven(token: str) -> Unproven:
    if len(token) > TOKEN_CHARS_MAX:
        raise refused(f"it is longer than {TOKEN_CHARS_MAX} characters")
    head, payload = (_segment(each) for each in token.split(".")[:2])
    algorithm, kid, issuer = head.get("alg"), head.get("kid"), payload.get("iss")
    if algorithm not in ALGORITHMS:
        raise refused(f"it is signed with {str(algorithm)[:20]!r}; {', '.join(ALGORITHMS)} are accepted")
    if "crit" in head or "b64" in head or str(head.get("typ", "")).lower() not in KINDS:
        raise refused("its header says that it is for something else than to prove who somebody is")
    if not isinstance(kid, str) or not isinstance(issuer, str):
        raise refused("it does not name its issuer and its key (iss, kid)")
    return Unproven(algorithm, kid, issuer)


def proven(
    token: str, key: jwt.PyJWK, algorithm: str, *, issuer: str, audience: str, lifetime_max_s: float
) -> dict[str, Any]:
    """Its claims; `Refusal` unless it is signed with `key`, of that issuer, for that audience, and now."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_S,
            options={"require": ["iss", "aud", "sub", "exp", "iat"]},
        )
    except jwt.PyJWTError as error:
        raise _why(error) from error
    lifetime_s = claims["exp"] - claims["iat"] if all(_is_number(claims[name]) for name in ("exp", "iat")) else -1
    if not 0 < lifetime_s <= lifetime_max_s:
        raise refused(
            f"it is good for {lifetime_s} s, and {lifetime_max_s:g} s are the most", "have shorter ones issued"
        )
    if not _is_for(claims, audience):
        raise refused("it is for several audiences and was asked for by another one (aud, azp)")
    return dict(claims)


def refused(why: str, fix: str = LOG_IN) -> Refusal:
    return Refusal("accept the token", why, fix=fix, code="unauthorized")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_for(claims: Mapping[str, Any], audience: str) -> bool:
    """One that several may use is only good from the one of them that is meant here."""
    audiences = claims["aud"]
    return (
        not isinstance(audiences, Sequence)
        or isinstance(audiences, str)
        or audiences == [audience]
        or (claims.get("azp") == audience)
    )


def _segment(text: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        document = json.loads(raw, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise refused(f"it is not a JWT: {str(error)[:100]}") from error
    if not isinstance(document, dict):
        raise refused("it is not a JWT: a part of it is not an object")
    return document


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _why(error: jwt.PyJWTError) -> Refusal:
    match error:
        case jwt.ExpiredSignatureError():
            return Refusal("accept the token", "it has expired", fix=LOG_IN, code="token_expired")
        case jwt.ImmatureSignatureError():
            fix = "a clock is off: compare that of the issuer with the controller's"
            return refused(f"it is from the future, by more than {LEEWAY_S} s ({error})", fix)
        case jwt.InvalidAudienceError():
            return refused(
                "it is meant for somebody else (aud)", "ask the issuer for one with the audience of the controller"
            )
        case jwt.MissingRequiredClaimError():
            return refused(f"it lacks a claim: {error}", "iss, aud, sub, exp and iat are needed")
        case _:
            return refused("its signature is not good, or it is malformed")
