"""What `trueup why` says: one page in full, and for every situation the sentence that matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kit.codec import from_json, to_json
from reconciler.core.events import Event
from reconciler.core.explain_history import step
from reconciler.core.explanation import Ambiguous, Explanation, NothingFound
from tests.unit.cli.asking import World
from tests.unit.cli.story import (
    ADA,
    BAD,
    BEN,
    DATA,
    GOOD,
    KEYS,
    LATER,
    PROD,
    ROUTE,
    ROUTE_SPEC,
    SITE,
    app_spec,
    git,
    scheduler,
)

ROLLING_PAGE = """\
prod/app/site: failing
web: 1 of 2 ready; instance i-0002 on node-b is failed (process_exited, exit code 1, 3 restarts)

WHY 1: process_exited
  instance i-0002 on node-b is failed (process_exited, exit code 1, 3 restarts)
    panic: no such table
  To mend it: read the console log of the instance on its node: the process ended by itself
  Seen in event 22 at 2026-01-01T00:00:22.000Z

WHY 2: revision_refused
  the newest commit bbbbbbbbbbbb (More, Ben <ben@example.org>) was refused with 1 finding; it touches apps/site.yaml
    apps/site.yaml:9:5 unknown field 'replicsa' - write replicas
  To mend it: mend the findings in a new commit
  Seen in event 23 at 2026-01-01T00:00:23.000Z

WANTED
  web: 2 replicas of registry.example/site@sha256:1111111111111111111111111111111111111111111111111111111111111111
  web: memory 128 MiB, cpu 1, restart always
  web: ports http:8080, health check http 8080/healthz
  web: volume notes-data at /data, secret keys
  commit aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa of source main: Serve the site
  by Ada <ada@example.org>
  at apps/site.yaml:3

THERE
  INSTANCE  PROCESS  NODE    DESIRED  STATUS  SINCE                     RESTARTS  RELEASE
  i-0001    web      node-a  running  ready   2026-01-01T00:00:13.000Z  0         r-one
  i-0002    web      node-b  running  failed  2026-01-01T00:00:22.000Z  3         r-one

HOW IT CAME TO THIS
  EVENT  TIME  BECAUSE OF  WHAT
  #4  2026-01-01T00:00:04.000Z  Ada <ada@example.org>, commit aaaaaaaaaaaa  \
commit aaaaaaaaaaaa applied, 4 changes: Serve the site
  #7  2026-01-01T00:00:07.000Z  Ada <ada@example.org>, commit aaaaaaaaaaaa, apps/site.yaml:3  prod/app/site created
