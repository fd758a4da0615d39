"""A source that is taken out of the settings, renamed, given another folder or another project: what it owned stays,
and is told; nothing is deleted because a line of settings is missing or changed.
"""

from __future__ import annotations

from typing import Any

from tests.integration.sources.controllers import Site
from tests.unit.planner.trees import ENVIRONMENT, app, route, volume

SITE = {"env.yaml": ENVIRONMENT, "app.yaml": app(), "route.yaml": route("r", "site"), "volume.yaml": volume("data")}
IDS = {
    "acme/shop/prod/-/environment/prod",
    "acme/shop/prod/site/app/site",
    "acme/shop/prod/site/route/r",
    "acme/shop/prod/site/volume/data",
}


def first_problem(found: Any) -> str:
    return str(found["problems"][0]["message"])


async def verified(site: Site) -> None:
    """Views and claims are what the log says: nothing differs, so the exit code is 0."""
    assert "claims" in await site.run("views", "verify", "--database-url", site.database_url)


async def test_a_source_that_is_taken_out_of_the_settings_keeps_what_it_declared(site: Site) -> None:
    commit = site.repository("shop").commit(SITE)
    other = site.table("other", project="other")
    site.repository("other").commit({"env.yaml": ENVIRONMENT})
    async with site.controller(site.table("shop", project="shop"), other):
        await site.until_applied("shop", commit)
        answer = await site.run("source", "remove", "shop", "--delete-resources", "4", "--reason", "x", code=5)
        assert "it is followed" in answer
    site.repository("shop").commit({"more.yaml": app("more")})
    async with site.controller(other):
        found = await site.until_source("shop", lambda each: not each["followed"])
        assert set(await site.resources()) >= IDS
        assert "no controller follows it any more; its 4 resources stay as they are" in first_problem(found)
        assert "no controller follows it any more" in await site.run("status")
        assert not await site.events("app.deleted", "source.removed")
    async with site.controller(site.table("shop", project="shop"), other):
        found = await site.until_source("shop", lambda each: each["followed"] and each["applied_commit"] != commit)
        assert found["problems"] == [], "followed again, it goes on where it was"


async def test_an_operator_deletes_on_purpose_what_nobody_follows(site: Site) -> None:
    commit = site.repository("shop").commit(SITE)
    other = site.table("other", project="other")
    site.repository("other").commit({"env.yaml": ENVIRONMENT})
    async with site.controller(site.table("shop", project="shop"), other):
        await site.until_applied("shop", commit)
    remove = ("source", "remove", "shop", "--reason", "archived", "--delete-resources")
    async with site.controller(other):
        await site.until_source("shop", lambda each: not each["followed"])
        assert "it has 4 resources, and the order is for 3" in await site.run(*remove, "3", code=5)
        assert "the data of 1 volumes would be lost: prod/site/volume/data" in await site.run(*remove, "4", code=5)
        assert not await site.events("source.removed", "volume.deleted")
        assert "4 resources are removed" in await site.run(*remove, "4", "--delete-volumes")
        assert "was removed before" in await site.run(*remove, "0")
        found = await site.until_source("shop", lambda each: each["resources"] == 0)
        assert (found["problems"], found["applied_commit"]) == ([], "")
        assert set(await site.resources()) == {"acme/other/prod/-/environment/prod"} == set(await site.claims())
        gone = [row["aggregate_type"] for row in await site.events(*(f"{kind}.deleted" for kind in _KINDS))]
        assert gone == ["route", "app", "volume", "environment"]
        told = await site.run("events", "--output", "json", "--actor", "local")
        assert "archived" in told
        assert "removed with 4 resources: archived" in await site.run("events")
    await verified(site)
    async with site.controller(site.table("shop", project="shop"), other):
        await site.until_applied("shop", commit)
        assert set(await site.resources()) >= IDS, "followed again, it begins anew"
    await verified(site)


async def test_two_controllers_with_different_settings_agree_on_what_is_followed(site: Site) -> None:
    commit = site.repository("shop").commit(SITE)
    site.repository("other").commit({"env.yaml": ENVIRONMENT})
    other = site.table("other", project="other")
    async with site.controller(site.table("shop", project="shop"), name="both", state="second"):
        async with site.controller(other):
            await site.until_applied("shop", commit)
            found = await site.until_source("shop", lambda each: each["leader"] == "both")
            assert found["followed"]
            assert found["problems"] == []
            answer = await site.run("source", "remove", "shop", "--delete-resources", "4", "--reason", "x", code=5)
            assert "a controller follows it" in answer
            assert set(await site.resources()) >= IDS


