"""What stands against a commit lies outside of it, and goes away: the commit is applied then, without another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kit.backoff import Backoff
from reconciler.core.explain_history import sentence
from reconciler.git.judge import Judged
from reconciler.git.signers_file import SignersFile
from reconciler.tasks.git_sync import again
from reconciler.tasks.git_sync.judging import Judging
from tests.integration.git.signing import signers_file, ssh_person
from tests.integration.git.test_held_apps import MORE, SHOP, Followed, World, fleet, in_test, world
from tests.unit.planner.trees import ENVIRONMENT, route

__all__ = ["world"]
SHOP_ROUTE = "org/project/prod/shop/route/r"
TAKEN = {"r.yaml": route("r", "taken", "shop")}


async def two(world: World) -> tuple[Followed, Followed]:
    """A source whose app wants the hostname of another one's."""
    main, other = await world.follow("main"), await world.follow("other")
    for each in (main, other):
        each.sync.again.backoff = Backoff(first_s=0.0, cap_s=0.0)
    other.repository.commit({"env.yaml": ENVIRONMENT.replace("prod", "test"), **in_test("mail", "taken")})
    assert (await other.sync.step()).result == "applied"
    return main, other


async def free(other: Followed) -> None:
    other.repository.commit(remove=("route.yaml",))
    assert (await other.sync.step()).result == "applied"


async def test_a_hostname_that_is_let_go_brings_the_app_that_waited_for_it(world: World) -> None:
    main, other = await two(world)
    main.repository.commit(fleet())
    await main.sync.step()
    head = main.repository.commit({**fleet(MORE), **TAKEN})
    assert [each.app for each in (await main.sync.step()).held] == [SHOP]
    before = len(world.log.events)
    assert [(await main.sync.step()).result for _ in range(3)] == ["unchanged"] * 3
    assert len(world.log.events) == before, "in vain: nothing is told"
    changed = (await world.row("revisions", f"main@{head}"))["changes"]
    await free(other)
    looked = await main.sync.step()
    assert (looked.result, looked.commit, looked.held) == ("applied", head, ())
    row = await world.row("resources", SHOP_ROUTE)
    assert (row["spec"]["hostname"], row["origin"]["commit"]) == ("taken.example.test", head)
    assert (await world.row("resources", SHOP))["held_back"] is None
    event = world.applied()[-1]
    assert (event.payload["base"], event.payload["released"]) == (head, [SHOP])
    assert f"commit {head[:12]} applied to what it held back, 2 changes" in sentence(event)
    revision = await world.row("revisions", f"main@{head}")
    assert revision["base"] != head, "what it was applied onto stays known"
    assert revision["changes"] == [*changed, *event.payload["changes"]], "and what it did at first"
    assert (await main.sync.step()).result == "unchanged"


async def test_a_quota_that_is_raised_brings_the_app_that_was_too_much(world: World) -> None:
    main, _ = await two(world)
    main.repository.commit(fleet())
    await main.sync.step()
    await world.handlers.set_quota("org/project", {"instances": 4})
    main.repository.commit(fleet(MORE, "      replicas: 9\n"))
    assert [each.app for each in (await main.sync.step()).held] == [SHOP]
    await world.handlers.set_quota("org/project", {"instances": 6})
    assert (await main.sync.step()).result == "unchanged", "not enough"
    await world.handlers.set_quota("org/project", {"instances": 20})
    assert (await main.sync.step()).result == "applied"
    assert (await world.row("resources", SHOP))["spec"]["processes"]["web"]["replicas"] == 9


async def test_a_whole_commit_that_was_refused_for_it_is_applied(world: World) -> None:
    main, other = await two(world)
    main.repository.commit({"test.yaml": ENVIRONMENT.replace("prod", "test")})
    assert (await main.sync.step()).result == "refused"
    other.repository.commit({"env.yaml": ENVIRONMENT}, remove=("app.yaml", "route.yaml"))
    assert (await other.sync.step()).result == "applied"
    assert (await main.sync.step()).result == "applied"


async def test_judging_again_is_bounded_whatever_others_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is in vain the pauses grow; and what is the commit's own mistake waits for a commit."""
    main, other = await two(world)
    main.repository.commit(fleet())
    await main.sync.step()
    main.repository.commit({**fleet(MORE), **TAKEN})
    await main.sync.step()
    judged: list[Judging] = []
    judge = Judging.judge

    async def counted(self: Judging, *more: Any) -> Judged:
        judged.append(self)
        return await judge(self, *more)

    monkeypatch.setattr(Judging, "judge", counted)
    main.sync.again.backoff = Backoff(first_s=3600.0, cap_s=3600.0)
    main.sync.look()
    await main.sync.step()
    count = judged.count(main.sync.judging)
    assert count >= 1, "looked at when somebody asks"
    for number in range(3):
        other.repository.commit({"app.yaml": in_test("mail", "taken")["app.yaml"] + MORE * (number % 2)})
        await other.sync.step()
        await main.sync.step()
    assert judged.count(main.sync.judging) == count
    monkeypatch.setattr(again, "AGAIN_S", 0.0)
    main.sync.look()
    await main.sync.step()
    await main.sync.step()
    assert judged.count(main.sync.judging) == 3 * count, "now and then in any case"


async def test_an_app_with_a_mistake_of_its_own_waits_for_a_commit(world: World) -> None:
    main, _ = await two(world)
    main.repository.commit(fleet())
    await main.sync.step()
    main.repository.commit(fleet(MORE, "      replicaz: 2\n"))
    await main.sync.step()
    before = len(world.log.events)
    await world.handlers.set_quota("org/project", {"instances": 20})
    assert (await main.sync.step()).result == "unchanged"
    assert len(world.log.events) == before + 1


async def test_signatures_and_confirmations_of_the_commit_count_when_it_is_judged_again(
    world: World, tmp_path: Path
) -> None:
    """They stand in the commits that were applied, and the rule of two asks for them in every environment."""
    ann, ben = ssh_person(tmp_path, "ann"), ssh_person(tmp_path, "ben")
    main, other = await two(world)
    root = main.repository.signed(ann, fleet())
    trust = signers_file(tmp_path, ann, ben, root=root, rules=[{"envs": ["prod"], "signers": 2}])
    main.sync.judging.signers = SignersFile(trust)
    assert (await main.sync.step()).result == "applied"
    main.repository.signed(ann, {**fleet(MORE), **TAKEN})
    main.repository.signed(ben, message="Approve\n\nTrueup-Approve: **")
    assert [each.app for each in (await main.sync.step()).held] == [SHOP]
    await free(other)
    looked = await main.sync.step()
    assert (looked.result, looked.held) == ("applied", ())
    assert {each["signer"] for each in world.applied()[-1].payload["signers"]} == {"ann", "ben"}
