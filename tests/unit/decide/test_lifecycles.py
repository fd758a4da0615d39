"""The transition tables: closed, reachable, drawn in docs/LIFECYCLES.md, and in force."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from kit.errors import Bug
from reconciler.core import lifecycles
from reconciler.core.lifecycle_pages import mermaid_page, rule_of, rules
from reconciler.core.lifecycles import LIFECYCLES, RELEASE, Lifecycle, allowed, release_states, require
from reconciler.store.event_schema_files import load_event_schemas
from tests.unit.projections.samples import as_log, new_event

PAGE = Path(__file__).parents[3] / "docs" / "LIFECYCLES.md"


def test_the_page_is_what_the_command_prints() -> None:
    fix = "run `trueup lifecycles --format mermaid > docs/LIFECYCLES.md`"
    assert PAGE.read_text() == mermaid_page(), fix


@pytest.mark.parametrize("lifecycle", LIFECYCLES, ids=lambda each: each.name)
def test_a_table_is_closed_and_every_state_can_be_reached(lifecycle: Lifecycle) -> None:
    table = lifecycle.table
    assert set().union(*table.values()) <= set(table), "a state without a row"
    reached, queue = set[str](), [""]
    while queue:
        state = queue.pop()
        if state not in reached:
            reached.add(state)
            queue += table[state]
    assert reached == set(table)
    assert rule_of(lifecycle)


def test_every_table_has_its_rules_and_is_shown() -> None:
    tables = {name for name in vars(lifecycles) if name.isupper() and isinstance(getattr(lifecycles, name), dict)}
    assert {name for name in tables if not name.startswith("_")} == set(rules())
    assert all(any(each.table is getattr(lifecycles, name) for each in LIFECYCLES) for name in rules())


def words(event_type: str, field: str) -> set[str]:
    return set(load_event_schemas()[event_type, 1]["properties"][field]["enum"])


def test_the_tables_know_exactly_the_states_that_events_can_tell() -> None:
    def states(table: lifecycles.Transitions) -> set[str]:
        return set(table) - {""}

    assert states(lifecycles.INSTANCE_STATUS) == words("instance.status_changed", "status")
    assert states(lifecycles.INSTANCE_DESIRED) == words("instance.desired_state_changed", "desired") | {"running"}
    assert states(lifecycles.DEPLOYMENT) == words("deployment.status_changed", "status") | {"rolling"}
    assert states(lifecycles.NODE) == words("node.state_changed", "state")
    assert states(lifecycles.ROUTE) == words("route.status_changed", "status")
    for kind, table in (
        ("snapshot", lifecycles.SNAPSHOT),
        ("backup", lifecycles.BACKUP),
        ("restore", lifecycles.RESTORE),
    ):
        assert states(table) == words(f"{kind}.status_changed", "status") | {"queued"}
    assert states(lifecycles.VOLUME) == words("volume.status_changed", "status")
    told = {name for name, _ in load_event_schemas()}
    assert {f"revision.{state}" for state in states(lifecycles.REVISION)} <= told


def test_a_fold_refuses_what_no_table_allows() -> None:
    [event] = as_log([new_event("node.state_changed")])
    require(lifecycles.NODE, "active", "offline", event)
    with pytest.raises(Bug, match="nothing leads from offline to offline") as refused:
        require(lifecycles.NODE, "offline", "offline", event)
    assert refused.value.code == "transition_invalid"
    with pytest.raises(Bug, match="nothing leads from somewhere to active"):
        require(lifecycles.NODE, "somewhere", "active", event)


def test_deployments_move_releases_only_as_the_table_says() -> None:
    """Every order of five deployments of three releases, each named rollback when the release was there before."""
    for order in itertools.product("abc", repeat=5):
        before: dict[str, str] = {}
        for count in range(1, 6):
            taken = order[:count]
            kinds = ["rollback" if release in taken[:place] else "deploy" for place, release in enumerate(taken)]
            now = release_states({"release_id": r, "kind": k} for r, k in zip(taken, kinds, strict=True))
            for release, state in now.items():
                was = before.get(release, "available")
                assert was == state or allowed(RELEASE, was, state), (taken, release)
            assert list(now.values()).count("promoted") == 1
            before = now
    assert release_states([{"release_id": "a", "kind": "deploy"}, {"release_id": "b", "kind": "deploy"}]) == {
        "a": "superseded",
        "b": "promoted",
    }
