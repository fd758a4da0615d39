"""A line of the stream says what the event says, whatever is in it."""

from __future__ import annotations

import json

import pytest

from kit.codec import to_json
from reconciler.core.events import Event
from reconciler.server.ring import change_line
from tests.twin import SYSTEM


@pytest.mark.parametrize("value", [1 << 80, -(1 << 70), 1.5, "ö\u2028\n\\", None, [], {"a": [1, {"b": "c"}]}])
def test_every_value_comes_through(value: object) -> None:
    event = Event(7, "2026-01-01T00:00:00.000Z", "node", "n", 1, "node.enrolled", 1, "c", SYSTEM, {"value": value})
    line = change_line("log-1", event)
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"type": "change", "cursor": "log-1.7", "event": to_json(event)}
