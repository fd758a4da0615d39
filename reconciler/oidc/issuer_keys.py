"""The keys of one issuer, kept in memory. Asked by `reconciler.oidc.issuers` for every token.

They are read anew when they are `keys_ttl_s` old, a little before that without anybody waiting, and when a token names
a key that is not known; whatever tokens say, not more often than every REREAD_S. Keys that are older are not used: an
issuer that cannot be reached for so long lets nobody in.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from kit import logs
from kit.clock import Clock
from kit.errors import Transient, TrueupError
from reconciler.oidc.discovery import discover
from reconciler.oidc.fetching import IssuerHttp
from reconciler.oidc.settings import OidcSettings
from reconciler.oidc.token_text import ALGORITHMS

REREAD_S = 30.0
RETRY_S = 5.0
EARLY_SHARE = 0.75
"""Of the time that keys are good for: then they are read anew beside."""
KEYS_MAX = 100
RSA_BITS = range(2048, 8193)
_log = logs.get("oidc")


class IssuerKeys:
    def __init__(self, settings: OidcSettings, http: IssuerHttp, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._keys: Mapping[tuple[str, str], jwt.PyJWK] = {}
        self._read_at_s = -math.inf
        self._next_try_s = -math.inf
        self._trouble = ""
        self._reading: asyncio.Task[None] | None = None

    async def find(self, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """None: the issuer has no such key. `Transient`: it is not known which it has."""
        age_s = self._clock.now_s() - self._read_at_s
        if age_s >= self._settings.keys_ttl_s or (kid, algorithm) not in self._keys:
            await self._read_anew()
        elif age_s >= EARLY_SHARE * self._settings.keys_ttl_s:
            self._start_reading()
        if self._clock.now_s() - self._read_at_s >= self._settings.keys_ttl_s:
            why = self._trouble or "they are being read"
            raise Transient(f"read the keys of {self._settings.issuer}", why, code="unavailable")
        return self._keys.get((kid, algorithm))

    async def _read_anew(self) -> None:
        """One request at a time, however many ask; one that leaves does not end it for the others."""
        self._start_reading()
        if self._reading is not None:
            await asyncio.shield(self._reading)

    def _start_reading(self) -> None:
        if self._reading is None and self._clock.now_s() >= self._next_try_s:
            self._reading = asyncio.create_task(self._read(), name=f"keys of {self._settings.name}")

    async def _read(self) -> None:
        """Never raises."""
        started_s = self._clock.now_s()
        try:
            found = await discover(
                self._settings.issuer,
                self._http,
                hosts=self._settings.hosts,
                loopback=self._settings.insecure_loopback,
            )
            document = await self._http.get(found.endpoint("jwks_uri"))
            keys = dict(usable_keys(document))
            if not keys:
                raise Transient(f"read the keys of {self._settings.issuer}", "there is none that can be used")
            self._keys, self._read_at_s, self._trouble = keys, started_s, ""
            self._next_try_s = started_s + REREAD_S
        except TrueupError as error:
            self._trouble, self._next_try_s = f"{error.attempted}: {error.why}", self._clock.now_s() + RETRY_S
            _log.warning("keys not read", issuer=self._settings.issuer, why=self._trouble, fix=error.fix)
        finally:
            self._reading = None


def usable_keys(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], jwt.PyJWK]]:
    """((kid, algorithm), key) of a JWKS: keys that sign, of accepted algorithms. Others are passed over."""
    listed = document.get("keys")
    for each in listed[:KEYS_MAX] if isinstance(listed, list) else ():
        if not isinstance(each, dict) or not isinstance(each.get("kid"), str) or each.get("use", "sig") != "sig":
            continue
        algorithm = each.get("alg") or _ALGORITHM_OF.get(f"{each.get('kty')} {each.get('crv', '')}")
        if algorithm not in ALGORITHMS or each.get("kty") not in _KINDS[algorithm]:
            continue
        try:
            key = jwt.PyJWK(each, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if not isinstance(key.key, rsa.RSAPublicKey) or key.key.key_size in RSA_BITS:
            yield (each["kid"], algorithm), key


_KINDS = {"RS256": ("RSA",), "ES256": ("EC",), "EdDSA": ("OKP",)}
_ALGORITHM_OF = {"RSA ": "RS256", "EC P-256": "ES256", "OKP Ed25519": "EdDSA"}
