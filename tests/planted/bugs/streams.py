"""Change streams."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

STREAMS = "tests/unit/server/test_streams.py"
FAN = "tests/unit/server/test_fan.py"
QUERY = "tests/unit/server/test_stream_query.py"
SHOWN = "tests/unit/server/test_snapshots.py"
SLOW = "tests/unit/server/test_slow_readers.py"
FILTERS = "tests/properties/test_stream_filters.py"
COMPLETE = "tests/properties/test_stream_completeness.py"
AGREE = f"{FILTERS}::test_S7_ring_database_and_naive_reader_agree_on_every_filter"

BUGS = (
    Bug(
        "S3",
        "late readers of a filter are given what is near, and their position jumps over the rest",
        "reconciler/server/log_reading.py",
        "only=EventFilter(reader=key), upto=end",
        "only=EventFilter(reader=key), upto=end - 1",
        f"{STREAMS}::test_random_readers_see_exactly_the_filtered_log",
    ),
    Bug(
        "S4",
        "a piece of the log ends where it happens to end",
        "reconciler/server/log_reading.py",
        "while 0 < event_id < head:",
        "while False:",
        f"{STREAMS}::test_a_command_is_never_cut_in_two",
    ),
    Bug(
        "S6",
        "a bookmark overtakes what waits for its turn in a flush",
        "reconciler/server/fan.py",
        "min(clean_upto, self._flushed_from.get(seat.key, clean_upto))",
        "ring.head",
        f"{FAN}::test_a_bookmark_never_overtakes_what_waits_to_be_flushed",
    ),
    Bug(
        "S10",
        "who takes nothing keeps its seat",
        "reconciler/server/fan.py",
        "return not self.transport.get_write_buffer_size()",
        "return True",
        f"{FAN}::test_a_seat_that_does_not_take_what_it_is_given_is_left_and_the_others_are_served",
    ),
    Bug(
        "S8",
        "the seats of the log of before are kept",
        "reconciler/server/hub.py",
        "        self._wake(set(self._waiting))\n        self.fan.empty()",
        "        self._wake(set(self._waiting))",
        f"{STREAMS}::test_a_log_that_was_restored_ends_every_stream_and_then_refuses_the_cursor",
    ),
    Bug(
        "S7",
        "the filter of an environment shows all of its project out of memory",
        "reconciler/core/filters.py",
        '            and self.env in ("", place.env)\n',
        "",
        AGREE,
    ),
    Bug(
        "S7",
        "the database shows an organisation's filter what only begins like it",
        "reconciler/store/event_queries.py",
        "part = f\"split_part({_PATH}, '/', {number}) = ${{0}}\"",
        'part = f"starts_with({_PATH}, ${{0}})"',
        AGREE,
    ),
    Bug(
        "S3",
        "a filter that gets its first reader hears only what comes from then on",
        "reconciler/server/ring.py",
        "if each is not None and each.place is not None and wanted.matches(each.place):",
        "if False:",
        AGREE,
    ),
    Bug(
        "S7",
        "who loses a volume is not told",
        "reconciler/core/filters.py",
        "return frozenset({node_key(node_id)} if node_id else ()) - machine_keys(event)",
        "return frozenset()",
        f"{STREAMS}::test_random_readers_see_exactly_the_filtered_log",
    ),
    Bug(
        "S7",
        "who loses a volume is told where it went, when it comes late",
        "reconciler/server/hub.py",
        'return removal_line(log_id, event) if told(event, key) == "removal" else change_line(log_id, event)',
        "return change_line(log_id, event)",
        f"{STREAMS}::test_random_readers_see_exactly_the_filtered_log",
    ),
    Bug(
        "S11",
        "a machine chooses its filter",
        "reconciler/server/stream_query.py",
        "            if given:\n",
        '            if given.keys() - {"node"}:\n',
        f"{QUERY}::test_a_machine_that_names_a_filter_is_refused",
    ),
    Bug(
        "S11",
        "a token that is bound to a project follows a node, which has other projects' instances",
        "reconciler/server/table.py",
        'if "node" in query or "edge" in query:',
        'if "edge" in query:',
        f"{QUERY}::test_nobody_follows_what_is_outside_of_its_scope",
    ),
    Bug(
        "S11",
        "a token that is bound to a project and names none follows its organisation",
        "reconciler/core/permission.py",
        "return org or _bound(scope.org), project or _bound(scope.project)",
        "return org or _bound(scope.org), project",
        f"{QUERY}::test_what_is_asked_for_within_a_scope_is_one_key",
    ),
    Bug(
        "S3",
        "a node is not told that its volume shall be larger",
        "reconciler/core/decide/git/resources.py",
        'updated = resource_event(resource.id, "updated", **specs, **_home(row))',
        'updated = resource_event(resource.id, "updated", **specs, **{each: "" for each in _home(row)})',
        f"{COMPLETE}::test_S3_every_event_of_the_deciders_that_changes_a_plan_is_told",
    ),
    Bug(
        "S3",
        "an edge is not told that an instance drains",
        "reconciler/core/filters.py",
        'frozenset({"instance.allocated", "instance.desired_state_changed", "instance.status_changed"})',
        'frozenset({"instance.allocated", "instance.status_changed"})',
        f"{COMPLETE}::test_S3_every_event_of_the_deciders_that_changes_a_plan_is_told",
    ),
    Bug(
        "S6",
        "a stream goes on from the head, not from its snapshot",
        "reconciler/server/streams.py",
        "self._following(identity, wanted.key, shown.event_id, request.get(ENDING))",
        "self._following(identity, wanted.key, ring.head, request.get(ENDING))",
        f"{SHOWN}::test_changes_follow_without_a_gap",
    ),
    Bug(
        "S7",
        "a snapshot shows what the filter does not",
        "reconciler/server/snapshots.py",
        'if wanted.matches(place_of_row(doc)) else b""',
        'if wanted.kind or place_of_row(doc) else b""',
        f"{SHOWN}::test_the_rows_are_those_that_match",
    ),
    Bug(
        "S10",
        "a snapshot that was written keeps its place as long as the stream lasts",
        "reconciler/server/snapshots.py",
        "        finally:\n            self._open -= 1",
        "        finally:\n            pass",
        f"{SHOWN}::test_a_place_is_free_while_the_reader_follows",
    ),
    Bug(
        "S10",
        "who was cut off is not told",
        "reconciler/server/streams.py",
        "            self._slow.cut_off(identity)\n",
        "            self._slow.count += 1\n",
        f"{SLOW}::test_who_was_cut_off_is_told_once_when_it_comes_back",
    ),
    Bug(
        "S7",
        "what an edge has reported wakes all the others",
        "reconciler/core/filters.py",
        "and event.event_type != EDGE_REPORT",
        "",
        "tests/properties/test_stream_filters.py::test_S7_ring_database_and_naive_reader_agree_on_every_filter",
    ),
)
