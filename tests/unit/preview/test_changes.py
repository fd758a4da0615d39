"""Resources field by field, moves, retained ones and their confirmations, and what refuses the commit."""

from __future__ import annotations

import dataclasses

from kit.codec import to_json
from kit.wire import Port
from reconciler.core.cross_checks import Tree
from reconciler.core.guards import check
from reconciler.core.model import Origin, Resource, ResourceId, RouteSpec, VolumeUse
from reconciler.core.planner import plan
from reconciler.core.preview import Asked, PlanDocument, preview, wording
from reconciler.core.revisions import CommitInfo
from reconciler.core.trailers import NOTHING_CONFIRMED
from tests.unit.preview.plans import MAIN, declared, planned, strings
from tests.unit.scheduler.world import ENV, ORG, PROJECT, World, app, environment, process, secret, volume, web_port


def route(host: str, name: str = "r", owner: str = "site") -> Resource:
    spec = to_json(RouteSpec(host, "web", 8080))
    return Resource(ResourceId(ORG, PROJECT, ENV, owner, "route", name), spec, Origin("routes.yaml", 1))


def fleet() -> World:
    world = World()
    world.node("node-a")
    return world


def fields(document: PlanDocument) -> list[str]:
    return [wording.field_text(field) for change in document.changes for field in change.fields]


def test_an_update_is_told_field_by_field() -> None:
    world = fleet()
    before = process("0" * 64, ports=web_port(), environment={"LEVEL": "info", "OLD": "1"}, secrets=("keys",))
    world.commit(secret("1"), app(web=before))
    after = dataclasses.replace(
        before,
        image=f"registry/app@sha256:{'1' * 64}",
        memory_bytes=128 << 20,
        ports=(Port("metrics", 9090), Port("http", 8081)),
        environment={"LEVEL": "debug", "NEW": ""},
        secrets=("keys", "more"),
    )
    assert fields(planned(world, secret("1", "more"), app(web=after))) == [
        "spec.processes.web.environment.LEVEL: info -> debug",
        'spec.processes.web.environment.NEW: none -> ""',
        "spec.processes.web.environment.OLD: 1 -> none",
        f"spec.processes.web.image: registry/app@sha256:{'0' * 12} -> registry/app@sha256:{'1' * 12}",
        "spec.processes.web.memory_bytes: 64 MiB -> 128 MiB",
        "spec.processes.web.ports.http.port: 8080 -> 8081",
        'spec.processes.web.ports.metrics: none -> {"name": "metrics", "port": 9090}',
        "spec.processes.web.secrets: +more",
    ]


def test_volumes_are_compared_by_their_names() -> None:
    world = fleet()
    world.commit(volume("a"), volume("b"), app(web=process("v1", volumes=(VolumeUse("a", "/a"), VolumeUse("b", "/b")))))
    after = app(web=process("v1", volumes=(VolumeUse("b", "/c"), VolumeUse("a", "/a"))))
    assert fields(planned(world, after)) == ["spec.processes.web.volumes.b.path: /b -> /c"]


def test_of_a_secret_only_version_and_names_of_keys_are_told() -> None:
    world = fleet()
    world.commit(secret("sv-1"), app(web=process("v1", secrets=("keys",))))
    after = secret("sv-2")
    after = dataclasses.replace(after, spec={**after.spec, "keys": ["B"], "blob": "f" * 40})
    document = planned(world, after)
    assert fields(document) == ["spec.keys: +B -A", "spec.version_id: sv-1 -> sv-2"]
    assert not [text for text in strings(to_json(document)) if "f" * 40 in text or "b" * 40 in text]


def test_a_move_names_both_places() -> None:
    world = fleet()
    world.commit(app(web=process("v1")))
    world.settle()
    after = app(web=process("v1"))
    after = dataclasses.replace(after, origin=dataclasses.replace(after.origin, path="elsewhere.yaml", line=7))
    document = planned(world, after)
    (change,) = document.changes
    assert (change.verb, wording.change_text(change)) == ("move", "elsewhere.yaml:7 (was apps/site.yaml:1)")
    assert document.roll_outs == ()
    assert document.summary == "1 moved"


def test_what_is_retained_names_the_line_that_confirms_it() -> None:
    world = fleet()
    world.commit(volume(), app(web=process("v1")))
    document = planned(world, remove=[volume().id])
    assert [each.line for each in document.confirmations] == ["Trueup-Confirm-Delete: prod/site/volume/data"]
    assert document.ok
    assert [change.verb for change in document.changes] == ["retain"]
    assert [finding.code for finding in document.findings] == ["volume_retained"]
    confirmed = planned(world, remove=[volume().id], message=f"x\n\n{document.confirmations[0].line}")
    assert [(change.verb, change.note) for change in confirmed.changes] == [("delete", "it holds no data yet")]
    assert confirmed.confirmations == ()


