"""Attacks with JWTs: forged, meant for somebody else, too old, too new, twice told. Nothing of it proves anybody."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kit.control_plane import ControlPlane
from kit.errors import TrueupError
from reconciler.server.limits import Limits, Rate
from tests.attacks.oidc_door import Door, oidc_door
from tests.oidc.issuer import AUDIENCE, KEYS, issuing, jwk_of, pem_of, rule
from tests.unit.server.test_webhooks import BODY

NOW = time.time()


def reads_of_keys(door: Door) -> int:
    return door.issuer.asked.count("/keys")


def signed(header: dict[str, Any], payload: Any) -> str:
    """By hand: PyJWT does not sign everything."""
    head = f"{part({'alg': 'ES256', 'kid': 'k-ES256', **header})}.{part(payload)}"
    return f"{head}.{part(jwt.get_algorithm_by_name('ES256').sign(head.encode(), KEYS['ES256']))}"


def part(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", list(KEYS))
async def test_a_good_token_may_what_the_rule_says_and_no_more(algorithm: str) -> None:
    async with oidc_door() as door:
        token = door.issuer.token(algorithm)
        assert await door.status(token) == 200
        assert await door.status(token, "/v1/nodes/node-a/drain", "POST") == 403
        assert await door.status(token, "/v1/nodes/node-a/enrol", "POST") == 403
        assert await door.status(token, "/v1/tokens") == 403
        _, who, _ = await door.world.call("GET", "/v1/whoami", token)
        assert (who["identity"], who["role"], who["verbs"]) == ("oidc:corp:ann", "oidc", ["read"])
        assert who["expires_at"] > "2026"


async def test_an_algorithm_is_never_what_the_token_says() -> None:
    async with oidc_door() as door:
        claims = door.issuer.claims()
        none = f"{part({'alg': 'none', 'kid': 'k-RS256'})}.{part(claims)}."
        unsigned = f"{part({'alg': 'RS256', 'kid': 'k-RS256'})}.{part(claims)}."
        head = f"{part({'alg': 'HS256', 'kid': 'k-RS256', 'typ': 'JWT'})}.{part(claims)}"
        mac = hmac.new(pem_of(KEYS["RS256"]), head.encode(), hashlib.sha256).digest()
        other = jwt.encode(claims, KEYS["RS256"], "RS512", {"kid": "k-RS256"})
        crossed = jwt.encode(claims, KEYS["RS256"], "RS256", {"kid": "k-ES256"})
        for token in (unsigned, crossed):
            assert await door.status(token) == 401
        for token in (none, f"{head}.{part(mac)}", other):
            status, why = await door.why(token)
            assert status == 401
            assert "it is signed with" in why, "before anything is looked up"
        assert reads_of_keys(door) <= 1


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody-else"},
        {"aud": None},
        {"aud": [AUDIENCE, "somebody-else"]},
        {"aud": [AUDIENCE, "somebody-else"], "azp": "somebody-else"},
        {"aud": f"{AUDIENCE} "},
        {"exp": NOW - 3600, "iat": NOW - 7200},
        {"exp": None},
        {"exp": "never"},
        {"exp": str(int(NOW + 300)), "iat": str(int(NOW))},
        {"iat": None},
        {"iat": NOW + 3600, "exp": NOW + 7200},
        {"nbf": NOW + 600},
        {"exp": NOW + 365 * 86_400},
        {"sub": None},
        {"sub": 7},
        {"sub": "ann smith"},
        {"sub": "a" * 256},
        {"sub": "ann\n"},
    ],
)
async def test_a_claim_that_is_not_right_proves_nobody(claims: dict[str, Any]) -> None:
    async with oidc_door() as door:
        assert await door.status(door.issuer.token(**claims)) == 401


@pytest.mark.parametrize("claims", [{"exp": NOW - 30, "iat": NOW - 60}, {"nbf": NOW + 30}, {"iat": NOW + 30}])
async def test_clocks_may_differ_by_a_minute(claims: dict[str, Any]) -> None:
    async with oidc_door() as door:
        claims = {name: value + time.time() - NOW for name, value in claims.items()}
        assert await door.status(door.issuer.token(**claims)) == 200


async def test_several_audiences_are_good_from_the_one_that_asked() -> None:
    async with oidc_door() as door:
        assert await door.status(door.issuer.token(aud=["account", AUDIENCE], azp=AUDIENCE)) == 200


@pytest.mark.parametrize("change", ["/", "{0}.evil.example", "evil", "{0}/x", "{0}@evil.example", "{1}"])
async def test_an_issuer_is_the_whole_address(change: str) -> None:
    async with oidc_door() as door:
        url = door.issuer.url
        iss = url + "/" if change == "/" else change.format(url, url.upper())
        assert await door.status(door.issuer.token(iss=iss)) == 401
        assert await door.status(signed({}, door.issuer.claims(iss=[url]))) == 401


async def test_an_issuer_speaks_for_its_own_people_only() -> None:
    async with issuing() as other:
        others = [other.settings("guests")]
        async with oidc_door(rule("corp", groups="ops"), rule("guests", sub="guest"), others=others) as door:
            assert await door.status(other.token(sub="ann", groups=["ops"])) == 403, "the rule is of the other issuer"
            assert await door.status(other.token(iss=door.issuer.url, header={"kid": "k-x"})) == 401
            token = other.token(sub="guest")
            _, who, _ = await door.world.call("GET", "/v1/whoami", token)
            assert who["identity"] == "oidc:guests:guest"


@pytest.mark.parametrize("header", [{"jku": "{0}/evil"}, {"x5u": "{0}/evil"}, {"jwk": "own"}, {"x5c": ["MIIB"]}])
async def test_keys_that_the_token_brings_are_not_looked_at(header: dict[str, Any]) -> None:
    async with oidc_door() as door:
        mine = ec.generate_private_key(ec.SECP256R1())
        if header.get("jwk"):
            header = {"jwk": jwk_of(mine, "k-ES256", "ES256")}
        given = {
            name: value.format(door.issuer.url) if isinstance(value, str) else value for name, value in header.items()
        }
        token = jwt.encode(door.issuer.claims(), mine, "ES256", {"kid": "k-ES256", **given})
        assert await door.status(token) == 401
        assert set(door.issuer.asked) <= {"/.well-known/openid-configuration", "/keys"}
        assert await door.status(door.issuer.token(header=given)) == 200, "and a good signature is good"


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"typ": "logout+jwt"}, {"typ": "secevent+jwt"}, {"b64": False}])
async def test_a_header_that_means_more_is_refused(header: dict[str, Any]) -> None:
    async with oidc_door() as door:
        assert await door.status(signed(header, door.issuer.claims())) == 401


async def test_a_claim_that_stands_twice_is_refused_even_when_it_is_signed() -> None:
    async with oidc_door() as door:
        payload = json.dumps(door.issuer.claims())
        for doubled in (
            payload[:-1] + ', "sub": "root"}',
            payload[:-1] + ', "aud": "x"}',
            payload[:-1] + ', "n": NaN}',
        ):
            assert await door.status(signed({}, doubled.encode())) == 401


@pytest.mark.parametrize("chars", [7_000, 100 << 10])
async def test_a_token_that_is_too_large_is_refused(chars: int) -> None:
    async with oidc_door() as door:
        assert await door.status(door.issuer.token(filling="x" * chars)) in (401, 431)


async def test_whom_no_rule_names_may_nothing_and_counts_as_unproven() -> None:
    tight = Limits(unproven_rate=Rate(0.01, 3))
    async with oidc_door(rule(sub="mallory", may=()), rule(groups="ops"), limits=tight) as door:
        assert await door.why(door.issuer.token(sub="mallory")) == (
            403,
            "accept the token: no [[oidc_rules]] lets oidc:corp:mallory in",
        )
        assert await door.status(door.issuer.token(groups=["dev"])) == 403
        assert await door.status(door.issuer.token(groups="opsx")) == 403
        assert await door.status(door.issuer.token(groups=["dev"])) == 429
        assert await door.status(door.issuer.token(aud="x")) == 429
        assert await door.status(door.issuer.token()) == 200, "who is proven is not held back with them"


async def test_who_may_grant_gives_no_more_than_he_has() -> None:
    async with oidc_door(rule(groups="ops", may=("grant", "read"))) as door:
        body = {"name": "ci", "verbs": ["act"], "days": 1}
        status, _, _ = await door.world.call("POST", "/v1/tokens", door.issuer.token(), json=body)
        assert status == 403


async def test_the_history_names_the_person() -> None:
    async with oidc_door(rule(groups="ops", may=("read", "remove"))) as door:
        body = {"resources": 1, "volumes": False, "reason": "gone"}
        await door.world.call("POST", "/v1/sources/main/remove", door.issuer.token(), json=body)
        assert [removal.actor_id for name, removal in door.world.calls if name == "remove_source"] == ["oidc:corp:ann"]


async def test_a_stream_ends_with_its_token() -> None:
    async with oidc_door() as door:
        ending = int(time.time()) - 58
        token = door.issuer.token(iat=ending - 60, exp=ending)
        async with ControlPlane(door.world.url, token) as mine:
            async with mine.lines("/v1/stream", idle_timeout_s=30) as stream:
                assert (await anext(stream))["type"] == "hello"
                async with asyncio.timeout(10):
                    with pytest.raises((TrueupError, StopAsyncIteration, aiohttp.ClientError)):
                        while True:
                            await anext(stream)
        status, document, _ = await door.world.call("GET", "/v1/status", token)
        assert (status, document["code"]) == (401, "token_expired")
        assert "trueup login" in document["fix"]


async def test_a_webhook_is_not_asked_for_a_jwt() -> None:
    async with oidc_door(rule(groups="ops", may=("look",))) as door:
        token = door.issuer.token()
        status, _, _ = await door.world.call("POST", "/v1/sources/main/webhook", token, data=BODY)
        assert status == 403
