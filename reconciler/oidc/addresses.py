"""Which addresses an issuer may have, and send us to. Pure. Used by settings, the controller and `trueup login`.

An issuer's discovery document is not asked what to connect to: it may name paths of the issuer's own host, or of hosts
that the operator named, over https. Nothing else is ever opened.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from kit.errors import Refusal

ADDRESS_CHARS_MAX = 2000
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def unfit_address(address: str, *, loopback: bool) -> str:
    """Why an issuer cannot have it; empty when it can. `loopback`: http:// is good on this host."""
    parts = _parts(address)
    if parts is None or not parts.hostname or parts.username or parts.query or "#" in address:
        return "expected https://HOST/..., without a user, query or fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and loopback and parts.hostname in LOOPBACK):
        return ""
    return "expected https://"


def check_endpoint(address: object, what: str, issuer: str, *, hosts: Collection[str], loopback: bool) -> str:
    """The address that a discovery document gave; `Refusal` when nobody said that the issuer may send us there."""
    attempted = f"read the {what} of {issuer}"
    parts = _parts(address) if isinstance(address, str) else None
    own = urlsplit(issuer)
    if parts is None or unfit_address(str(address).partition("?")[0], loopback=loopback) or "#" in str(address):
        raise Refusal(attempted, "its discovery document gives no https:// address for it", code="issuer_invalid")
    if own.scheme == "https" and parts.scheme != "https":
        raise Refusal(attempted, "its discovery document leads from https:// to http://", code="issuer_invalid")
    if (parts.hostname, parts.port) != (own.hostname, own.port) and parts.hostname not in hosts:
        why = f"its discovery document leads to another host, {str(parts.hostname)[:100]}"
        fix = "if that is meant, name the host in `hosts` of its table [[oidc]]"
        raise Refusal(attempted, why, fix=fix, code="issuer_invalid")
    return str(address)


def _parts(address: str) -> SplitResult | None:
    if len(address) > ADDRESS_CHARS_MAX or not address.isascii() or not address.isprintable() or " " in address:
        return None
    try:
        parts = urlsplit(address)
        _ = parts.port  # checks it
    except ValueError:
        return None
    return parts