def test_a_volume_that_goes_says_where_its_data_is_lost() -> None:
    world = fleet()
    world.commit(volume(), app(web=process("v1", volumes=(VolumeUse("data", "/d"),))))
    world.settle()
    document = planned(
        world,
        app(web=process("v1")),
        remove=[volume().id],
        message="x\n\nTrueup-Confirm-Delete: prod/site/volume/data",
    )
    (change,) = [each for each in document.changes if each.verb == "delete"]
    assert change.note == "its data on node-a is deleted for good"


def test_a_hostname_of_another_source_refuses_the_commit() -> None:
    world = fleet()
    theirs = route("a.example.test", owner="theirs")
    assert world.try_commit(app("theirs", web=process("v1")), theirs, commit="d" * 40, source="other") is None
    document = planned(world, app(web=process("v1")), route("a.example.test"))
    assert not document.ok
    assert [finding.code for finding in document.findings] == ["hostname_taken"]
    assert document.summary == "refused: 1 error"
    assert document.roll_outs == ()
    assert planned(world, app(web=process("v1")), route("b.example.test")).ok


def test_a_quota_refuses_the_commit_at_the_line_that_asks_for_too_much() -> None:
    world = fleet()
    world.commit(environment(volumes=2), volume("a"), volume("b"))
    (finding,) = planned(world, volume("c")).findings
    assert (finding.code, finding.path, finding.severity) == ("quota_exceeded", "volumes/c.yaml", "error")
    assert "may have volumes 2: 2 are used, this asks for 1 more" in finding.message
    assert not [
        each for each in planned(world, environment(volumes=3), volume("c")).findings if each.severity == "error"
    ]


def test_a_resource_of_another_source_refuses_the_commit() -> None:
    world = fleet()
    assert world.try_commit(app(web=process("v1")), commit="d" * 40, source="other") is None
    document = planned(world, app(web=process("v2")))
    assert [finding.code for finding in document.findings] == ["resource_owned"]


def test_two_routes_that_swap_hostnames_are_no_conflict() -> None:
    world = fleet()
    one, two = route("a.example.test", "one"), route("b.example.test", "two")
    world.commit(app(web=process("v1")), one, two)
    document = planned(world, route("b.example.test", "one"), route("a.example.test", "two"))
    assert document.ok, document.findings
    assert {(each.hostname, each.verb) for each in document.routes} == {
        ("a.example.test", "update"),
        ("b.example.test", "update"),
    }


def test_routes_tell_what_happens_behind_them() -> None:
    world = fleet()
    db = process("v1", volumes=(VolumeUse("data", "/d"),))
    world.commit(volume(), app(web=db), route("a.example.test"), route("old.example.test", "old"))
    world.settle()
    document = planned(
        world,
        app(web=dataclasses.replace(db, memory_bytes=96 << 20)),
        remove=[ResourceId(ORG, PROJECT, ENV, "site", "route", "old")],
    )
    assert {(each.hostname, each.verb, each.message) for each in document.routes} == {
        ("a.example.test", "backends", "no replica serves for at most 130 s (step 1 to 2)"),
        ("old.example.test", "delete", "nothing answers there any more"),
    }


def test_many_deletions_name_their_line_and_change_nothing() -> None:
    world = fleet()
    world.commit(*(app(f"a{number}", web=process("v1")) for number in range(15)))
    gone = [each for each in declared(world) if each.name != "a0"]
    after = Tree({key: each for key, each in declared(world).items() if key not in gone})
    info = CommitInfo("c" * 40, "ann", "remove")
    made = plan(Tree(declared(world)), after, source=MAIN, info=info, base_commit="b" * 40)
    refused = check(made, after, MAIN, NOTHING_CONFIRMED)
    document = preview(world.views, world.log.last_event_id, Asked(MAIN, info, "b" * 40, made, refused), "live")
    assert not document.ok
    assert [each.line for each in document.confirmations] == ["Trueup-Confirm-Deletions: 14"]
    assert len(document.changes) == 14
    assert document.roll_outs == ()


def test_what_is_true_already_is_no_change() -> None:
    """A pull request that was branched off before the same change was merged."""
    world = fleet()
    old, new = app(web=process("v1")), app(web=process("v2"))
    base = world.commit(old)
    applied = world.commit(new)
    info = CommitInfo("c" * 40, "ann", "the same")
    made = plan(Tree({old.id: old}), Tree({new.id: new}), source=MAIN, info=info, base_commit=base)
    asked = Asked(MAIN, info, base, made, (), applied)
    document = preview(world.views, world.log.last_event_id, asked, "live")
    assert document.changes == ()
    assert document.notes[0] == "1 change of the commit is true already."
    assert "which is applied, has beyond that stays" in document.notes[1]
