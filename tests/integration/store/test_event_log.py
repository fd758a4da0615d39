"""The log's promises, one test each: order, versions, one effect per command, claims, append-only, refusals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from kit.errors import Bug, Refusal
from reconciler.core.commands import Append, Appended, AppendResult, Claim, Conflict
from reconciler.ports import EventFilter
from reconciler.store.limits import PAYLOAD_BYTES_MAX
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.integration.store.building import command, node_event, version
from tests.unit.projections.samples import APP, VOLUME, new_event


async def append(store: Store, *commands: Append, atomic: bool = True) -> list[AppendResult]:
    return await store.log.append(commands, atomic=atomic)


async def test_an_event_comes_back_as_it_went_in(store: Store) -> None:
    asked = command(new_event("app.created"), new_event("node.enrolled"), command_id="first")
    assert await append(store, asked) == [Appended("first", 1, 2)]
    events = await store.log.read(0, limit=10)
    assert [(e.event_id, e.aggregate_seq, e.command_id) for e in events] == [(1, 1, "first"), (2, 1, "first")]
    for event, new in zip(events, asked.events, strict=True):
        assert event.payload == new.payload
        assert (event.event_type, event.aggregate_type, event.aggregate_id) == (
            new.event_type,
            new.aggregate_type,
            new.aggregate_id,
        )
        assert event.cause == asked.cause
        assert event.occurred_at.endswith("Z")


async def test_L2_two_writers_that_commit_in_reverse_cannot(store: Store, superuser_url: str) -> None:
    """A writer that holds the head and waits makes the second one wait: no reader sees 2 before 1."""
    slow = await asyncpg.connect(superuser_url, server_settings={"search_path": "trueup"})
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.fetchrow("SELECT * FROM look_before_append('{}', '{}', '{}', '{}', '{}', '{}', '{}')")
        second = asyncio.ensure_future(append(store, command(node_event())))
        await asyncio.sleep(0.2)
        assert not second.done()
        assert await store.log.read(0, limit=10) == []
        await slow.execute(
            "SELECT append_one('slow', 'h', '', 0, NULL, 0, 'node', 'slow', 'node.state_changed', 1, 'system', 'x',"
            " 'o', '', '', '', 0, '', 0, '{}')"
        )
        await transaction.commit()
        assert isinstance((await second)[0], Appended)
        assert [event.aggregate_id for event in await store.log.read(0, limit=10)] == ["slow", "node-a"]
    finally:
        await slow.close()


async def test_L2_a_polling_reader_sees_1_to_n_and_never_an_older_one_later(store_settings: StoreSettings) -> None:
    async with opened_store(store_settings) as one, opened_store(store_settings) as two:
        seen: list[int] = []
        done = asyncio.Event()

        async def read() -> None:
            while not done.is_set() or seen[-1] < (await one.log.head()).last_event_id:
                seen.extend(e.event_id for e in await one.log.read(seen[-1] if seen else 0, limit=7))

        async def write(store: Store, writer: int) -> None:
            for number in range(15):
                event = node_event(f"node-{writer}", str(number))
                await append(store, command(*[event] * (1 + number % 3)))

        reader = asyncio.ensure_future(read())
        await asyncio.gather(*(write(store, writer) for writer, store in enumerate([one, two] * 3)))
        done.set()
        await reader
        assert seen == list(range(1, 6 * 30 + 1))


async def test_L3_the_same_command_twice_has_one_effect(store: Store) -> None:
    first = await append(store, command(node_event(), node_event(), command_id="again"))
    assert first == [Appended("again", 1, 2)]
    await append(store, command(node_event("other")))
    assert await append(store, command(node_event(), node_event(), command_id="again")) == [
        Appended("again", 1, 2, duplicate=True)
    ]
    assert (await store.log.head()).last_event_id == 3


async def test_L3_the_same_id_with_another_body_is_refused(store: Store) -> None:
    await append(store, command(node_event(), command_id="mine", body_hash="one"))
    result = await append(store, command(node_event(), command_id="mine", body_hash="two"))
    assert result == [Conflict("mine", "command_id", "mine", "two", "one")]
    assert (await store.log.head()).last_event_id == 1


async def test_L3_the_same_command_twice_in_one_batch_and_from_many_at_once(store: Store) -> None:
    twin = command(node_event(), command_id="twin")
    assert await append(store, twin, twin) == [Appended("twin", 1, 1), Appended("twin", 1, 1, duplicate=True)]
    many = await asyncio.gather(*(append(store, command(node_event(), command_id="many")) for _ in range(8)))
    assert sum(not result.duplicate for (result,) in many if isinstance(result, Appended)) == 1
    assert (await store.log.head()).last_event_id == 2


async def test_a_command_without_events_is_remembered(store: Store) -> None:
    await append(store, command(node_event()))
    assert await append(store, command(command_id="quiet")) == [Appended("quiet", 2, 1)]
    assert await append(store, command(command_id="quiet")) == [Appended("quiet", 2, 1, duplicate=True)]


async def test_L4_a_wrong_expected_version_appends_nothing(store: Store) -> None:
    event = node_event()
    await append(store, command(event, expected=version(event, 0)))
    result = await append(store, command(event, event, command_id="late", expected=version(event, 0)))
    assert result == [Conflict("late", "version", "node/node-a", "0", "1")]
    assert (await store.log.head()).last_event_id == 1
    assert await append(store, command(event, command_id="next", expected=version(event, 1))) == [
        Appended("next", 2, 2)
    ]


async def test_L4_an_atomic_batch_is_all_or_nothing_and_says_so_for_each(store: Store) -> None:
    good, bad = command(node_event("a")), command(node_event("b"), expected={("node", "b"): 5})
    results = await append(store, good, bad)
    assert results == [
        Conflict(good.command_id, "batch", bad.command_id, "", ""),
        Conflict(bad.command_id, "version", "node/b", "5", "0"),
    ]
    assert (await store.log.head()).last_event_id == 0
    assert isinstance((await append(store, good))[0], Appended), "a refused command id is free"


async def test_L4_nor_does_its_repetition_in_a_batch_make_a_command_appended(store: Store) -> None:
    good, bad = command(node_event("a")), command(node_event("b"), expected={("node", "b"): 5})
    results = await append(store, good, good, bad)
    assert [result.kind for result in results if isinstance(result, Conflict)] == ["batch", "batch", "version"]
    assert (await store.log.head()).last_event_id == 0


async def test_L4_in_a_batch_that_is_not_atomic_only_the_conflicting_command_is_left_out(store: Store) -> None:
    one, bad, two = (
        command(node_event("a")),
        command(node_event("b"), expected={("node", "b"): 5}),
        command(node_event("c")),
    )
    results = await append(store, one, bad, two, atomic=False)
    assert results == [
        Appended(one.command_id, 1, 1),
        Conflict(bad.command_id, "version", "node/b", "5", "0"),
        Appended(two.command_id, 2, 2),
    ]


async def test_L4_a_later_command_of_a_batch_sees_the_earlier_ones(store: Store) -> None:
    event = node_event()
    results = await append(
        store,
        command(event, expected=version(event, 0)),
        command(event, event, expected=version(event, 1)),
        atomic=False,
    )
    assert [(r.first_event_id, r.last_event_id) for r in results if isinstance(r, Appended)] == [(1, 1), (2, 3)]
    assert [e.aggregate_seq for e in await store.log.read(0, limit=9)] == [1, 2, 3]


async def test_L4_racing_writers_leave_the_history_of_some_serial_order(store: Store) -> None:
    """Each writer counts one aggregate up by compare-and-set. Every win is there once, contiguous and gapless."""
    wins = 0

    async def write(writer: int) -> None:
        nonlocal wins
        rng, known = random.Random(writer), 0
        for _ in range(12):
            size = rng.randint(1, 3)
            events = [node_event("shared", f"{writer}") for _ in range(size)]
            (result,) = await append(store, command(*events, expected=version(events[0], known)))
            if isinstance(result, Appended):
                wins, known = wins + 1, known + size
            else:
                known = int(result.found)

    await asyncio.gather(*(write(writer) for writer in range(6)))
    events = await store.log.read(0, limit=1000)
    assert [event.aggregate_seq for event in events] == list(range(1, len(events) + 1))
    in_order = [event.command_id for event in events]
    groups = [name for index, name in enumerate(in_order) if index == 0 or in_order[index - 1] != name]
    assert len(groups) == len(set(groups)) == wins >= 12


async def test_a_deleted_aggregate_can_be_made_again_and_goes_on_counting(store: Store) -> None:
    made, gone = new_event("volume.created"), new_event("volume.deleted")
    late = new_event("volume.status_changed", status="deleted")
    for events, expected in (((made,), 0), ((gone,), 1), ((late,), 2), ((made,), 0)):
        (result,) = await append(store, command(*events, expected=version(made, expected)))
        assert isinstance(result, Appended), result
    (result,) = await append(store, command(made, expected=version(made, 0)))
    assert isinstance(result, Conflict)
    assert result.found == "4"


HOSTNAME = Claim("hostname", "www.example.org:443", "route-a")


async def test_of_two_commands_that_claim_a_hostname_at_once_exactly_one_wins(store: Store) -> None:
    asked = [command(node_event(str(n)), take=[replace(HOSTNAME, owner=f"route-{n}")]) for n in range(8)]
    results = [result for (result,) in await asyncio.gather(*(append(store, each) for each in asked))]
    (winner,) = [result for result in results if isinstance(result, Appended)]
    losers = [result for result in results if isinstance(result, Conflict)]
    owner = f"route-{results.index(winner)}"
    assert {(loser.kind, loser.subject, loser.found) for loser in losers} == {
        ("claim", "hostname:www.example.org:443", owner)
    }
    assert (await store.log.head()).last_event_id == 1


async def test_a_claim_is_freed_before_it_is_taken_and_only_by_its_owner(store: Store) -> None:
    other = replace(HOSTNAME, owner="route-b")
    await append(store, command(node_event(), take=[HOSTNAME]))
    (again,) = await append(store, command(node_event(), take=[HOSTNAME]))
    assert isinstance(again, Appended), "one's own claim is no conflict"
    (foreign,) = await append(store, command(node_event(), free=[other], take=[other]))
    assert isinstance(foreign, Conflict)
    (swap,) = await append(store, command(node_event(), free=[HOSTNAME], take=[other]))
    assert isinstance(swap, Appended)
    (late,) = await append(store, command(node_event(), take=[HOSTNAME]))
    assert isinstance(late, Conflict)
    assert late.found == "route-b"


async def test_claims_move_within_a_batch(store: Store) -> None:
    other = replace(HOSTNAME, owner="route-b")
    await append(store, command(node_event(), take=[HOSTNAME]))
    results = await append(store, command(node_event(), free=[HOSTNAME]), command(node_event(), take=[other]))
    assert all(isinstance(result, Appended) for result in results)
    (late,) = await append(store, command(node_event(), take=[HOSTNAME]))
    assert isinstance(late, Conflict)


async def test_a_refused_batch_leaves_the_claims_as_they_were(store: Store) -> None:
    await append(store, command(node_event(), take=[HOSTNAME]))
    bad = command(node_event("b"), expected={("node", "b"): 5})
    await append(store, command(node_event(), free=[HOSTNAME]), bad)
    (result,) = await append(store, command(node_event(), take=[replace(HOSTNAME, owner="route-b")]))
    assert isinstance(result, Conflict)


BAD_PAYLOADS: list[tuple[Any, str]] = [
    ("a\x00b", "text_invalid"),
    ("half \ud800 pair", "text_invalid"),
    ("x" * (PAYLOAD_BYTES_MAX + 1), "payload_too_large"),
    (float("nan"), "payload_invalid"),
    ({1, 2}, "payload_invalid"),
]


async def test_what_postgres_cannot_hold_is_refused_before_anything_is_written(store: Store) -> None:
    for value, code in BAD_PAYLOADS:
        with pytest.raises(Refusal) as caught:
            await append(store, command(node_event("good")), command(node_event("a", value), command_id="guilty"))
        assert caught.value.code == code
        assert "guilty" in str(caught.value)
    assert (await store.log.head()).last_event_id == 0


BAD_COMMANDS: list[Callable[[], Append]] = [
    lambda: command(node_event(), command_id="a\x00"),
    lambda: command(node_event(), take=[Claim("hostname", "a\x00", "x")]),
    lambda: command(node_event("x" * 3000)),
    lambda: replace(command(node_event()), command_id=""),
    lambda: replace(command(node_event()), cause=replace(command().cause, path="a\x00b")),
]


async def test_ids_that_cannot_be_stored_are_refused(store: Store) -> None:
    for broken in BAD_COMMANDS:
        with pytest.raises(Refusal):
            await append(store, broken())
    assert (await store.log.head()).last_event_id == 0


async def test_text_that_only_looks_odd_is_stored(store: Store) -> None:
    text = "\\u0000 \u2028 \U0001f600 ' \" ; DROP TABLE events; -- \x01\x7f"
    await append(store, command(node_event(reason=text)))
    assert (await store.log.read(0, limit=1))[0].payload["reason"] == text


async def test_a_payload_that_does_not_fit_its_schema_is_a_bug_and_nothing_is_appended(store: Store) -> None:
    with pytest.raises(Bug, match="/state is 'asleep'"):
        await append(store, command(node_event()), command(new_event("node.state_changed", state="asleep")))
    assert (await store.log.head()).last_event_id == 0


async def test_a_large_batch_is_one_transaction(store: Store) -> None:
    results = await append(store, *(command(node_event(f"n{n}"), take=[Claim("k", str(n), "o")]) for n in range(1000)))
    assert [r.first_event_id for r in results if isinstance(r, Appended)] == list(range(1, 1001))


async def test_reading_by_page_upto_and_filter(store: Store) -> None:
    await append(store, command(node_event("a"), node_event("b"), new_event("app.created"), command_id="one"))
    await append(store, command(new_event("volume.created"), new_event("volume.placed")))
    read = store.log.read

    async def ids(only: EventFilter) -> list[int]:
        return [event.event_id for event in await read(0, limit=10, only=only)]

    assert [e.event_id for e in await read(1, limit=2)] == [2, 3]
    assert [e.event_id for e in await read(1, limit=9, upto=3)] == [2, 3]
    assert await ids(EventFilter(aggregate_types=("app", "volume"))) == [3, 4, 5]
    assert await ids(EventFilter(aggregate_types=("volume",), event_types=("volume.placed",))) == [5]
    assert await ids(EventFilter(aggregate_id=APP)) == [3]
    assert await ids(EventFilter(aggregate_id=VOLUME, command_id="one")) == []
    assert await ids(EventFilter(command_id="one")) == [1, 2, 3]
    assert await ids(EventFilter(commit="c0ff")) == [1, 2, 3, 4, 5]
    assert await ids(EventFilter(commit="dead")) == []
    for bad in ("c0f", "c0f%", "C0FF"):
        with pytest.raises(Refusal, match="hex digits"):
            await ids(EventFilter(commit=bad))
    with pytest.raises(Bug, match="limit"):
        await read(0, limit=0)


async def test_wait_past_wakes_at_once_for_another_process(store_settings: StoreSettings) -> None:
    async with opened_store(store_settings) as reader, opened_store(store_settings) as writer:
        assert await reader.log.wait_past(0, 0.01) == 0
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(reader.log.wait_past(0, 20))
        await asyncio.sleep(0.05)
        began = loop.time()
        await append(writer, command(node_event(), node_event()))
        assert await waiting == 2
        assert loop.time() - began < 0.8, "by the notification, not by the poll"
        assert await reader.log.wait_past(1, 20) == 2


async def test_the_tail_comes_back_after_its_connection_was_cut(
    store_settings: StoreSettings, superuser_url: str
) -> None:
    async with opened_store(store_settings) as reader, opened_store(store_settings) as writer:
        await append(writer, command(node_event()))
        assert await reader.log.wait_past(0, 20) == 1
        admin = await asyncpg.connect(superuser_url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        waiting = asyncio.ensure_future(reader.log.wait_past(1, 20))
        await append(writer, command(node_event()))
        assert await waiting == 2


async def test_each_log_has_a_name_that_stays(store_settings: StoreSettings) -> None:
    async with opened_store(store_settings) as store:
        first = (await store.log.head()).log_id
    async with opened_store(store_settings) as store:
        assert (await store.log.head()).log_id == first
        assert len(first) == 32
