"""What a commit makes: events, claims and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.commands import (
    Append,
    Claim,
    Conflict,
    DeclareResource,
    GitCommand,
    RemoveResource,
    RetainResource,
)
from reconciler.core.decide.git import GitState, claim_refusal, decide_refused, decide_revision
from reconciler.core.events import Cause
from reconciler.core.findings import Finding
from reconciler.core.model import Origin, Resource, ResourceId
from reconciler.core.revisions import Refused, RevisionApplied, RevisionRefused
from tests.unit.scheduler.world import ENV, ORG, PROJECT, SOURCE, World, app, app_id, process, secret, volume

COMMIT = "c" * 40


def route(hostname: str = "shop.example", name: str = "web", *, port: int = 443, raw: bool = False) -> Resource:
    spec = {
        "hostname": hostname,
        "process": "web",
        "port": 8080,
        "listen_port": port,
        "protocol": "tcp_raw" if raw else "tls_passthrough",
        "proxy_protocol": "off",
    }
    identity = ResourceId(ORG, PROJECT, ENV, "site", "route", name)
    return Resource(identity, spec, Origin(f"routes/{name}.yaml", 4))


def state_of(world: World) -> GitState:
    return GitState(
        world.views["resources"],
        world.views["releases"],
        world.views["deployments"],
        source=world.views["sources"][SOURCE],
    )


def decide(
    world: World, *resources: Resource, remove: tuple[ResourceId, ...] = (), **more: Any
) -> tuple[Append, ...] | Refused:
    cause = Cause("user", "ann", ORG, SOURCE, COMMIT)
    commands: list[GitCommand] = [
        DeclareResource(str(each.id), replace(cause, path=each.origin.path, line=each.origin.line), each)
        for each in resources
    ]
    commands += [RemoveResource(f"remove {each}", cause, each) for each in remove]
    commands += more.get("commands", [])
    revision = RevisionApplied("revision", cause, SOURCE, COMMIT, "", "ann", "subject")
    return decide_revision(state_of(world), revision, commands)


def event_types(decision: tuple[Append, ...] | Refused) -> list[str]:
    assert not isinstance(decision, Refused), decision
    return [event.event_type for append in decision for event in append.events]


def test_the_revision_comes_first_and_an_app_brings_its_release_and_deployment() -> None:
    decision = decide(World(), app(web=process(replicas=3)))
    assert event_types(decision) == ["revision.applied", "app.created", "release.created", "deployment.created"]
    assert isinstance(decision, tuple)
    created, release, deployment = decision[1].events
    assert created.payload["spec"]["processes"]["web"]["replicas"] == 3
    assert "replicas" not in release.payload["spec"]["processes"]["web"]
    assert release.payload["number"] == 1
    assert deployment.payload["release_id"] == release.payload["release_id"]
    assert (deployment.payload["kind"], deployment.payload["reason"]) == ("deploy", "commit")
    assert decision[1].cause.path == "apps/site.yaml"
    once = {("revision", f"{SOURCE}@{COMMIT}"): 0, ("suspension", f"source/{SOURCE}"): 0}
    assert decision[0].expected == once, "a revision is applied once, and not past a suspension"
    assert decision[1].expected == {
        ("app", str(app_id())): 0,
        ("release", release.aggregate_id): 0,
        ("deployment", deployment.aggregate_id): 0,
    }


def test_a_declaration_that_says_nothing_new_makes_no_event() -> None:
    world = World()
    world.commit(app(web=process()), secret("1"), volume())
    assert event_types(decide(world, app(web=process()), secret("1"), volume())) == ["revision.applied"]


def test_another_line_is_a_move() -> None:
    world = World()
    world.commit(volume())
    moved = replace(volume(), origin=Origin("elsewhere.yaml", 9))
    assert event_types(decide(world, moved)) == ["revision.applied", "volume.moved"]


def test_replicas_alone_make_no_release() -> None:
    world = World()
    world.commit(app(web=process(replicas=1)))
    assert event_types(decide(world, app(web=process(replicas=2)))) == ["revision.applied", "app.updated"]


def test_returning_to_an_earlier_specification_is_a_rollback_to_its_release() -> None:
    world = World()
    world.commit(app(web=process("v1")))
    world.commit(app(web=process("v2")))
    decision = decide(world, app(web=process("v1")))
    assert event_types(decision) == ["revision.applied", "app.updated", "deployment.created"]
    assert isinstance(decision, tuple)
    assert decision[1].events[1].payload["kind"] == "rollback"


def test_a_secret_version_rolls_its_apps_once_and_not_those_that_roll_anyway() -> None:
    world = World()
    uses = process(secrets=("keys", "more"))
    world.commit(secret("1"), secret("1", "more"), app(web=uses), app("other", web=process()))
    both = decide(world, secret("2"), secret("2", "more"))
    assert event_types(both) == ["revision.applied", "secret.updated", "deployment.created", "secret.updated"]
    assert isinstance(both, tuple)
    assert both[1].events[1].payload["reason"] == "secret"
    assert both[1].cause.path == "secrets/keys.yaml"
    with_app = decide(world, secret("2"), app(web=replace(uses, image="registry/app@sha256:v9")))
    assert event_types(with_app) == [
        "revision.applied",
        "secret.updated",
        "app.updated",
        "release.created",
        "deployment.created",
    ]


def test_the_same_values_encrypted_anew_roll_nothing() -> None:
    world = World()
    world.commit(secret("1"), app(web=process(secrets=("keys",))))
    again = replace(secret("1"), spec={**secret("1").spec, "blob": "c" * 40})
    assert event_types(decide(world, again)) == ["revision.applied", "secret.updated"]


def test_a_removed_volume_tells_its_home() -> None:
    world = World()
    world.commit(volume())
    world.views["resources"][str(volume().id)]["home_node"] = "node-a"
    decision = decide(world, remove=(volume().id,))
    assert isinstance(decision, tuple)
    assert decision[1].events[0].payload == {"resource_id": str(volume().id), "node_id": "node-a"}
    used = Claim("use", str(volume().id), "acme/shop/prod volume_bytes=1073741824 volumes=1")
    assert decision[0].free == (Claim("resource", str(volume().id), SOURCE), used)


def test_removing_what_is_gone_and_retaining_twice_say_nothing() -> None:
    world = World()
    world.commit(volume())
    cause = Cause("user", "ann", ORG, SOURCE, COMMIT)
    retain = RetainResource("retain", cause, volume().id, "no confirmation")
    assert event_types(decide(world, commands=[retain])) == ["revision.applied", "volume.retained"]
    world.views["resources"][str(volume().id)]["retained"] = "no confirmation"
    assert event_types(decide(world, commands=[retain])) == ["revision.applied"]
    assert event_types(decide(world, volume())) == ["revision.applied", "volume.updated"], "declared anew: kept no more"
    assert event_types(decide(world, remove=(secret("1").id,))) == ["revision.applied"]


def test_two_routes_can_swap_their_hostnames_in_one_commit() -> None:
    world = World()
    world.commit(route("a.example", "one"), route("b.example", "two"))
    world.commit(route("b.example", "one"), route("a.example", "two"))
    assert world.log.claims["hostname", "a.example:443"].endswith("route/two")
    assert world.log.claims["hostname", "b.example:443"].endswith("route/one")


def test_a_removed_route_frees_its_hostname_for_another_in_the_same_commit() -> None:
    world = World()
    world.commit(route("a.example", "one"))
    world.commit(route("a.example", "two"), remove=[route(name="one").id])
    assert world.log.claims["hostname", "a.example:443"].endswith("route/two")


def test_a_resource_belongs_to_the_source_that_made_it() -> None:
    world = World()
    world.commit(volume())
    refused = world.try_commit(volume(), commit=COMMIT, source="other")
    assert isinstance(refused, Refused)
    (finding,) = refused.findings
    assert (finding.code, finding.path) == ("resource_owned", "volumes/data.yaml")
    assert "source main" in finding.message
    assert world.try_commit(remove=[volume().id], commit=COMMIT, source="other") is None
    assert str(volume().id) in world.views["resources"], "what another source removes is not its own"


def test_a_source_that_takes_over_gets_what_it_declares_and_nothing_restarts() -> None:
    world = World()
    world.commit(app(), volume(), route())
    before = dict(world.views["resources"])
    assert isinstance(world.try_commit(app(), commit=COMMIT, source="other", takes_over=("third",)), Refused)
    assert world.try_commit(app(), commit=COMMIT, source="other", takes_over=("main",)) is None
    rows = world.views["resources"]
    assert rows[str(app().id)]["origin"]["source_id"] == "other"
    assert rows[str(app().id)]["deployment_id"] == before[str(app().id)]["deployment_id"]
    assert rows[str(volume().id)] == before[str(volume().id)], "what it does not declare stays with the other"
    assert world.try_commit(remove=[app().id, volume().id], commit="d" * 40, source=SOURCE) is None
    assert str(app().id) in world.views["resources"], "the former owner's removal is not its own any more"
    assert str(volume().id) not in world.views["resources"]
    assert isinstance(world.try_commit(app(), commit="e" * 40, source=SOURCE), Refused), "nor can it change it"


def test_what_is_taken_over_and_changed_at_once_is_both() -> None:
    world = World()
    world.commit(route())
    assert world.try_commit(route("new.example"), commit=COMMIT, source="other", takes_over=("main",)) is None
    row = world.views["resources"][str(route().id)]
    assert (row["origin"]["source_id"], row["spec"]["hostname"]) == ("other", "new.example")
    assert row["aggregate_seq"] == 3, "created, moved, updated"


def test_a_claim_of_somebody_else_is_told_to_the_author() -> None:
    decision = decide(World(), route("taken.example"))
    assert isinstance(decision, tuple)
    owner = "acme/blog/prod/blog/route/web"
    conflict = Conflict(decision[1].command_id, "claim", "hostname:taken.example:443", "x", owner)
    refused = claim_refusal(conflict, decision)
    wanted = Finding(
        "routes/web.yaml",
        4,
        0,
        "",
        "hostname_taken",
        f"taken.example:443 belongs to {owner}",
        "choose another hostname or listen port",
    )
    assert refused == Refused((wanted,), {str(app_id()): (wanted,)}), "it is the route's app that cannot have it"
    assert claim_refusal(replace(conflict, kind="version"), decision) is None


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_raw_route_shares_its_port_with_none(first: bool, second: bool) -> None:
    world = World()
    world.commit(route("a.example", "one", port=5432, raw=first))
    decision = decide(world, route("b.example", "two", port=5432, raw=second))
    assert isinstance(decision, Refused)
    assert decision.findings[0].code == "listen_port_taken"


def test_the_same_commit_applied_again_after_a_rewrite_is_another_act() -> None:
    world = World()
    first = world.commit(app(web=process("v1")))
    world.commit(app(web=process("v2")))
    before = dict(world.views["deployments"])
    world.commit(app(web=process("v1")), commit=first)
    assert len(set(world.views["deployments"]) - set(before)) == 1
    assert world.app_row()["spec"]["processes"]["web"]["image"].endswith("v1")


def test_a_refusal_of_the_applied_commit_is_not_recorded() -> None:
    world = World()
    commit = world.commit(volume())
    cause = Cause("user", "ann", ORG, SOURCE, commit)
    refusal = RevisionRefused("refuse", cause, SOURCE, commit, "", "ann", "s", ())
    assert decide_refused(state_of(world), refusal) is None
    other = replace(refusal, commit=COMMIT)
    append = decide_refused(state_of(world), other)
    assert append is not None and append.events[0].event_type == "revision.refused"