"""


async def crash(world: World, times: int) -> None:
    for count in range(1, times + 1):
        if count > 1:
            await world.story.status("i-0002", "node-b", "booting", restarts=count)
        detail = "panic: no such table"
        await world.story.status("i-0002", "node-b", "failed", "process_exited", detail, exit_code=1, restarts=count)


async def test_a_page_in_full() -> None:
    world = World()
    await world.story.site()
    await crash(world, 3)
    await world.story.refused(BAD, "More")
    page = await world.page("app/site")
    head, history = page.split("HOW IT CAME TO THIS\n")
    assert head == ROLLING_PAGE.split("HOW IT CAME TO THIS\n")[0]
    lines = [" ".join(line.split()) for line in history.splitlines()]
    expected = [" ".join(line.split()) for line in ROLLING_PAGE.split("HOW IT CAME TO THIS\n")[1].splitlines()]
    assert lines[: len(expected)] == expected
    assert any(line.endswith("exit code 1) (3 times, last #22 at 2026-01-01T00:00:22.000Z)") for line in lines)


async def test_all_is_well() -> None:
    world = World()
    await world.story.site()
    answer = await world.explain("app/site")
    assert (answer.verdict, answer.differences) == ("converged", ())
    assert answer.desired is not None
    assert (answer.desired.commit, answer.desired.path, answer.desired.line) == (GOOD, "apps/site.yaml", 3)
    assert [(each.instance_id, each.status, each.since[-9:-5]) for each in answer.observed] == [
        ("i-0001", "ready", "0:13"),
        ("i-0002", "ready", "0:16"),
    ]


async def test_a_rollout_says_what_is_there_and_what_is_former() -> None:
    world = World()
    await world.story.site()
    await world.story.applied(LATER, "New image", ("update", SITE, "apps/site.yaml", 3), author=BEN)
    updated = {
        "resource_id": SITE,
        "spec": app_spec("registry.example/site@sha256:" + "2" * 64),
        "previous_spec": app_spec(),
    }
    await world.story.event("app", SITE, "updated", updated, git(LATER, BEN, "apps/site.yaml", 3))
    await world.story.release("r-two", "d-two", LATER, 2)
    await world.story.allocate("i-0003", "node-a", "r-two", "d-two", LATER)
    await world.story.status("i-0003", "node-a", "booting")
    answer = await world.explain("site")
    assert answer.verdict == "rolling"
    assert "0 of 2 ready; 2 former instances still wanted" in answer.differences[0].message
    assert [(each.instance_id, each.current) for each in answer.observed] == [
        ("i-0003", True), ("i-0001", False), ("i-0002", False),
    ]  # fmt: skip
    assert answer.desired is not None
    assert answer.desired.author == BEN
    assert any("processes.web.image registry.example/site@sh" in step.what for step in answer.history)


async def test_what_cannot_be_placed_says_why_and_what_to_do() -> None:
    world = World()
    await world.story.site()
    why = {"resource_id": SITE, "process": "web", "reason": "no_capacity_memory", "message": "128 MiB fit nowhere"}
    await world.story.event("app", SITE, "unschedulable", why, git())
    answer = await world.explain("site")
    assert (answer.verdict, answer.differences[0].code) == ("waiting", "no_capacity_memory")
    assert "128 MiB fit nowhere" in answer.differences[0].message
    assert "add a node" in answer.differences[0].fix


async def test_a_failed_deployment_says_its_message() -> None:
    world = World()
    await world.story.site()
    await world.story.release("r-two", "d-two", LATER, 2)
    await world.story.deployment("d-two", "failed", "process web: 3 replacements failed")
    answer = await world.explain("site")
    assert answer.verdict == "failing"
    assert "3 replacements failed" in answer.headline


async def test_a_silent_node_explains_its_instances() -> None:
    world = World()
    await world.story.site()
    await world.story.node_state("node-b", "offline", "no heartbeat for 60 s")
    answer = await world.explain("site")
    assert (answer.verdict, answer.differences[0].code) == ("offline", "node_offline")
    assert answer.headline.startswith("web: 1 of 2 ready")
    node = await world.explain("node-b")
    assert (node.verdict, node.differences[0].details) == (
        "offline", ("i-0002 of prod/app/site/web, last ready",),
    )  # fmt: skip
    assert "no heartbeat for 60 s" in node.differences[0].message


async def test_a_retained_volume_names_the_trailer_that_removes_it() -> None:
    world = World()
    await world.story.site()
    retained = {"resource_id": DATA, "reason": "the commit does not confirm its deletion"}
    await world.story.event("volume", DATA, "retained", retained, git(LATER))
    answer = await world.explain("volume/notes-data")
    retaining = next(each for each in answer.differences if each.code == "retained")
    assert "Trueup-Confirm-Delete: prod/site/volume/notes-data" in retaining.fix


async def test_a_removed_resource_is_explained_from_the_log() -> None:
    world = World()
    await world.story.site()
    await world.story.applied(LATER, "Take it down", ("delete", ROUTE, "apps/site.yaml", 30), author=BEN)
    await world.story.event("route", ROUTE, "deleted", {"resource_id": ROUTE}, git(LATER, BEN, "apps/site.yaml", 30))
    for name in ("route/site", ROUTE, "prod/site/route/site"):
        answer = await world.explain(name)
        assert (answer.exists, answer.verdict) == (False, "removed")
        assert "Ben <ben@example.org>, commit cccccccccccc, apps/site.yaml:30" in answer.headline
        assert "git revert cccccccccccc" in answer.differences[0].fix
        assert [step.type for step in answer.history] == [
            "revision.applied", "route.created", "revision.applied", "route.deleted",
        ]  # fmt: skip


async def test_an_instance_that_is_gone_is_explained_from_the_log() -> None:
    world = World()
    await world.story.site()
    await world.story.desired("i-0002", "node-b", "draining", "replaced by i-0003")
    await world.story.status("i-0002", "node-b", "stopped")
    answer = await world.explain("i-0002")
    assert (answer.exists, answer.verdict) == (False, "removed")
    assert "replaced by i-0003" in answer.headline
    assert "last seen stopped on node-b" in answer.headline
    assert answer.history[0].type == "revision.applied"
    assert answer.history[-1].what == "instance i-0002 on node-b is stopped"


async def test_a_route_says_what_serves_it() -> None:
    world = World()
    await world.story.site()
    told = {"resource_id": ROUTE, "edge_id": "edge-a", "status": "active", "backends": 2, "reason_detail": ""}
    await world.story.event("route", ROUTE, "status_changed", told, git())
    answer = await world.explain("prod/site/route/site")
    assert answer.verdict == "converged"
    assert [(fact.name, fact.value) for fact in answer.facts] == [("edge edge-a", "active with 2 backends")]
    for instance, node in (("i-0001", "node-a"), ("i-0002", "node-b")):
        await world.story.status(instance, node, "unready", "healthcheck_failed", "timeout")
    answer = await world.explain("prod/site/route/site")
    assert (answer.verdict, answer.differences[0].code) == ("failing", "no_backends")


async def test_a_secret_tells_its_version_and_never_a_value() -> None:
    world = World()
    await world.story.site()
    spec = {"version_id": "sv-123456", "keys": ["API_KEY"], "blob": "d" * 40}
    await world.story.declare(KEYS, spec, "apps/keys.yaml", 1)
    answer = await world.explain("secret/keys")
    assert answer.verdict == "converged"
    assert answer.desired is not None
    assert answer.desired.summary == ("version sv-123456 with API_KEY",)


async def test_a_commit_leads_to_what_it_did() -> None:
    world = World()
    await world.story.site()
    await world.story.refused(BAD, "More")
    applied = await world.explain(GOOD[:7])
    assert [fact.value for fact in applied.facts][2] == "prod/app/site (apps/site.yaml:3)"
    assert {"release.created", "deployment.created", "instance.allocated"} <= {step.type for step in applied.history}
    refused = await world.explain(f"main@{BAD[:7]}")
    assert refused.verdict == "refused"
    assert refused.differences[0].details == ("apps/site.yaml:9:5 unknown field 'replicsa' - write replicas",)


async def test_a_name_that_means_several_things_lists_them() -> None:
    world = World()
    await world.story.site()
    answer = await world.explain("site")
    assert (answer.subject.id, [each.id for each in answer.see_also]) == (SITE, [ROUTE])
    await world.story.declare(SITE.replace("prod", "test"), app_spec(), "test/site.yaml", 3)
    ambiguous = await world.answer("site")
    assert isinstance(ambiguous, Ambiguous)
    assert [each.label for each in ambiguous.candidates] == [
        "prod/app/site", "test/app/site", "prod/site/route/site",
    ]  # fmt: skip
    assert (await world.explain("prod/site")).subject.id == SITE
    assert (await world.explain("test/app/site")).subject.id != SITE


@pytest.mark.parametrize(
    "text", ["nope", "app/nope", "prod/site/volume/site", "i-", "aaa", "a/b/c/d/e/f/g/h", "../..", "%"]
)
async def test_what_never_was_is_said_to_be_unknown(text: str) -> None:
    world = World()
    await world.story.site()
    assert isinstance(await world.answer(text), NothingFound)


@pytest.mark.parametrize("name", [SITE, ROUTE, DATA, PROD, "node-a", "i-0001", GOOD])
async def test_every_answer_survives_the_wire(name: str) -> None:
    world = World()
    await world.story.site()
    answer = await world.explain(name)
    assert from_json(Explanation, to_json(answer)) == answer


async def test_an_event_that_is_not_understood_is_still_told() -> None:
    world = World()
    await world.story.site()
    told = step(Event(1, "", "app", SITE, 1, "app.frobbed", 9, "c", git(), {}))
    assert told.what == f"app.frobbed of {SITE}"
    told = step(Event(1, "", "instance", "i-1", 1, "instance.allocated", 9, "c", git(), {"other": 1}))
    assert told.what == "instance.allocated of i-1"


async def test_a_route_of_an_app_that_is_gone() -> None:
    world = World()
    await world.story.begin()
    await world.story.declare(ROUTE, ROUTE_SPEC, "apps/site.yaml", 30)
    assert (await world.explain("route/site")).differences[0].code == "app_missing"


async def revision_event(world: World, commit: str, what: str, told: Mapping[str, Any], cause_commit: str = "") -> None:
    payload = {"source_id": "main", "commit": commit, **told}
    await world.story.event("revision", f"main@{commit}", what, payload, git(cause_commit or commit, BEN))


async def test_a_commit_that_failed_says_why_and_how_to_go_back() -> None:
    world = World()
    await world.story.site()
    told = {"reason": "deployment_failed", "message": "app/site: it broke", "seconds": 61.5, "deployments": []}
    await revision_event(world, GOOD, "failed", told)
    answer = await world.explain(GOOD)
    assert (answer.verdict, answer.differences[0].code) == ("failing", "revision_failed")
    assert "app/site: it broke" in answer.differences[0].message
    assert f"git revert {GOOD[:12]}" in answer.differences[0].fix


async def test_a_commit_that_was_superseded_says_by_which_and_not_what_others_do() -> None:
    world = World()
    await world.story.site()
    await world.story.status("i-0002", "node-b", "failed", "process_exited", "panic")
    told = {"author": BEN, "subject": "More", "by": LATER, "was": "applied"}
    await revision_event(world, GOOD, "superseded", told, LATER)
    answer = await world.explain(GOOD)
    assert (answer.verdict, [each.code for each in answer.differences]) == ("superseded", ["revision_superseded"])
    assert answer.differences[0].message == f"commit {LATER[:12]} took its place; it was applied"


async def test_a_commit_that_was_only_seen_changes_nothing_yet() -> None:
    world = World()
    await world.story.site()
    about = {"base": GOOD, "author": BEN, "subject": "More (#12)", "commits": 3, "pull_request": "#12"}
    await revision_event(world, BAD, "seen", about)
    answer = await world.explain(BAD)
    assert (answer.verdict, answer.differences[0].code) == ("rolling", "revision_seen")
    assert [(each.name, each.value) for each in answer.facts] == [
        ("pull request", "#12 as its message says"),
        ("commits", "3 since what was applied, this one included"),
    ]


async def test_an_event_leads_to_its_commit_its_author_and_what_became_of_it() -> None:
    world = World()
    await world.story.site()
    number = next(each.event_id for each in world.log.events if each.event_type == "app.created")
    answer = await world.explain(f"#{number}")
    assert (answer.verdict, answer.headline) == ("recorded", "prod/app/site created")
    assert answer.desired is not None
    place = (answer.desired.commit, answer.desired.author, answer.desired.path, answer.desired.line)
    assert place == (GOOD, ADA, "apps/site.yaml", 3)
    facts = {each.name: each.value for each in answer.facts}
    assert (facts["event"], facts["became"]) == (f"app.created of {SITE}, its number 1", "applied")
    assert [each.type for each in answer.history] == ["revision.applied", "app.created"]
    assert (await world.explain(f"event/{number}")).subject == answer.subject


async def test_an_event_that_no_commit_asked_for_names_its_actor_and_what_it_answers() -> None:
    world = World()
    await world.story.site()
    first = world.log.events[1]
    cause = replace(scheduler(), commit="", source_id="", correlation_id="", causation_id=first.event_id)
    payload = {"node_id": "node-a", "state": "offline", "reason": "no heartbeat"}
    number = await world.story.event("node", "node-a", "state_changed", payload, cause)
    answer = await world.explain(f"#{number}")
    facts = {each.name: each.value for each in answer.facts}
    assert answer.desired is None and facts["actor"] == "scheduler (system)"
    assert facts["answers"].startswith(f"#{first.event_id}: node node-a enrolled")
    gone = await world.answer("#999")
    assert isinstance(gone, NothingFound) and gone.message == "there is no event #999"
