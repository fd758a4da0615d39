"""Apps that are held back, over real commits, handlers and views: what is recorded, and what people are told."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kit.clock import SystemClock
from reconciler.core.event_schemas import EventSchemas
from reconciler.core.events import Event, NewEvent
from reconciler.core.explain_history import sentence
from reconciler.core.explanation import Explanation
from reconciler.core.preview.markdown import rendered
from reconciler.core.revisions import SIGNERS_MAX, Rules, Source
from reconciler.core.views import PROJECTIONS
from reconciler.git.clone import BareClone
from reconciler.git.signers_file import SignersFile
from reconciler.handlers import Handlers
from reconciler.ids import UlidIds
from reconciler.planning import Planning
from reconciler.ports import Doc
from reconciler.server.status import status_document
from reconciler.server.why import explain_resource
from reconciler.store.event_schema_files import load_event_schemas
from reconciler.tasks.git_sync import GitSync
from reconciler.vault import resolve_offline
from tests.integration.git.signing import SignedRepository, signers_file, ssh_person
from tests.twin import MemoryLog, MemoryViews
from tests.unit.planner.trees import ENVIRONMENT, app, route

MORE = "      replicas: 2\n"
SHOP = "org/project/prod/shop/app/shop"


@dataclass
class World:
    log: MemoryLog
    views: MemoryViews
    handlers: Handlers
    folder: Path

    async def follow(
        self, name: str, rules: Rules | None = None, signers: Path | None = None, takes_over: tuple[str, ...] = ()
    ) -> Followed:
        repository = SignedRepository(self.folder / name)
        source = Source(name, "org", "project", str(repository.path), rules=rules or Rules(), takes_over=takes_over)
        await self.handlers.register_source(source)
        clone = BareClone(self.folder / "state", source)
        writes = (self.handlers.see_revision, self.handlers.submit_revision, self.handlers.refuse_revision)
        rng = random.Random(1)
        sync = GitSync(source, clone, resolve_offline, self.log, self.views, *writes, SystemClock(), rng)
        sync.judging.signers = SignersFile(signers) if signers else None
        return Followed(repository, sync, Planning(source, clone, resolve_offline, self.views))

    async def row(self, view: str, key: str) -> Doc:
        found = await self.views.get(view, key)
        assert found is not None
        return found

    async def why(self, text: str) -> Explanation:
        found = await explain_resource(self.log, await self.views.snapshot(ALL), {}, text)
        assert isinstance(found, Explanation)
        return found

    async def status(self) -> dict[str, Any]:
        return status_document(await self.views.snapshot(ALL), await self.log.head(), {}, {})

    def applied(self) -> list[Event]:
        return [each for each in self.log.events if each.event_type == "revision.applied"]


@dataclass
class Followed:
    repository: SignedRepository
    sync: GitSync
    planning: Planning


ALL = tuple(sorted(PROJECTIONS))


@pytest.fixture
def world(tmp_path: Path) -> World:
    log = MemoryLog()
    views = MemoryViews(log)
    return World(log, views, Handlers(log, views, UlidIds(), SystemClock()), tmp_path)


def fleet(more: str = "", shop: str = "") -> dict[str, str]:
    return {"env.yaml": ENVIRONMENT, "blog.yaml": app("blog", more), "shop.yaml": app("shop", shop or more)}


async def test_an_applied_revision_says_what_it_left_out(world: World) -> None:
    main = await world.follow("main")
    main.repository.commit(fleet())
    await main.sync.step()
    bad = main.repository.commit(fleet(MORE, "      replicaz: 2\n"))
    assert (await main.sync.step()).result == "applied"
    event = world.applied()[-1]
    EventSchemas(load_event_schemas()).check(
        NewEvent(event.aggregate_type, event.aggregate_id, event.event_type, event.payload, event.event_version)
    )
    assert event.event_version == 2
    assert [(each["app"], each["findings"][0]["code"]) for each in event.payload["held"]] == [(SHOP, "unknown_field")]
    assert f"commit {bad[:12]} applied, except app prod/app/shop: shop.yaml:10:7" in sentence(event)
    assert (await world.row("sources", "main"))["held_back"] == {SHOP: []}
    assert (await world.row("resources", SHOP))["held_back"]["commit"] == bad
    assert (await world.row("resources", SHOP))["spec"]["processes"]["web"]["replicas"] == 1
    main.repository.commit(fleet(MORE))
    await main.sync.step()
    assert world.applied()[-1].payload["released"] == [SHOP]
    assert (await world.row("sources", "main"))["held_back"] == {}
    assert (await world.row("resources", SHOP))["held_back"] is None


async def test_status_and_why_say_it_with_file_and_line(world: World) -> None:
    main = await world.follow("main")
    main.repository.commit(fleet())
    await main.sync.step()
    files = {**fleet(MORE, "      replicaz: 2\n"), "new.yaml": app("new", "      replicaz: 2\n"), "x.yaml": "kind: {\n"}
    main.repository.commit(files)
    await main.sync.step()
    status = await world.status()
    shop = next(each for each in status["apps"] if each["app"] == "prod/app/shop")
    assert any("shop.yaml:10:7" in each["message"] for each in shop["problems"])
    told = [each["message"] for each in status["sources"][0]["problems"]]
    assert any("prod/app/new" in each and "new.yaml:10:7" in each for each in told), "an app that is not there"
    assert any("what cannot be read" in each and "x.yaml" in each for each in told)
    assert status["sources"][0]["held_back"] == ["", "prod/app/new", "prod/app/shop"]
    for name in ("shop", "new"):
        why = await world.why(f"app/{name}")
        held = next(each for each in why.differences if each.verdict == "held_back")
        assert f"{name}.yaml:10:7" in held.message
        assert "did you mean 'replicas'?" in held.details[0]
    assert not (await world.why("app/new")).exists
    assert "held_back" not in {each.verdict for each in (await world.why("app/blog")).differences}


async def test_a_hostname_of_another_source_holds_back_only_who_wants_it(world: World) -> None:
    main, other = await world.follow("main"), await world.follow("other")
    other.repository.commit({"env.yaml": ENVIRONMENT.replace("prod", "test"), **in_test("mail", "taken")})
    await other.sync.step()
    main.repository.commit(fleet())
    await main.sync.step()
    wanting = {"r.yaml": route("r", "taken", "shop"), "r2.yaml": route("r", "free", "blog")}
    head = main.repository.commit({**fleet(MORE), **wanting})
    await main.sync.branch.clone.fetch()
    plan = await main.planning.document("", head)
    assert ([each.app for each in plan.held], plan.ok) == ([SHOP], False)
    assert "would be applied except prod/app/shop" in rendered(plan).summary
    assert "### trueup plan: would be applied in part" in rendered(plan).markdown
    looked = await main.sync.step()
    assert (looked.result, [each.app for each in looked.held]) == ("applied", [SHOP])
    assert looked.held[0].findings[0].code == "hostname_taken"
    assert (await world.row("resources", "org/project/prod/blog/route/r"))["spec"]["hostname"] == "free.example.test"
    assert (await world.row("resources", SHOP))["spec"]["processes"]["web"]["replicas"] == 1
    other.repository.commit(remove=("route.yaml",))
    await other.sync.step()
    main.repository.commit(message="Again")
    assert (await main.sync.step()).held == ()
    assert (await world.row("resources", "org/project/prod/shop/route/r"))["spec"]["hostname"] == "taken.example.test"


def in_test(name: str, host: str) -> dict[str, str]:
    files = {"app.yaml": app(name), "route.yaml": route("r", host, name)}
    return {path: text.replace("env: prod", "env: test") for path, text in files.items()}


async def test_a_quota_holds_back_the_app_that_is_too_much(world: World) -> None:
    main = await world.follow("main")
    main.repository.commit(fleet())
    await main.sync.step()
    await world.handlers.set_quota("org/project", {"instances": 3})
    main.repository.commit(fleet("      replicas: 1\n", "      replicas: 9\n") | {"blog.yaml": app("blog", MORE)})
    looked = await main.sync.step()
    assert (looked.result, [each.app for each in looked.held]) == ("applied", [SHOP])
    assert looked.held[0].findings[0].code == "quota_exceeded"
    blog = await world.row("resources", "org/project/prod/blog/app/blog")
    assert blog["spec"]["processes"]["web"]["replicas"] == 2


async def test_what_belongs_to_another_source_is_its_app_alone(world: World) -> None:
    main, other = await world.follow("main"), await world.follow("other")
    other.repository.commit({"env.yaml": ENVIRONMENT.replace("prod", "test"), **in_test("mail", "mail")})
    await other.sync.step()
    mine = {"env.yaml": ENVIRONMENT, "blog.yaml": app("blog")}
    main.repository.commit(mine)
    await main.sync.step()
    main.repository.commit({**mine, "test.yaml": ENVIRONMENT.replace("prod", "test"), "blog.yaml": app("blog", MORE)})
    looked = await main.sync.step()
    assert looked.result == "refused", "an environment is nobody's own"
    assert looked.findings[0].code == "resource_owned"


async def test_all_or_nothing_where_the_operator_wants_it(world: World) -> None:
    main = await world.follow("main", Rules(on_error="refuse-commit"))
    main.repository.commit(fleet())
    await main.sync.step()
    await world.handlers.set_quota("org/project", {"instances": 3})
    main.repository.commit(fleet("      replicas: 9\n"))
    looked = await main.sync.step()
    assert (looked.result, looked.findings[0].code) == ("refused", "quota_exceeded")
    assert world.applied()[-1].payload["held"] == []


async def test_who_signed_is_recorded_newest_first_and_bounded(world: World, tmp_path: Path) -> None:
    ann = ssh_person(tmp_path, "ann")
    signers = signers_file(tmp_path, ann)
    main = await world.follow("main", signers=signers)
    last = ""
    for number in range(SIGNERS_MAX + 3):
        last = main.repository.signed(ann, fleet(f"      replicas: {number}\n"))
        if not number:
            await main.sync.step()
    await main.sync.step()
    payload = world.applied()[-1].payload
    assert (len(payload["signers"]), payload["signers_omitted"]) == (SIGNERS_MAX, 2)
    assert (payload["signers"][0]["commit"], payload["signers"][0]["signer"]) == (last, "ann")
    assert payload["signers"][0]["kind"] == "ssh"


async def test_two_signers_are_asked_for_also_for_what_is_held_back(world: World, tmp_path: Path) -> None:
    """Else one signer would leave a change of prod in a held app, and free it by a harmless one."""
    ann, ben = ssh_person(tmp_path, "ann"), ssh_person(tmp_path, "ben")
    main = await world.follow("main")
    root = main.repository.signed(ann, fleet())
    signers = signers_file(tmp_path, ann, ben, root=root, rules=[{"envs": ["prod"], "signers": 2}])
    main.sync.judging.signers = SignersFile(signers)
    assert (await main.sync.step()).result == "applied"
    main.repository.signed(ann, {"shop.yaml": app("shop", "      replicas: 66\n      replicaz: 1\n")})
    looked = await main.sync.step()
    assert (looked.result, {each.code for each in looked.findings}) == ("refused", {"signers_too_few"})
