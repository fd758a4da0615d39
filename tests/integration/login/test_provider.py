"""`trueup login` through a real OpenID Connect provider, to a controller that has it in its settings."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.oidc.issuers import Issuers
from reconciler.oidc.settings import OidcSettings
from tests.attacks.oidc_door import Hand
from tests.integration.login.person import Person
from tests.oidc.glewlwyd import CLIENT, STRANGER, Glewlwyd, glewlwyd
from tests.oidc.issuer import rule
from tests.unit.server.world import World, serving


@asynccontextmanager
async def controller(
    folder: Path, claim: str = "groups", **settings: Any
) -> AsyncIterator[tuple[Glewlwyd, World, Hand]]:
    clock = Hand()
    async with glewlwyd(folder / "provider") as provider:
        given = {"issuer": provider.issuer, "client_id": CLIENT, "insecure_loopback": True, "scopes": ("openid",)}
        corp = OidcSettings(name="corp", **{**given, **settings})
        async with serving(
            issuers=Issuers(
                (corp,), (rule(may=("read", "act"), **{claim: "ops" if claim == "groups" else CLIENT}),), clock
            )
        ) as world:
            yield provider, world, clock


async def logged_in(person: Person, provider: Glewlwyd, url: str) -> Any:
    running = asyncio.create_task(person.ask("login", url))
    await provider.sign(await person.code())
    return await running


async def test_a_person_logs_in_with_a_device_code_and_every_command_knows_her(tmp_path: Path, person: Person) -> None:
    async with controller(tmp_path) as (provider, world, clock):
        who = await logged_in(person, provider, world.url)
        assert who["identity"].startswith("oidc:corp:")
        assert (who["verbs"], who["controller"]) == (["act", "read"], world.url)
        assert await person.ask("whoami") == {name: value for name, value in who.items() if name != "controller"}
        assert (await person.ask("status"))["last_event_id"] == 0
        code, _, err = await person.run("token", "list")
        assert code == 3
        assert "may not" in err
        for path in (person.logins.folder, *person.logins.folder.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        await provider.use_key("k2")
        clock.moved_s += 601
        code, _, err = await person.run("status")
        assert code == 3, "a key that the issuer took back is good no more"
        assert "no such key" in err
        code, out, _ = await person.run("logout")
        assert code == 0
        assert "logged out" in out
        code, _, err = await person.run("status")
        assert code == 2
        assert "trueup login" in err


async def test_a_login_is_renewed_by_itself(tmp_path: Path, person: Person) -> None:
    """This provider gives no ID token when it renews, so the controller gets the access token, which says no groups."""
    async with controller(tmp_path, "client_id", bearer="access_token", audience="openid") as (provider, world, _):
        await logged_in(person, provider, world.url)
        first = person.login(world.url)
        assert first.oidc is not None
        assert first.oidc.renew_at_s < first.oidc.ends_at_s <= time.time() + 600
        person.logins.keep(replace(first, oidc=replace(first.oidc, renew_at_s=0.0)))
        await person.ask("whoami")
        second = person.login(world.url)
        assert second.token != first.token
        await person.ask("whoami")
        assert person.login(world.url) == second, "once is enough"


async def test_somebody_whom_no_rule_names_is_told_and_nothing_is_kept(tmp_path: Path, person: Person) -> None:
    async with controller(tmp_path) as (provider, world, _):
        running = asyncio.create_task(person.run("login", world.url))
        await provider.sign(await person.code(), STRANGER)
        code, _, err = await running
        assert code == 3
        assert "no [[oidc_rules]] lets oidc:corp:" in err
        assert person.logins.current() == ""
