"""What belongs together among the lines of a stream stays together."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import stream_batches
from kit.errors import Refusal
from kit.stream_batches import Batch, Batching, Changes, Snapshot


def change(number: int, command: str) -> dict[str, Any]:
    return {"type": "change", "cursor": f"log.{number}", "event": {"event_id": number, "command_id": command}}


def removal(number: int) -> dict[str, Any]:
    return {"type": "removal", "cursor": f"log.{number}", "aggregate_type": "source", "aggregate_id": "main"}


def bookmark(number: int) -> dict[str, Any]:
    return {"type": "bookmark", "cursor": f"log.{number}"}


HELLO: dict[str, Any] = {"type": "hello", "log_id": "log", "cursor": "log.7"}


def taken(lines: list[dict[str, Any]], batching: Batching | None = None) -> list[Batch]:
    batching = batching or Batching()
    return [batch for line in lines if (batch := batching.take(line)) is not None]


@given(st.lists(st.integers(1, 7), max_size=30), st.integers(1, 9), st.integers(0, 200), st.integers(0, 1 << 30))
def test_a_command_is_never_cut_in_two_wherever_the_connection_breaks(
    sizes: list[int], changes_max: int, breaks_after: int, seed: int
) -> None:
    rng, lines, ends, number = random.Random(seed), list[dict[str, Any]](), {0}, 0
    for index, size in enumerate(sizes):
        for _ in range(size):
            number += 1
            lines.append(change(number, f"c{index}"))
        ends.add(number)
        if rng.random() < 0.3:
            lines.append(bookmark(number))
    came = lines[:breaks_after]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_batches, "CHANGES_MAX", changes_max)
        batching = Batching()
        batches = taken(came, batching)
        if (left := batching.left()) is not None:
            batches.append(left)
    done = [event["event_id"] for batch in batches if isinstance(batch, Changes) for event in batch.events]
    assert done == list(range(1, len(done) + 1))
    assert len(done) in ends
    position = 0
    for batch in batches:
        assert int(batch.cursor.removeprefix("log.")) in ends
        assert isinstance(batch, Changes)
        position += len(batch.events)
        assert batch.cursor == f"log.{position}", "as far as what was handed on, and no further"
        assert len(batch.events) < changes_max + 7, "bounded, but for one command"
    changes = [line["event"]["event_id"] for line in came if line["type"] == "change"]
    if changes:
        assert len(done) >= max(end for end in ends if end < max(changes) or end == 0), "all but the last command"


def test_a_bookmark_without_changes_moves_the_cursor() -> None:
    assert taken([HELLO, bookmark(9)]) == [Changes("log.9")]


def test_who_has_no_cursor_begins_where_the_greeting_says() -> None:
    assert taken([HELLO, change(8, "c"), bookmark(8)], Batching(wants_start=True))[0] == Changes("log.7")


def test_nothing_is_cut_beside_a_removal() -> None:
    batching = Batching()
    assert taken([change(1, "a"), change(2, "b"), removal(3), change(4, "c")], batching) == []
    left = batching.left()
    assert left is not None
    assert left.cursor == "log.1"


def test_removals_keep_their_place_among_the_changes() -> None:
    [batch] = taken([change(1, "a"), removal(2), change(3, "c"), bookmark(3)])
    assert isinstance(batch, Changes)
    assert [line["type"] for line in batch.lines] == ["change", "removal", "change"]
    assert [event["event_id"] for event in batch.events] == [1, 3]


def test_a_snapshot_is_what_comes_before_the_first_bookmark() -> None:
    row = {"type": "row", "view": "nodes", "key": "node-a", "doc": {"node_id": "node-a"}}
    plan = {"type": "plan", "log_id": "log", "generation": 7}
    later: dict[str, Any] = {"type": "of a later version"}
    batching = Batching(wants_snapshot=True)
    lines = [HELLO, plan, row, later, bookmark(7), change(8, "c"), bookmark(8)]
    assert taken(lines, batching) == [Snapshot("log.7", (row,), plan), Changes("log.8", (change(8, "c"),))]


def test_a_snapshot_that_breaks_is_none() -> None:
    batching = Batching(wants_snapshot=True)
    assert taken([HELLO, {"type": "row", "view": "nodes", "key": "a", "doc": {}}], batching) == []
    assert batching.left() is None


def test_a_controller_that_knows_no_snapshots_is_not_taken_for_an_empty_fleet() -> None:
    with pytest.raises(Refusal, match="knows none"):
        taken([HELLO, change(8, "c")], Batching(wants_snapshot=True))


def test_a_snapshot_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_batches, "ROWS_MAX", 3)
    row = {"type": "row", "view": "nodes", "key": "a", "doc": {}}
    with pytest.raises(Refusal, match="more than 3 rows"):
        taken([HELLO, *[row] * 4], Batching(wants_snapshot=True))


def test_lines_of_later_versions_change_nothing() -> None:
    assert taken([{"type": "weather", "cursor": "log.99"}, change(1, "a"), {"type": "end"}, bookmark(1)]) == [
        Changes("log.1", (change(1, "a"),))
    ]
