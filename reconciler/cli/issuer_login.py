"""The person's side of an OIDC issuer: the device authorization grant (RFC 8628), else a code in the browser
(`reconciler.cli.browser_login`); renewal, revocation (RFC 7009).

Used by `trueup login`, `logout` and `reconciler.cli.stored_token`. The client is public: it has no secret. Waits follow
what the issuer says, within bounds; the issuer's document may lead only where `reconciler.oidc.addresses` lets it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from kit.clock import Clock
from kit.errors import Refusal
from reconciler.cli.browser_login import authorization_code
from reconciler.cli.device_grant import confirmed, declined
from reconciler.cli.logins import RENEW_SHARE, OidcLogin
from reconciler.oidc.addresses import unfit_address
from reconciler.oidc.discovery import Discovery, discover
from reconciler.oidc.fetching import IssuerHttp

TOKEN_CHARS_MAX = 8000


@dataclass(frozen=True, slots=True)
class Offer:
    """An issuer that the controller names: GET /v1/login."""

    name: str
    issuer: str
    client_id: str
    scopes: tuple[str, ...]
    bearer: str
    hosts: tuple[str, ...]


async def log_in(offer: Offer, show: Callable[[str], None], clock: Clock, http: IssuerHttp) -> tuple[str, OidcLogin]:
    """The token for the controller, and what renews it. `show`: tells the person where to go."""
    found = await _discovery(offer.issuer, offer.hosts, http)
    if not found.has("device_authorization_endpoint"):
        return _login(offer, await _in_browser(found, offer, show, http), "")
    tokens = await confirmed(found, offer.client_id, offer.scopes, show, clock, http)
    return _login(offer, tokens, "")


async def _in_browser(
    found: Discovery, offer: Offer, show: Callable[[str], None], http: IssuerHttp
) -> Mapping[str, Any]:
    authorize = found.endpoint("authorization_endpoint")
    form = await authorization_code(authorize, offer.issuer, offer.client_id, offer.scopes, show)
    status, document = await http.post(found.endpoint("token_endpoint"), {**form, "client_id": offer.client_id})
    if status != 200:
        raise declined(offer.issuer, document)
    return document


async def renew(login: OidcLogin, http: IssuerHttp) -> tuple[str, OidcLogin]:
    """`Refusal`: the issuer does not renew it. An issuer that gives no other refresh token lets this one go on."""
    found = await _discovery(login.issuer, login.hosts, http)
    form = {"grant_type": "refresh_token", "client_id": login.client_id, "refresh_token": login.refresh_token}
    status, document = await http.post(found.endpoint("token_endpoint"), form)
    if status != 200:
        raise declined(login.issuer, document)
    offer = Offer(login.name, login.issuer, login.client_id, (), login.bearer, login.hosts)
    return _login(offer, document, login.refresh_token)


async def take_back(login: OidcLogin, http: IssuerHttp) -> bool:
    """False: the issuer takes nothing back from this client."""
    found = await _discovery(login.issuer, login.hosts, http)
    if not login.refresh_token or not found.has("revocation_endpoint"):
        return False
    form = {"token": login.refresh_token, "token_type_hint": "refresh_token", "client_id": login.client_id}
    status, _ = await http.post(found.endpoint("revocation_endpoint"), form)
    return status == 200


async def _discovery(issuer: str, hosts: tuple[str, ...], http: IssuerHttp) -> Discovery:
    if why := unfit_address(issuer, loopback=True):
        raise Refusal(f"log in at {issuer[:200]}", why, code="issuer_invalid")
    return await discover(issuer, http, hosts=hosts, loopback=True)


def _login(offer: Offer, document: Mapping[str, Any], refresh_token: str) -> tuple[str, OidcLogin]:
    token = document.get(offer.bearer)
    if not isinstance(token, str) or not 0 < len(token) <= TOKEN_CHARS_MAX:
        fix = 'if it never gives one when it renews, the operator sets bearer = "access_token" for it'
        raise Refusal(f"log in at {offer.issuer}", f"it gave no {offer.bearer}", fix=fix, code="unauthorized")
    renewed = document.get("refresh_token")
    now_s, life_s = time.time(), _life_s(token)
    login = OidcLogin(
        name=offer.name,
        issuer=offer.issuer,
        client_id=offer.client_id,
        bearer=offer.bearer,
        hosts=offer.hosts,
        refresh_token=renewed if isinstance(renewed, str) else refresh_token,
        renew_at_s=now_s + RENEW_SHARE * life_s,
        ends_at_s=now_s + life_s,
    )
    return token, login


def _life_s(token: str) -> float:
    """What the token says of itself; whether it is true, the controller finds out."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return max(0.0, float(claims["exp"]) - float(claims["iat"]))
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
        fix = 'the operator sets bearer = "id_token" for it'
        raise Refusal("log in", "the issuer gave a token that is no JWT", fix=fix, code="unauthorized") from error