async def test_a_source_under_a_new_name_takes_over_and_nothing_restarts(site: Site) -> None:
    repository = site.repository("shop")
    url = str(repository.path)
    commit = repository.commit(SITE)
    async with site.controller(site.table("shop", project="shop")):
        await site.until_applied("shop", commit)
        deployments = await site.events("deployment.created")
    async with site.controller(site.table("store", project="shop", url=url)):
        told = await site.until_refused("store", commit)
        assert "belongs to the source shop" in told
        assert set((await site.resources()).values()) == {"shop"}
    async with site.controller(site.table("store", project="shop", url=url, takes_over=["shop"])):
        await site.until_applied("store", commit)
        owners = dict.fromkeys(IDS, "store")
        assert await site.resources() == owners == await site.claims()
        assert len(await site.events("deployment.created")) == len(deployments) == 1
        assert not await site.events(*(f"{kind}.deleted" for kind in _KINDS))
        found = await site.sources()
        assert (found["shop"]["resources"], found["shop"]["problems"]) == (0, [])
        gone = repository.commit(remove=("route.yaml",))
        await site.until_applied("store", gone)
        assert "acme/shop/prod/site/route/r" not in await site.claims()
    await verified(site)


async def test_an_app_moves_from_one_repository_to_another_as_it_is(site: Site) -> None:
    """First the new one declares it, then the old one lets it go; in between the old one cannot change it."""
    old, new = site.repository("old"), site.repository("new")
    first = old.commit(SITE)
    second = new.commit({"dev.yaml": ENVIRONMENT.replace("prod", "dev")})
    tables = (site.table("old", project="shop"), site.table("new", project="shop", takes_over=["old"]))
    async with site.controller(*tables):
        await site.until_applied("old", first)
        await site.until_applied("new", second)
        second = new.commit(SITE)
        await site.until_applied("new", second)
        assert {key: owner for key, owner in (await site.claims()).items() if key in IDS} == dict.fromkeys(IDS, "new")
        old.commit({"app.yaml": app(more="      replicas: 3\n")})
        found = await site.until_source("old", lambda each: each["held_back"] == ["prod/app/site"])
        assert "belongs to the source new" in first_problem(found)
        keep = {"env.yaml": ENVIRONMENT.replace("prod", "spare")}
        first = old.commit(
            keep, remove=("app.yaml", "route.yaml", "volume.yaml"), message="x\n\nConfirm-Delete: prod/site/volume/data"
        )
        await site.until_applied("old", first)
        assert {key: owner for key, owner in (await site.claims()).items() if key in IDS} == dict.fromkeys(IDS, "new")
        assert not await site.events("app.deleted", "volume.deleted", "volume.retained", "environment.deleted")
    await verified(site)


async def test_another_project_is_refused_and_changes_nothing(site: Site) -> None:
    commit = site.repository("shop").commit(SITE)
    async with site.controller(site.table("shop", project="shop")):
        await site.until_applied("shop", commit)
    async with site.controller(site.table("shop", project="blog")):
        found = await site.until_source("shop", lambda each: each["problems"])
        assert "the source shop has 4 resources in acme/shop, and is now bound to acme/blog" in first_problem(found)
        commit = site.repository("shop").commit({"more.yaml": app("more")})
        assert "is now bound to acme/blog" in await site.until_refused("shop", commit)
        assert set(await site.resources()) == IDS
    async with site.controller(site.table("shop", project="shop")):
        await site.until_applied("shop", commit)
        assert set(await site.resources()) == {*IDS, "acme/shop/prod/more/app/more"}
    await verified(site)


async def test_another_folder_becomes_what_that_folder_says_without_a_push(site: Site) -> None:
    """What both folders declare stays as it is; what only one of them does comes or goes; the guards hold."""
    repository = site.repository("shop")
    b = {"b/env.yaml": ENVIRONMENT, "b/app.yaml": app(), "b/new.yaml": app("new")}
    commit = repository.commit({**{f"a/{name}": text for name, text in SITE.items()}, **b})
    async with site.controller(site.table("shop", project="shop", path="a")):
        await site.until_applied("shop", commit)
    async with site.controller(site.table("shop", project="shop", path="b")):
        new = "acme/shop/prod/new/app/new"
        await site.until_resources({*IDS, new} - {"acme/shop/prod/site/route/r"})
        assert len(await site.events("deployment.created")) == 2, "the app of both folders did not restart"
        (retained,) = await site.events("volume.retained")
        assert retained["aggregate_id"].endswith("volume/data")
        assert (await site.sources())["shop"]["problems"] == []
        applied = len(await site.events("revision.applied"))
        await site.run("source", "look", "shop")
        again = repository.commit({"b/more.yaml": app("more")})
        await site.until_applied("shop", again)
        assert len(await site.events("revision.applied")) == applied + 1, "once bound, it is bound"
    async with site.controller(site.table("shop", project="shop", path="nothing")):
        found = await site.until_source("shop", lambda each: each["problems"])
        assert "the folder nothing is not in this commit; nothing is deleted for it" in first_problem(found)
        assert new in await site.resources()
    await verified(site)


_KINDS = ("environment", "secret", "volume", "app", "route")
