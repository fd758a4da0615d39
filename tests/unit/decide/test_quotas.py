"""Quotas as they are counted in the append: exact, for a whole commit, refused where the commit asks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.core.commands import Append, Claim, Conflict
from reconciler.core.decide.quotas import decide_quota
from reconciler.core.events import Cause
from reconciler.core.findings import Finding
from reconciler.core.model import Resource
from reconciler.core.quota_words import parse_limits
from reconciler.core.quotas import Exceeded, usage
from reconciler.core.revisions import Refused
from reconciler.store.placement import Known, place, place_units
from tests.unit.decide.test_git import route
from tests.unit.projections.samples import CAUSE, new_event
from tests.unit.scheduler.world import MIB, ROOM_MIB, World, app, environment, process, volume

ENV = "acme/shop/prod"


def refused(world: World, *resources: Resource, remove: tuple[Resource, ...] = ()) -> Finding:
    before = dict(world.log.claims)
    result = world.try_commit(*resources, remove=[each.id for each in remove], commit="c" * 40)
    assert isinstance(result, Refused)
    (finding,) = result.findings
    assert world.log.claims == before, "nothing of it is counted"
    return finding


def test_a_commit_that_asks_for_too_much_is_refused_where_it_asks() -> None:
    world = World()
    world.commit(environment(volumes=2, volume_bytes=2 << 30))
    world.commit(volume("a"))
    finding = refused(world, volume("b"), replace(volume("c"), origin=replace(volume().origin, path="c.yaml", line=7)))
    assert (finding.code, finding.path, finding.line) == ("quota_exceeded", "c.yaml", 7)
    assert finding.message == (
        "the environment acme/shop/prod may have volume_bytes 2147483648: 2147483648 are used, "
        "this asks for 1073741824 more"
    )
    world.commit(volume("b"))


def test_what_one_part_of_a_commit_gives_back_another_may_use_whichever_comes_first() -> None:
    world = World()
    world.commit(environment(routes=1), route("one.example", "one"))
    assert refused(world, route("two.example", "two")).code == "quota_exceeded"
    world.commit(route("two.example", "two"), remove=[route("one.example", "one").id])
    world.commit(environment(routes=2), route("three.example", "three"))
    assert refused(world, environment(routes=1), route("four.example", "four")).code == "quota_exceeded"


def test_a_limit_below_what_is_used_takes_nothing_away_and_lets_nothing_grow() -> None:
    world = World()
    world.commit(app(web=process(replicas=5)))
    world.commit(environment(instances=2))
    assert refused(world, app(web=process(replicas=6))).message == (
        "the environment acme/shop/prod may have instances 2: 5 are declared, this asks for 1 more"
    )
    world.commit(app(web=process(replicas=4)))
    world.commit(app(web=process("v2", replicas=4)))
    world.commit(app("new", web=process(replicas=1)), app(web=process(replicas=3)))
    assert "asks for 1 more" in refused(world, app("new", web=process(replicas=2))).message
    world.commit(environment())
    world.commit(app(web=process(replicas=6)))


def test_what_an_app_declares_is_counted_apart_from_what_runs() -> None:
    world = World()
    world.node("node-a")
    taken, declared = 2 * ROOM_MIB * MIB, 2 * 64 * MIB
    world.commit(environment(instances=2, memory_bytes=taken))
    world.commit(app(web=process(replicas=2)))
    world.settle()
    assert world.log.claims["quota", ENV] == (
        f"instances=2 memory_bytes={taken} | "
        f"declared_instances=2 declared_memory_bytes={declared} instances=2 memory_bytes={taken}"
    ), "what runs with its machines, what is declared as it is written"
    finding = refused(world, app(web=process(replicas=2, memory_mib=ROOM_MIB + 1)))
    more = 2 * (ROOM_MIB + 1) * MIB - declared
    assert f"{declared} are declared, this asks for {more} more" in finding.message


def test_a_project_and_an_organisation_limit_all_that_is_below_them() -> None:
    world = World()
    world.append([decided(decide_quota(None, "acme", {"volumes": 1}, CAUSE))])
    world.commit(volume("a"))
    assert "the organisation acme may have volumes 1" in refused(world, volume("b")).message
    world.append([decided(decide_quota(world.views["quotas"]["acme"], "acme", {}, CAUSE))])
    world.append([decided(decide_quota(None, "acme/shop", {"volumes": 2}, CAUSE))])
    world.commit(volume("b"))
    assert "the project acme/shop may have volumes 2" in refused(world, volume("c")).message
    assert decide_quota(world.views["quotas"]["acme/shop"], "acme/shop", {"volumes": 2}, CAUSE) is None
    assert decide_quota(None, "acme/else", {}, CAUSE) is None
    assert usage(world.views) == [{"scope": "acme/shop", "dimension": "volumes", "limit": 2, "used": 2}]


def decided(append: Append | None) -> Append:
    assert append is not None
    return append


def use(number: int, amount: int = 1) -> Append:
    event = new_event("node.state_changed", node_id=f"n{number}-{amount}")
    claim = Claim("use", f"h{number}", f"{ENV} instances={amount}")
    return Append(f"c-{number}-{amount}", "h", Cause("user", "ann", "acme"), (event,), {}, take=(claim,))


def limited(limit: int) -> Known:
    return Known("log", 0, claims={("quota", "acme"): f"instances={limit} | "})


def test_commands_of_one_batch_that_are_their_own_are_judged_one_by_one() -> None:
    known = limited(2)
    placement = place([use(1), use(2), use(3), use(1, 2)], known)
    over = [result.command_id for result in placement.conflicts]
    assert over == ["c-3-1", "c-1-2"], "taking more of one's own is asking for more"
    assert isinstance(placement.results[2], Conflict)
    assert placement.results[2] == Conflict("c-3-1", "quota", "acme:instances", "1", "2 of 2")
    assert known.claims["quota", "acme"] == "instances=2 | instances=2"
    again = place([use(1)], known)
    assert again.conflicts == [], "a duplicate counts once"
    assert known.claims["quota", ENV] == " | instances=2"


def test_two_batches_in_one_transaction_cannot_go_over_together() -> None:
    placement, answers = place_units([([use(1), use(2)], True), ([use(3), use(4)], True)], limited(3))
    assert [isinstance(each, Conflict) for each in answers[0] + answers[1]] == [False, False, True, True]
    assert placement.claims["quota", "acme"][0] == "instances=3 | instances=2"
    assert ("use", "h3") not in placement.claims


def test_a_command_that_was_refused_counts_for_no_other_of_the_transaction() -> None:
    _, answers = place_units([([use(1, 5)], True), ([use(2, 2)], True)], limited(2))
    assert [isinstance(result, Conflict) for (result,) in answers] == [True, False]


def test_giving_back_twice_counts_once() -> None:
    known = limited(3)
    place([use(1), use(2)], known)
    for number in range(2):
        back = replace(use(1), command_id=f"back-{number}", take=(), free=use(1).take)
        assert place([back], known).conflicts == []
    assert known.claims["quota", "acme"] == "instances=3 | instances=1"


def test_a_conflict_says_all_that_is_needed() -> None:
    said = Exceeded("acme/shop", "declared_instances", 10, 8, 4)
    assert Exceeded.of(said.conflict("c")) == said
    assert said.sentence == "the project acme/shop may have instances 10: 8 are declared, this asks for 4 more"


def test_limits_as_people_write_them() -> None:
    assert parse_limits("instances=10, memory=64Gi volumeSize=1Ti") == {
        "instances": 10,
        "memory_bytes": 64 << 30,
        "volume_bytes": 1 << 40,
    }
    assert parse_limits("") == {}
    for text in ("cpu=3", "instances", "memory=64", "instances=-1", "instances=1Gi"):
        with pytest.raises(ValueError, match=text.partition("=")[0]):
            parse_limits(text)
