"""Events are for ever: what was ever written decodes, fits its schema and folds, and no schema changes in place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import schemas
from kit.codec import from_json
from kit.errors import Bug
from reconciler.core.event_schemas import EventSchemas
from reconciler.core.events import Event, NewEvent
from reconciler.core.explain_history import sentence
from reconciler.core.past import Past
from reconciler.core.upcasts import UPCASTS, Upcasts, current
from reconciler.store.event_schema_files import load_event_schemas

ROOT = Path(schemas.__file__).parent
GOLDEN = ROOT / "golden" / "events"
DOCUMENTS = load_event_schemas()
SCHEMAS = EventSchemas(DOCUMENTS)
OF_A_COMMIT = ("seen", "validated", "planned", "refused", "superseded", "applied", "failed", "converged")
BEGINNINGS = ("seen", "created", "allocated", "enrolled", "registered", "applied")


def golden(event_type: str, version: int) -> Event:
    return from_json(Event, json.loads((GOLDEN / f"{event_type}.v{version}.json").read_text()))


def as_new(event: Event) -> NewEvent:
    return NewEvent(
        event.aggregate_type, event.aggregate_id, event.event_type, event.payload, event_version=event.event_version
    )


def test_every_version_of_every_event_has_a_golden_file_and_no_other_is_there() -> None:
    assert {path.name for path in GOLDEN.glob("*.json")} == {f"{name}.v{version}.json" for name, version in DOCUMENTS}


@pytest.mark.parametrize(("event_type", "version"), sorted(DOCUMENTS))
def test_a_golden_event_decodes_fits_its_schema_and_can_be_told(event_type: str, version: int) -> None:
    event = golden(event_type, version)
    assert (event.event_type, event.event_version) == (event_type, version)
    SCHEMAS.check(as_new(event))
    today = current(event)
    SCHEMAS.check(as_new(today))
    assert not sentence(today).startswith(f"{event_type} of "), "give it a sentence in explain_history"


@pytest.mark.parametrize("pick", [min, max], ids=["oldest", "newest"])
def test_all_golden_events_fold(pick: Callable[[list[int]], int]) -> None:
    """In an order that could have been: what begins a thing, then what happened to it, then its end. Every type once:
    the oldest version of each, then the newest."""

    def place(name: tuple[str, int]) -> tuple[int, int, str]:
        aggregate, _, what = name[0].partition(".")
        step = OF_A_COMMIT.index(what) if aggregate == "revision" else 0
        return (0 if what in BEGINNINGS or step else 2 if what == "deleted" else 1), step, name[0]

    past = Past()
    types = {name for name, _ in DOCUMENTS}
    picked = [(each, pick([version for name, version in DOCUMENTS if name == each])) for each in types]
    in_order = sorted(picked, key=place)
    lives = [name for name in in_order if not name[0].endswith(".deleted")]
    past.fold(current(golden(*name)) for name in lives)
    assert [view for view, rows in past.rows.items() if not rows] == ["tombstones"]
    past.fold(current(golden(*name)) for name in in_order if name not in lives)
    assert (past.broken, past.rows["resources"], len(past.rows["tombstones"])) == ({}, {}, 1)


def test_no_schema_and_no_golden_file_was_changed_or_removed() -> None:
    """`cd schemas && sha256sum -c events.sha256` says the same. Add a line for a new file; never change one."""
    recorded = dict(line.split("  ")[::-1] for line in (ROOT / "events.sha256").read_text().splitlines())
    there = {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (ROOT / "events", GOLDEN)
        for path in folder.glob("*.json")
    }
    assert {name for name in recorded if there.get(name) != recorded[name]} == set(), "write a new version instead"
    assert set(there) == set(recorded), "add the new files to schemas/events.sha256"


def test_every_version_leads_to_the_newest() -> None:
    UPCASTS.check(DOCUMENTS)


def colour(payload: Any) -> Any:
    return {**payload, "colour": "grey"}


def named(payload: Any) -> Any:
    return {"thing": payload["name"], "colour": payload["colour"]}


STEPS = Upcasts({("test.made", 1): colour, ("test.made", 2): named})


def test_an_old_event_is_read_in_the_words_of_today() -> None:
    """With an event type of this test's own: version 2 got a colour, version 3 another name."""
    event = Event(7, "", "test", "t-1", 1, "test.made", 1, "c", golden("node.enrolled", 1).cause, {"name": "a"})
    told = current(event, STEPS)
    assert (told.event_version, told.payload) == (3, {"thing": "a", "colour": "grey"})
    assert (told.event_id, told.command_id, event.payload) == (7, "c", {"name": "a"})
    assert current(told, STEPS) is told
    other = golden("node.enrolled", 1)
    assert current(other, STEPS) is other


def test_a_version_that_leads_nowhere_is_a_bug() -> None:
    STEPS.check([("test.made", 1), ("test.made", 2), ("test.made", 3)])
    with pytest.raises(Bug, match="no step leads on"):
        Upcasts({("test.made", 1): colour}).check([("test.made", 1), ("test.made", 2), ("test.made", 3)])
    with pytest.raises(Bug, match="without a schema"):
        STEPS.check([("test.made", 1), ("test.made", 2)])
