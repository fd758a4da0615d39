"""An issuer that is slow, large, elsewhere, gone or floods: bounded reads, no request to where nobody said."""

from __future__ import annotations

import asyncio
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reconciler.certificates.authority import Authority
from reconciler.oidc import fetching
from reconciler.oidc.issuers import Issuers
from tests.attacks.oidc_door import Hand, oidc_door
from tests.oidc.issuer import KEYS, issuing, jwk_of, never, rule
from tests.unit.server.world import serving, until

DISCOVERY = "/.well-known/openid-configuration"


def reads(asked: list[str]) -> int:
    return asked.count("/keys")


async def test_a_storm_of_unknown_keys_reads_the_keys_seldom() -> None:
    async with oidc_door() as door:
        tokens = [door.issuer.token(header={"kid": f"k-{number}"}) for number in range(60)]
        found = await asyncio.gather(*(door.status(token) for token in tokens))
        assert set(found) == {401}
        assert {await door.status(token) for token in tokens[:9]} == {401}
        assert reads(door.issuer.asked) == 1
        door.clock.moved_s += 31
        await asyncio.gather(*(door.status(token) for token in tokens))
        assert reads(door.issuer.asked) == 2


async def test_a_new_key_works_at_once_and_one_that_was_taken_back_stops_within_the_time() -> None:
    async with oidc_door(keys_ttl_s=300.0) as door:
        door.issuer.keys = [jwk_of(KEYS["ES256"], "old", "ES256")]
        old = door.issuer.token(header={"kid": "old"})
        assert await door.status(old) == 200
        door.issuer.keys = [jwk_of(KEYS["ES256"], "new", "ES256")]
        door.clock.moved_s += 31
        assert await door.status(old) == 200, "its time is not over"
        assert await door.status(door.issuer.token(header={"kid": "new"})) == 200
        assert await door.status(old) == 401
        door.issuer.keys = [jwk_of(KEYS["RS256"], "other", "RS256")]
        door.clock.moved_s += 301
        assert await door.status(door.issuer.token(header={"kid": "new"})) == 401


async def test_keys_are_read_anew_before_their_time_without_anybody_waiting() -> None:
    async with oidc_door(keys_ttl_s=300.0) as door:
        assert await door.status(door.issuer.token()) == 200
        door.issuer.answers["/keys"] = never
        door.clock.moved_s += 240
        assert await door.status(door.issuer.token()) == 200
        await until(lambda: reads(door.issuer.asked) == 2)


async def test_an_issuer_that_is_away_lets_nobody_in_and_is_asked_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.3)
    async with oidc_door(keys_ttl_s=300.0) as door:
        assert await door.status(door.issuer.token()) == 200
        door.issuer.answers[DISCOVERY] = never
        door.clock.moved_s += 301
        tokens = [door.issuer.token(number=number) for number in range(20)]
        found = await asyncio.gather(*(door.status(token) for token in tokens))
        assert set(found) == {503}
        assert door.issuer.asked.count(DISCOVERY) == 2
        assert (await door.world.call("GET", "/healthz"))[0] == 200
        door.issuer.answers.clear()
        door.clock.moved_s += 6
        assert await door.status(door.issuer.token()) == 200


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(160):
        await answer.write(b'{"keys": [' + b" " * 65536)
    return answer


async def elsewhere(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/latest/meta-data/")


async def to_itself(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/keys2")


async def rubbish(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"[" * 100_000, content_type="application/json")


@pytest.mark.parametrize("answer", [endless, elsewhere, to_itself, rubbish, never])
@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
async def test_an_answer_that_is_no_answer_ends_soon(path: str, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.5)
    async with oidc_door() as door:
        door.issuer.answers[path] = answer
        started_s = time.monotonic()
        status, problem, headers = await door.world.call("GET", "/v1/status", door.issuer.token())
        assert status == 503
        assert answer is not endless or "larger than" in problem["detail"]
        assert headers["Retry-After"]
        assert time.monotonic() - started_s < 5
        assert "/keys2" not in door.issuer.asked


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/keys",
        "file:///etc/passwd",
        "{0}@evil.example/keys",
        "https://127.0.0.1.evil.example/keys",
        "//evil.example/keys",
        "",
        None,
        7,
        "{0}/keys#x",
    ],
)
async def test_keys_are_only_read_where_the_issuer_is(uri: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    ask = fetching.IssuerHttp.get

    async def watched(self: fetching.IssuerHttp, url: str) -> dict[str, Any]:
        opened.append(url)
        return await ask(self, url)

    monkeypatch.setattr(fetching.IssuerHttp, "get", watched)
    async with oidc_door() as door:
        door.issuer.more["jwks_uri"] = uri.format(door.issuer.url) if isinstance(uri, str) else uri
        assert await door.status(door.issuer.token()) == 503
        assert opened == [door.issuer.url + DISCOVERY]


async def test_another_port_of_the_host_is_another_place_unless_somebody_names_it() -> None:
    async with issuing() as other:
        async with oidc_door() as door:
            door.issuer.more["jwks_uri"] = f"{other.url}/keys"
            assert await door.status(door.issuer.token()) == 503
        async with oidc_door(hosts=("127.0.0.1",)) as door:
            door.issuer.more["jwks_uri"] = f"{other.url}/keys"
            assert await door.status(door.issuer.token()) == 200


async def test_a_discovery_document_of_another_issuer_is_refused() -> None:
    async with oidc_door() as door:
        door.issuer.more["issuer"] = door.issuer.url + "/"
        assert await door.status(door.issuer.token()) == 503


@pytest.mark.parametrize(
    "key",
    [
        {"use": "enc"},
        {"alg": "RS512"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kid": None},
        {"n": "AQAB"},
        {"alg": "ES256"},
        {"alg": ["RS256"]},
        {"kty": {}},
    ],
)
async def test_a_key_that_is_for_something_else_or_weak_is_passed_over(key: dict[str, Any]) -> None:
    async with oidc_door() as door:
        door.issuer.keys = [
            {**jwk_of(KEYS["RS256"], "k-RS256", "RS256"), **key},
            "no key",  # type: ignore[list-item]  # an issuer may say anything
            jwk_of(KEYS["ES256"], "k-ES256", "ES256"),
        ]
        assert await door.status(door.issuer.token("RS256")) == 401
        assert await door.status(door.issuer.token("ES256")) == 200


async def test_an_issuers_certificate_is_checked(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "ca", "idp.test", datetime.now(UTC))
    key, chain = authority.server_certificate(["localhost"], datetime.now(UTC))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "issuer.pem").write_bytes(key + chain)
    tls.load_cert_chain(tmp_path / "issuer.pem")
    async with issuing(tls) as issuer:
        for ca_file, status in ((tmp_path / "ca" / "bundle.pem", 200), (None, 503)):
            corp = issuer.settings("corp", ca_file=ca_file, insecure_loopback=False)
            async with serving(issuers=Issuers((corp,), (rule(groups="ops"),), Hand())) as world:
                assert (await world.call("GET", "/v1/status", issuer.token()))[0] == status
