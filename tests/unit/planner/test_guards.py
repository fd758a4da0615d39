"""What no plan may do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from reconciler.core.commands import RemoveResource
from reconciler.core.findings import Finding
from reconciler.core.guards import check
from reconciler.core.trailers import read_confirmations
from tests.unit.planner.trees import ENVIRONMENT, SOURCE, app, planned, route, tree, volume


def routes(count: int) -> dict[str, str]:
    base = {"env.yaml": ENVIRONMENT, "app.yaml": app()}
    return base | {f"r{number}.yaml": route(f"r{number}", f"h{number}") for number in range(count)}


def guarded(base: Mapping[str, str], head: Mapping[str, str], *messages: str) -> tuple[Finding, ...]:
    return check(planned(base, head, *messages), tree(head), SOURCE, read_confirmations(messages))


def test_an_empty_tree_deletes_nothing() -> None:
    (finding,) = guarded(routes(3), {})
    assert finding.code == "tree_empty"
    assert guarded(routes(3), {}, "Away\n\nTrueup-Confirm-Deletions: 5")[0].code == "tree_empty"


def test_an_empty_tree_after_an_empty_tree_is_fine() -> None:
    assert guarded({}, {}) == ()


def test_many_deletions_name_their_number() -> None:
    (finding,) = guarded(routes(20), routes(9))
    assert finding.code == "too_many_deletions"
    assert "Trueup-Confirm-Deletions: 11" in finding.fix
    assert guarded(routes(20), routes(9), "Clean up\n\nTrueup-Confirm-Deletions: 11") == ()
    assert guarded(routes(20), routes(9), "Clean up\n\nTrueup-Confirm-Deletions: 10") != ()


def test_ten_deletions_or_a_fifth_need_no_number() -> None:
    assert guarded(routes(20), routes(10)) == ()
    assert guarded(routes(98), routes(78)) == ()
    assert guarded(routes(98), routes(77)) != ()


def test_a_planner_that_forgets_the_confirmation_is_stopped() -> None:
    base = {"env.yaml": ENVIRONMENT, "app.yaml": app(), "v.yaml": volume("data")}
    head = {"env.yaml": ENVIRONMENT, "app.yaml": app()}
    honest = planned(base, head)
    retained = honest.commands[0]
    assert not isinstance(retained, RemoveResource)
    identity = next(each for each in tree(base).resources if each.kind == "volume")
    broken = dataclasses.replace(honest, commands=(RemoveResource("x", retained.cause, identity),))
    (finding,) = check(broken, tree(head), SOURCE, read_confirmations([]))
    assert finding.code == "plan_unsound"


def test_a_planner_that_deletes_what_is_declared_is_stopped() -> None:
    base = {"env.yaml": ENVIRONMENT, "app.yaml": app()}
    honest = planned(base, {**base, "app.yaml": app(more="      replicas: 2\n")})
    identity = next(each for each in tree(base).resources if each.kind == "app")
    broken = dataclasses.replace(honest, commands=(RemoveResource("x", honest.commands[0].cause, identity),))
    assert [each.code for each in check(broken, tree(base), SOURCE, read_confirmations([]))] == ["plan_unsound"]
