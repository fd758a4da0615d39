"""P5: a log that holds every version of every event ever written decodes and folds for ever, to the same views.

schemas/golden/log/events.jsonl is only ever added to, at its end; views.json is what it folds to. After adding events
of a new type or version: TRUEUP_WRITE_GOLDEN=1 pytest tests/unit/projections/test_golden_log.py; read the difference.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from typing import Any

import pytest

from kit.codec import from_json
from reconciler.core.events import Event
from reconciler.core.folding import Folding
from reconciler.core.projection import Projection, cares_about
from reconciler.core.replay import replay
from reconciler.core.upcasts import Upcasts, current
from reconciler.core.views import PROJECTIONS
from reconciler.store import stored_event
from reconciler.store.event_schema_files import load_event_schemas
from reconciler.store.stored_event import PLACE_NAMES, REST_NAMES, StoredEvent, payload_of

FOLDER = resources.files("schemas") / "golden" / "log"
LINES = (FOLDER / "events.jsonl").read_text().splitlines()
WRITTEN = [from_json(Event, json.loads(line)) for line in LINES]
EVENTS = [current(event) for event in WRITTEN]
"""As the store reads them: in the words of today."""


def test_P5_every_event_version_ever_written_is_in_the_golden_log() -> None:
    written = {(event.event_type, event.event_version) for event in WRITTEN}
    assert set(load_event_schemas()) <= written, "add the new events at the end of schemas/golden/log/events.jsonl"
    assert [event.event_id for event in EVENTS] == list(range(1, len(EVENTS) + 1))


def test_P5_the_golden_log_folds_to_the_golden_views() -> None:
    views = json.dumps(replay(EVENTS), indent=1, sort_keys=True) + "\n"
    path = FOLDER / "views.json"
    if os.environ.get("TRUEUP_WRITE_GOLDEN"):
        path.write_text(views)  # type: ignore[attr-defined]  # a folder of the source tree
    assert views == path.read_text()


@pytest.mark.parametrize("projection", PROJECTIONS.values(), ids=PROJECTIONS)
def test_P5_no_event_of_the_golden_log_is_poison(projection: Projection) -> None:
    folding = Folding(projection)
    for event in EVENTS:
        folding.fold(event)
    assert folding.failures == {}


@pytest.mark.parametrize("projection", PROJECTIONS.values(), ids=PROJECTIONS)
def test_a_projection_is_asked_about_every_event_that_it_cares_about(projection: Projection) -> None:
    for event in EVENTS:
        assert cares_about(projection, event.aggregate_type) or not projection.keys(event), event.event_type


def test_an_event_as_a_rebuild_reads_it_says_the_same_as_any_other() -> None:
    for event in WRITTEN:
        stored = StoredEvent(*_row(event), payload_of(json.dumps(event.payload)), 1)
        for field in Event.__dataclass_fields__:
            assert getattr(stored, field) == getattr(current(event), field), field


def test_P5_a_rebuild_reads_an_old_version_in_the_words_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {("node.enrolled", 1): lambda payload: {**payload, "zone": ""}}
    monkeypatch.setattr(stored_event, "UPCASTS", Upcasts(steps))
    event = next(event for event in WRITTEN if event.event_type == "node.enrolled")
    stored = StoredEvent(*_row(event), event.payload, 1)
    assert (stored.event_version, stored.payload["zone"]) == (2, "")


def test_numbers_are_decoded_as_exactly_as_json_does() -> None:
    text = '{"a": 18446744073709551616, "b": 1.0, "c": 1e22, "d": -0.5, "e": 9007199254740993, "f": 1e400}'
    for part in (text, text.replace(', "f": 1e400', "")):
        assert repr(payload_of(part)) == repr(json.loads(part))


def _row(event: Event) -> tuple[list[Any], list[Any]]:
    values = {"commit_id": event.cause.commit}
    for name in (*PLACE_NAMES, *REST_NAMES):
        for holder in (event, event.cause):
            if hasattr(holder, name):
                values[name] = getattr(holder, name)
    return [values[name] for name in PLACE_NAMES], [values[name] for name in REST_NAMES]
