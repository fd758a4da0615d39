"""What an issuer may answer to `trueup login`, beside what a polite one does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from kit.clock import SystemClock
from reconciler.cli.main import main
from tests.attacks.oidc_door import Door, oidc_door
from tests.integration.login.person import Person
from tests.oidc.issuer import issuing

PENDING = (400, {"error": "authorization_pending"})
SLOWER = (400, {"error": "slow_down"})


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are noted, not waited."""
    taken: list[float] = []

    async def sleep(_: SystemClock, seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(SystemClock, "sleep", sleep)
    return taken


def given(door: Door, refresh_token: str = "r-1", **claims: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"id_token": door.issuer.token(**claims), "refresh_token": refresh_token}


@asynccontextmanager
async def logged_in(person: Person, **claims: Any) -> AsyncIterator[Door]:
    async with oidc_door() as door:
        door.issuer.device = [given(door, **claims)]
        await person.ask("login", door.world.url)
        yield door


def aged(person: Person, door: Door, *, ended: bool) -> None:
    login = person.login(door.world.url)
    assert login.oidc is not None
    ends_at_s = 0.0 if ended else login.oidc.ends_at_s
    person.logins.keep(replace(login, oidc=replace(login.oidc, renew_at_s=0.0, ends_at_s=ends_at_s)))


async def test_the_issuer_says_how_often_it_is_asked(person: Person, naps: list[float]) -> None:
    async with oidc_door() as door:
        door.issuer.device = [PENDING, (503, {}), SLOWER, PENDING, given(door)]
        await person.ask("login", door.world.url)
        assert naps[:5] == [1, 1, 2, 7, 7]
        assert door.issuer.forms[0] == {"client_id": "trueup-tests", "scope": "openid offline_access"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((400, {"error": "access_denied"}), "refused in the browser"),
        ((400, {"error": "expired_token"}), "nobody confirmed the code in time"),
        ((200, {"access_token": "x"}), "gave no id_token"),
        ((200, {"id_token": "x"}), "no JWT"),
    ],
)
async def test_what_goes_wrong_is_told_and_nothing_is_kept(person: Person, answer: Any, told: str) -> None:
    async with oidc_door() as door:
        door.issuer.device = [answer]
        code, _, err = await person.run("login", door.world.url)
        assert code == 3
        assert told in err
        assert person.logins.current() == ""


async def test_an_issuer_that_leads_elsewhere_is_not_followed(person: Person) -> None:
    async with oidc_door() as door:
        door.issuer.more["device_authorization_endpoint"] = "https://evil.example/device"
        code, _, err = await person.run("login", door.world.url)
        assert code == 1
        assert "leads to another host" in err


async def test_of_two_commands_one_renews(person: Person) -> None:
    async with logged_in(person) as door:
        aged(person, door, ended=True)
        door.issuer.device = [given(door, "r-2")]
        door.issuer.forms.clear()
        await asyncio.gather(*(asyncio.to_thread(_whoami) for _ in range(4)))
        assert [form["grant_type"] for form in door.issuer.forms] == ["refresh_token"]
        oidc = person.login(door.world.url).oidc
        assert oidc is not None
        assert oidc.refresh_token == "r-2"


def _whoami() -> None:
    assert main(["whoami"]) == 0


async def test_a_token_that_is_still_good_goes_on_when_it_is_not_renewed(person: Person) -> None:
    async with logged_in(person) as door:
        aged(person, door, ended=False)
        await person.ask("whoami")
        assert door.issuer.forms[-1]["grant_type"] == "refresh_token"


async def test_a_login_that_has_ended_says_how_to_log_in_again(person: Person) -> None:
    async with logged_in(person) as door:
        aged(person, door, ended=True)
        code, _, err = await person.run("status")
        assert code == 3
        assert "does not know the login any more" in err
        assert f"trueup login {door.world.url} --oidc corp" in err


async def test_without_a_refresh_token_the_end_is_told_by_the_controller(person: Person) -> None:
    async with logged_in(person, refresh_token="") as door:
        login = person.login(door.world.url)
        old = door.issuer.token(iat=int(time.time()) - 900, exp=int(time.time()) - 600)
        person.logins.keep(replace(login, token=old))
        code, _, err = await person.run("status")
        assert code == 3
        assert "it has expired" in err
        assert "trueup login" in err


async def test_logout_takes_the_refresh_token_back(person: Person) -> None:
    async with logged_in(person) as door:
        _, out, _ = await person.run("logout")
        assert "took the refresh token back" in out
        assert door.issuer.forms[-1]["token"] == "r-1"
        assert not list(person.logins.folder.rglob("*.json"))


async def test_several_issuers_have_to_be_told_apart(person: Person) -> None:
    async with issuing() as other, oidc_door(others=[other.settings("guests")]) as door:
        code, _, err = await person.run("login", door.world.url)
        assert code == 2
        assert "corp, guests" in err
        code, _, err = await person.run("login", door.world.url, "--oidc", "nobody")
        assert code == 2
        door.issuer.device = [given(door)]
        assert (await person.ask("login", door.world.url, "--oidc", "corp"))["identity"] == "oidc:corp:ann"
