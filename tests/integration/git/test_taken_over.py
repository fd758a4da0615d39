"""What a source takes over from another one is told as that: in the plan, by what was applied, by the former owner."""

from __future__ import annotations

import random

from kit.clock import SystemClock
from kit.codec import to_json
from kit.wire import Enrolment
from reconciler.cli.output import plain
from reconciler.cli.plan import page
from reconciler.core.preview.markdown import rendered
from reconciler.ids import UlidIds
from reconciler.tasks.scheduler import Scheduler
from tests.integration.git.test_held_apps import Followed, World, in_test, world
from tests.unit.planner.trees import ENVIRONMENT

__all__ = ["world"]
TEST = ENVIRONMENT.replace("prod", "test")
APP, ROUTE = "org/project/test/mail/app/mail", "org/project/test/mail/route/r"


async def two(world: World) -> tuple[Followed, Followed]:
    """The old source has an app; the new one is to take it over."""
    old, new = await world.follow("old"), await world.follow("new", takes_over=("old",))
    old.repository.commit({"env.yaml": TEST, **in_test("mail", "mail")})
    assert (await old.sync.step()).result == "applied"
    await world.handlers.enrol_node(Enrolment("node-a", "fd00::/64", 4 << 30, 4.0, 1 << 40, "age1x", "kvm", "1"))
    await schedule(world)
    return old, new


async def schedule(world: World) -> None:
    clock = SystemClock()
    for _ in range(2):
        await Scheduler(world.log, world.views, world.handlers, UlidIds(), clock, random.Random(1)).one_pass()


async def test_a_plan_says_from_whom_it_takes_over_and_that_nothing_restarts(world: World) -> None:
    _, new = await two(world)
    new.repository.commit({"test/env.yaml": TEST, "app.yaml": in_test("mail", "mail")["app.yaml"]})
    new.repository.commit({"test/route.yaml": in_test("mail", "other")["route.yaml"]})
    head = new.repository.head()
    await new.sync.branch.fetch()
    plan = await new.planning.document("", head)
    changes = {each.resource_id: each for each in plan.changes}
    assert len(changes) == len(plan.changes) == 3, "what changes too is one change"
    assert {each.was_source for each in plan.changes} == {"old"}
    assert (changes[APP].verb, changes[APP].fields) == ("move", ())
    assert (changes[ROUTE].verb, [each.path for each in changes[ROUTE].fields]) == ("update", ["spec.hostname"])
    assert plan.roll_outs == ()
    assert plan.summary == "1 changed, 2 moved, 3 taken over from old"
    as_it_is = "app.yaml:1 (was old app.yaml:1); taken over from the source old as it is, nothing restarts"
    assert as_it_is in rendered(plan).markdown
    assert as_it_is in plain(page(plan))
    told = next(each for each in to_json(plan)["changes"] if each["resource_id"] == APP)
    assert (told["verb"], told["was_source"], told["was_path"]) == ("move", "old", "app.yaml")


async def test_what_is_applied_says_it_as_well(world: World) -> None:
    _, new = await two(world)
    head = new.repository.commit({"env.yaml": TEST, **in_test("mail", "other")})
    assert (await new.sync.step()).result == "applied"
    verbs = {each["resource_id"]: each["verb"] for each in world.applied()[-1].payload["changes"]}
    assert (verbs[APP], verbs[ROUTE]) == ("move", "update")
    planned = (await world.row("revisions", f"new@{head}"))["planned"]
    assert (planned["created"], planned["moved"], planned["updated"]) == (0, 2, 1)


async def test_the_former_owner_lets_go_of_what_is_not_its_own_and_converges(world: World) -> None:
    """Its commit removes nothing, and must not wait for that to go."""
    old, new = await two(world)
    new.repository.commit({"env.yaml": TEST, **in_test("mail", "mail")})
    await new.sync.step()
    gone = old.repository.commit(
        {"spare.yaml": ENVIRONMENT.replace("prod", "spare")},
        remove=("env.yaml", "app.yaml", "route.yaml"),
    )
    assert (await old.sync.step()).result == "applied"
    row = await world.row("revisions", f"old@{gone}")
    assert [(each["verb"], each["resource_id"]) for each in row["changes"]] == [
        ("create", "org/project/spare/-/environment/spare")
    ]
    assert row["planned"]["removed"] == 0
    await schedule(world)
    assert (await world.row("revisions", f"old@{gone}"))["status"] == "converged"
    assert (await world.row("resources", APP))["origin"]["source_id"] == "new"
