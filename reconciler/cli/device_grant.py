"""The device authorization grant (RFC 8628): a code that a person confirms on whatever device has a browser.

Used by `reconciler.cli.issuer_login`. Waits follow what the issuer says, within bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.clock import Clock
from kit.errors import Refusal, Transient
from reconciler.oidc.discovery import Discovery
from reconciler.oidc.fetching import IssuerHttp

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S = range(1, 61)
SLOWER_S = 5
WAIT_S_MAX = 1800
TEXT_CHARS_MAX = 2000


@dataclass(frozen=True, slots=True)
class DeviceCode:
    device_code: str
    user_code: str
    address: str
    interval_s: int
    expires_in_s: int


async def confirmed(
    found: Discovery,
    client_id: str,
    scopes: tuple[str, ...],
    show: Callable[[str], None],
    clock: Clock,
    http: IssuerHttp,
) -> Mapping[str, Any]:
    """The tokens. `show`: tells the person where to go."""
    form = {"client_id": client_id, "scope": " ".join(scopes)}
    status, document = await http.post(found.endpoint("device_authorization_endpoint"), form)
    if status != 200:
        raise declined(found.issuer, document)
    code = _device_code(found.issuer, document)
    show(f"open {code.address} and confirm the code {code.user_code}")
    return await _poll(found, client_id, code, clock, http)


async def _poll(
    found: Discovery, client_id: str, code: DeviceCode, clock: Clock, http: IssuerHttp
) -> Mapping[str, Any]:
    form = {"grant_type": DEVICE_CODE, "client_id": client_id, "device_code": code.device_code}
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
                raise declined(found.issuer, document)
    raise declined(found.issuer, {"error": "expired_token"})


def _device_code(issuer: str, document: Mapping[str, Any]) -> DeviceCode:
    address = document.get("verification_uri_complete") or document.get("verification_uri")
    texts = [document.get("device_code"), document.get("user_code"), address]
    if not all(isinstance(each, str) and 0 < len(each) <= TEXT_CHARS_MAX for each in texts):
        raise Transient(f"log in at {issuer}", "it gave no code", code="issuer_invalid")
    if not str(address).startswith(("https://", "http://")):
        raise Refusal(f"log in at {issuer}", "it sends people to what is no web address", code="issuer_invalid")
    interval_s = min(max(_whole(document.get("interval"), 5), INTERVAL_S[0]), INTERVAL_S[-1])
    expires_in_s = min(max(_whole(document.get("expires_in"), 600), 1), WAIT_S_MAX)
    return DeviceCode(str(texts[0]), str(texts[1]), str(address), interval_s, expires_in_s)


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default


def declined(issuer: str, document: Mapping[str, Any]) -> Refusal:
    error = str(document.get("error", ""))[:100]
    why = {
        "access_denied": "it was refused in the browser",
        "expired_token": "nobody confirmed the code in time",
        "invalid_grant": "it does not know the login any more: it has ended or was taken back",
    }.get(error, f"it answered {error or 'with an error'}: {str(document.get('error_description', ''))[:300]}")
    return Refusal(f"log in at {issuer}", why, fix="log in again: `trueup login`", code="unauthorized")
