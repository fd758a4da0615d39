"""Several repositories in one controller: each its own project, its own trouble, its own history."""

from __future__ import annotations

import asyncio

import pytest

from kit.control_plane import ControlPlane
from reconciler.git.clone import BareClone
from tests.integration.sources.controllers import Site
from tests.unit.planner.trees import ENVIRONMENT, app, route

SITE = {"env.yaml": ENVIRONMENT, "app.yaml": app(), "route.yaml": route("r", "site")}


async def test_many_repositories_and_folders_of_one_side_by_side(site: Site) -> None:
    shop = site.repository("shop").commit(SITE)
    mono = site.repository("mono").commit(
        {"teams/a/env.yaml": ENVIRONMENT, "teams/a/app.yaml": app("a"), "teams/b/env.yaml": ENVIRONMENT}
    )
    url = str(site.repository("mono").path)
    tables = [
        site.table("shop", project="shop"),
        site.table("team-a", project="team-a", url=url, path="teams/a"),
        site.table("team-b", project="team-b", url=url, path="teams/b"),
    ]
    async with site.controller(*tables):
        await site.until_applied("shop", shop)
        await site.until_applied("team-a", mono)
        await site.until_applied("team-b", mono)
        assert {key: owner for key, owner in (await site.resources()).items() if "environment" not in key} == {
            "acme/shop/prod/site/app/site": "shop",
            "acme/shop/prod/site/route/r": "shop",
            "acme/team-a/prod/a/app/a": "team-a",
        }
        page = await site.run("source", "list")
        for part in ("acme/team-a", "teams/b", mono[:12], "s ago", "one"):
            assert part in page, part
        status = await site.run("status")
        assert "main:teams/a" in status
        await site.run("source", "look", "shop")
        assert "no source" in await site.run("source", "look", "nobody", code=4)


async def test_a_source_that_stalls_or_fails_delays_no_other(site: Site) -> None:
    """Five are cut off only after a minute, one has nothing at its address; the good one takes a second."""
    accepted: list[asyncio.StreamWriter] = []

    async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    good = site.repository("good").commit(SITE)
    stalled = [
        site.table(
            f"stalled-{number}", project=f"p{number}", url=f"https://127.0.0.1:{port}/{number}", fetch_timeout_s=60
        )
        for number in range(5)
    ]
    broken = site.table("broken", project="q", url=str(site.folder / "nothing"))
    async with site.controller(*stalled, broken, site.table("good", project="good")):
        await site.until_applied("good", good)
        assert accepted
        again = site.repository("good").commit({"more.yaml": app("more")})
        await site.until_applied("good", again)
        found = await site.until_source("broken", lambda each: each["problems"])
        assert "there is no Git repository at the address" in found["problems"][0]["message"]
        assert found["fetch_age_s"] is None
        assert (await site.sources())["good"]["problems"] == []
    for writer in accepted:
        writer.close()
    server.close()


async def test_a_repository_cannot_declare_what_belongs_to_another_one(site: Site) -> None:
    first = site.repository("first").commit(SITE)
    async with site.controller(site.table("first", project="shop"), site.table("second", project="shop")):
        await site.until_applied("first", first)
        second = site.repository("second")
        told = await site.until_refused("second", second.commit({"env.yaml": ENVIRONMENT, "app.yaml": app()}))
        assert "belongs to the source first" in told
        assert set((await site.resources()).values()) == {"first"}


async def test_an_environment_belongs_to_one_source_and_the_other_has_its_own(site: Site) -> None:
    first = site.repository("first").commit({"env.yaml": ENVIRONMENT})
    async with site.controller(site.table("first", project="shop"), site.table("second", project="shop")):
        await site.until_applied("first", first)
        second = site.repository("second")
        told = await site.until_refused("second", second.commit({"env.yaml": ENVIRONMENT}))
        assert "environment/prod belongs to the source first (env.yaml:1)" in told
        second.commit({"app.yaml": app()}, remove=("env.yaml",))
        await site.until_told("second", "there is no environment 'prod'")  # another source's is not there for this one
        own = {"env.yaml": ENVIRONMENT.replace("prod", "dev"), "app.yaml": app().replace("prod", "dev")}
        await site.until_applied("second", second.commit(own))


async def test_a_hostname_is_one_sources_whatever_the_project(site: Site) -> None:
    first = site.repository("first").commit(SITE)
    async with site.controller(site.table("first", project="shop"), site.table("second", project="blog")):
        await site.until_applied("first", first)
        second = site.repository("second").commit(SITE)
        await site.until_applied("second", second)
        await site.until_told("second", "site.example.test:443 belongs to")
        assert [key for key in await site.resources() if "/blog/" in key] == ["acme/blog/prod/-/environment/prod"]


async def test_a_standby_follows_every_source_and_leads_them_when_the_leader_is_gone(site: Site) -> None:
    names = ("a", "b", "c")
    for name in names:
        site.repository(name).commit({"env.yaml": ENVIRONMENT})
    tables = [site.table(name, project=name) for name in names]
    async with site.controller(*tables, name="two", state="standby"):
        async with site.controller(*tables, name="one"):
            for name in names:
                await site.until_source(name, lambda each: each["applied_commit"] and each["fetch_age_s"] is not None)
            holders = {each["leader"] for each in (await site.sources()).values()}
            assert holders <= {"one", "two"}
            assert all(each["followed"] for each in (await site.sources()).values())
        (site.state / "controller.url").write_text((site.folder / "standby" / "controller.url").read_text())
        (site.state / "operator.token").write_text((site.folder / "standby" / "operator.token").read_text())
        for name in names:
            commit = site.repository(name).commit({"app.yaml": app(name)})
            await site.until_applied(name, commit)
            await site.until_source(name, lambda each: each["leader"] == "two")


async def test_a_storm_of_looks_is_a_fetch_or_two(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it comes: one fetch, one more for what came during it, and so on."""
    fetches: list[str] = []
    original = BareClone.fetch

    async def counted(self: BareClone, **more: float) -> str:
        fetches.append(self.source.source_id)
        return await original(self, **more)

    monkeypatch.setattr(BareClone, "fetch", counted)
    repository = site.repository("one")
    commit = repository.commit({"env.yaml": ENVIRONMENT})
    async with site.controller(site.table("one", project="p", poll_interval_s=3600)):
        await site.until_applied("one", commit)
        url, token = ((site.state / name).read_text().strip() for name in ("controller.url", "operator.token"))
        async with ControlPlane(url, token) as control_plane:
            before = len(fetches)
            await asyncio.gather(*(control_plane.post_json("/v1/sources/one/look", {}) for _ in range(200)))
            commit = repository.commit({"app.yaml": app()})
            await control_plane.post_json("/v1/sources/one/look", {})
        await site.until_applied("one", commit)
        assert 1 <= len(fetches) - before < 20
