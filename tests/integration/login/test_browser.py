"""`trueup login` at an issuer without a device grant: a code on loopback, which only the right browser can bring."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from tests.attacks.oidc_door import Door, oidc_door
from tests.integration.login.person import Person


@asynccontextmanager
async def browser(person: Person) -> AsyncIterator[tuple[Door, asyncio.Task[tuple[int, str, str]], dict[str, str]]]:
    """A login that waits, and what it asks the issuer for."""
    async with oidc_door() as door:
        door.issuer.more = {
            "device_authorization_endpoint": None,
            "authorization_endpoint": f"{door.issuer.url}/authorize",
        }
        running = asyncio.create_task(person.run("login", door.world.url))
        address = urlsplit(await person.address())
        assert address.path == "/authorize"
        yield door, running, {name: values[0] for name, values in parse_qs(address.query).items()}


async def brought(asked: dict[str, str], **answer: str) -> int:
    async with aiohttp.ClientSession() as session:
        async with session.get(asked["redirect_uri"], params=answer) as page:
            return page.status


async def test_the_code_is_redeemed_with_what_only_this_process_knows(person: Person) -> None:
    async with browser(person) as (door, running, asked):
        door.issuer.device = [(200, {"id_token": door.issuer.token(), "refresh_token": "r-1"})]
        assert await brought(asked, code="evil", state="guessed") == 400
        assert await brought(asked, code="evil") == 400
        assert await brought(asked, code="the-code", state=asked["state"], iss=door.issuer.url) == 200
        code, out, err = await running
        assert code == 0, err
        assert "oidc:corp:ann" in out
        (form,) = door.issuer.forms
        assert (form["code"], form["redirect_uri"]) == ("the-code", asked["redirect_uri"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
        assert (asked["code_challenge_method"], asked["response_type"]) == ("S256", "code")
        assert urlsplit(asked["redirect_uri"]).hostname == "127.0.0.1"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"error": "access_denied"}, "answered access_denied"),
        ({"code": "x", "iss": "https://evil.example"}, "another issuer has answered"),
        ({"code": "x" * 5000}, "without a code"),
    ],
)
async def test_an_answer_that_is_none_logs_nobody_in(person: Person, answer: dict[str, str], told: str) -> None:
    async with browser(person) as (door, running, asked):
        await brought(asked, **answer, state=asked["state"])
        code, _, err = await running
        assert code == 3
        assert told in err
        assert door.issuer.forms == []
        assert person.logins.current() == ""
