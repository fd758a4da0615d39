"""Notes that are not pushed show at their source, at every controller, until they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from reconciler.server.status_sources import Followed
from tests.integration.sources.controllers import Site
from tests.integration.sources.test_bindings import SITE


def codes(source: Any) -> list[str]:
    return [each["code"] for each in source["problems"]]


async def test_a_remote_that_takes_no_notes_is_a_problem_of_its_source(site: Site) -> None:
    repository = site.repository("shop")
    repository.git("config", "receive.hideRefs", "refs/notes")
    commit = repository.commit(SITE)
    async with site.controller(site.table("shop", project="shop", push_notes=True)):
        await site.until_applied("shop", commit)
        found = await site.until_source("shop", lambda each: "notes_unwritten" in codes(each))
        (told,) = [each for each in found["problems"] if each["code"] == "notes_unwritten"]
        assert "push refs/notes/trueup" in told["message"] and told["verdict"] == "waiting"
        assert "push refs/notes/trueup" in await site.run("status")
        repository.git("config", "--unset", "receive.hideRefs")
        await site.until_source("shop", lambda each: "notes_unwritten" not in codes(each))
    assert repository.git("notes", "--ref=trueup", "show", commit).startswith("trueup: applied")


def test_a_controller_that_pushes_none_tells_what_the_other_says() -> None:
    lease = SimpleNamespace(lease="notes/shop", holder="two", held=True, trouble="push refs/notes/trueup: no")
    assert Followed(leases=(lease,)).notes_trouble("shop") == "push refs/notes/trueup: no (at two)"
    assert Followed(leases=(lease,)).notes_trouble("blog") == ""
    gone = SimpleNamespace(**{**vars(lease), "held": False})
    assert Followed(leases=(gone,)).notes_trouble("shop") == "", "who is gone says nothing any more"
    here = Followed(leases=(lease,), notes_troubles={"shop": "the disk is full"})
    assert here.notes_trouble("shop") == "the disk is full"
