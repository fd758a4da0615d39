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
from kit.errors import Refusal, Transient
from reconciler.cli.browser_login import authorization_code
from reconciler.cli.logins import RENEW_SHARE, OidcLogin
from reconciler.oidc.addresses import unfit_address
from reconciler.oidc.discovery import Discovery, discover
from reconciler.oidc.fetching import IssuerHttp

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S = range(1, 61)
SLOWER_S = 5
WAIT_S_MAX = 1800
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


@dataclass(frozen=True, slots=True)
class DeviceCode:
    device_code: str
    user_code: str
    address: str
    interval_s: int
    expires_in_s: int


async def log_in(offer: Offer, show: Callable[[str], None], clock: Clock, http: IssuerHttp) -> tuple[str, OidcLogin]:
    """The token for the controller, and what renews it. `show`: tells the person where to go."""
    found = await _discovery(offer.issuer, offer.hosts, http)
    if not found.has("device_authorization_endpoint"):
        return _login(offer, await _in_browser(found, offer, show, http), "")
    form = {"client_id": offer.client_id, "scope": " ".join(offer.scopes)}
    status, document = await http.post(found.endpoint("device_authorization_endpoint"), form)
    if status != 200:
        raise _declined(offer.issuer, document)
    code = _device_code(offer.issuer, document)
    show(f"open {code.address} and confirm the code {code.user_code}")
    return _login(offer, await _poll(found, offer, code, clock, http), "")


async def _in_browser(
    found: Discovery, offer: Offer, show: Callable[[str], None], http: IssuerHttp
) -> Mapping[str, Any]:
    authorize = found.endpoint("authorization_endpoint")
    form = await authorization_code(authorize, offer.issuer, offer.client_id, offer.scopes, show)
    status, document = await http.post(found.endpoint("token_endpoint"), {**form, "client_id": offer.client_id})
    if status != 200:
        raise _declined(offer.issuer, document)
    return document


async def renew(login: OidcLogin, http: IssuerHttp) -> tuple[str, OidcLogin]:
    """`Refusal`: the issuer does not renew it. An issuer that gives no other refresh token lets this one go on."""
    found = await _discovery(login.issuer, login.hosts, http)
    form = {"grant_type": "refresh_token", "client_id": login.client_id, "refresh_token": login.refresh_token}
    status, document = await http.post(found.endpoint("token_endpoint"), form)
    if status != 200:
        raise _declined(login.issuer, document)
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


async def _poll(found: Discovery, offer: Offer, code: DeviceCode, clock: Clock, http: IssuerHttp) -> Mapping[str, Any]:
    form = {"grant_type": DEVICE_CODE, "client_id": offer.client_id, "device_code": code.device_code}
    interval_s, deadline_s = code.interval_s, clock.now_s() + code.expires_in_s
    while clock.now_s() < deadline_s:
        await clock.sleep(interval_s)
        try:
            status, document = await http.post(found.endpoint("token_endpoint"), form)
        except Transient:
            interval_s = min(2 * interval_s, INTERVAL_S[-1])
            continue
        match document.get("error"):
            case _ if status == 200:
                return document
            case "authorization_pending":
                pass
            case "slow_down":
                interval_s = min(interval_s + SLOWER_S, INTERVAL_S[-1])
            case _:
                raise _declined(offer.issuer, document)
    raise _declined(offer.issuer, {"error": "expired_token"})


async def _discovery(issuer: str, hosts: tuple[str, ...], http: IssuerHttp) -> Discovery:
    if why := unfit_address(issuer, loopback=True):
        raise Refusal(f"log in at {issuer[:200]}", why, code="issuer_invalid")
    return await discover(issuer, http, hosts=hosts, loopback=True)


def _device_code(issuer: str, document: Mapping[str, Any]) -> DeviceCode:
    address = document.get("verification_uri_complete") or document.get("verification_uri")
    texts = [document.get("device_code"), document.get("user_code"), address]
    if not all(isinstance(each, str) and 0 < len(each) <= TOKEN_CHARS_MAX for each in texts):
        raise Transient(f"log in at {issuer}", "it gave no code", code="issuer_invalid")
    if not str(address).startswith(("https://", "http://")):
        raise Refusal(f"log in at {issuer}", "it sends people to what is no web address", code="issuer_invalid")
    interval_s = min(max(_whole(document.get("interval"), 5), INTERVAL_S[0]), INTERVAL_S[-1])
    expires_in_s = min(max(_whole(document.get("expires_in"), 600), 1), WAIT_S_MAX)
    return DeviceCode(str(texts[0]), str(texts[1]), str(address), interval_s, expires_in_s)


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


def _whole(value: Any, default: int) -> int:
    return int(value) if isinstance(value, int | float) else default


def _declined(issuer: str, document: Mapping[str, Any]) -> Refusal:
    error = str(document.get("error", ""))[:100]
    why = {
        "access_denied": "it was refused in the browser",
        "expired_token": "nobody confirmed the code in time",
        "invalid_grant": "it does not know the login any more: it has ended or was taken back",
    }.get(error, f"it answered {error or 'with an error'}: {str(document.get('error_description', ''))[:300]}")
    return Refusal(f"log in at {issuer}", why, fix="log in again: `trueup login`", code="unauthorized")
