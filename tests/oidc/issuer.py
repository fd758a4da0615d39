"""An issuer of tokens on loopback that does what a test says: discovery, keys, device grant, refresh, and every lie.

The real one is `tests.oidc.glewlwyd`; this one says what no honest issuer can be made to say.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from reconciler.oidc.settings import OidcRuleSettings, OidcSettings

AUDIENCE = "trueup-tests"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KEYS: dict[str, Key] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
"""One of each kind; making an RSA key takes a while."""


def jwk_of(key: Key, kid: str, algorithm: str, **more: Any) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm)
    document = json.loads(made.to_jwk(key.public_key()))
    return {**document, "kid": kid, "alg": algorithm, "use": "sig", **more}


def pem_of(key: Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Issuer:
    url: str = ""
    keys: list[dict[str, Any]] = field(
        default_factory=lambda: [jwk_of(key, f"k-{name}", name) for name, key in KEYS.items()]
    )
    more: dict[str, Any] = field(default_factory=dict)
    """Said by the discovery document beside, or instead of, what is true."""
    answers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    """Path -> what answers there instead."""
    asked: list[str] = field(default_factory=list)
    device: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """What the next polls of the token endpoint get."""
    forms: list[dict[str, str]] = field(default_factory=list)

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, "groups": ["ops"]}
        return {name: value for name, value in {**claims, **more}.items() if value is not None}

    def token(self, algorithm: str = "ES256", *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        headers = {"kid": f"k-{algorithm}", **(header or {})}
        return jwt.encode(self.claims(**claims), KEYS[algorithm], algorithm, headers)

    def settings(self, name: str = "corp", **more: Any) -> OidcSettings:
        given: dict[str, Any] = {"issuer": self.url, "client_id": AUDIENCE, "insecure_loopback": True, **more}
        return OidcSettings(name=name, **given)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path in self.answers:
            return await self.answers[request.path](request)
        match request.path:
            case "/.well-known/openid-configuration":
                return web.json_response({**self._discovery(), **self.more})
            case "/keys":
                return web.json_response({"keys": self.keys})
            case "/device":
                self.forms.append({key: str(value) for key, value in (await request.post()).items()})
                return web.json_response(self._device_code())
            case "/token":
                self.forms.append({key: str(value) for key, value in (await request.post()).items()})
                status, document = self.device.pop(0) if self.device else (400, {"error": "invalid_grant"})
                return web.json_response(document, status=status)
            case "/revoke":
                self.forms.append({key: str(value) for key, value in (await request.post()).items()})
                return web.json_response({})
            case _:
                return web.Response(status=404)

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "device_authorization_endpoint": f"{self.url}/device",
            "token_endpoint": f"{self.url}/token",
            "revocation_endpoint": f"{self.url}/revoke",
        }

    def _device_code(self) -> dict[str, Any]:
        return {
            "device_code": "the-device-code",
            "user_code": "WDJB-MJHT",
            "verification_uri": f"{self.url}/activate",
            "expires_in": 60,
            "interval": 1,
        }


@asynccontextmanager
async def issuing(tls: ssl.SSLContext | None = None) -> AsyncIterator[Issuer]:
    """`tls`: for https://localhost."""
    issuer = Issuer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", issuer.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    issuer.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()


def rule(issuer: str = "corp", *, may: tuple[str, ...] = ("read",), **match: Any) -> OidcRuleSettings:
    values = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in match.items()}
    return OidcRuleSettings(issuer=issuer, match=values, may=may)


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError
