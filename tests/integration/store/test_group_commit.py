"""Many callers share a transaction, and none of them can tell: except that it is fast."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from kit.errors import Bug, Refusal, Transient
from reconciler.core.commands import Append, Appended, Claim, Conflict, Fence
from reconciler.core.events import NewEvent
from reconciler.store.limits import REACHED_AGGREGATES_MAX
from reconciler.store.placement import Known, place_units
from reconciler.store.pool import connect
from reconciler.store.reached import Reached
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.integration.store.building import command, node_event, version
from tests.integration.store.proxy import Cut
from tests.integration.store.test_unknown_outcome import cut_store  # noqa: F401  # a fixture

FENCE = "scheduler"


async def at_once(store: Store, *batches: Sequence[Append], atomic: bool = True) -> list[Any]:
    return await asyncio.gather(*(store.log.append(batch, atomic=atomic) for batch in batches), return_exceptions=True)


async def test_one_bad_command_never_fails_its_batch_mates(store: Store, superuser_url: str) -> None:
    owner = await connect(superuser_url)
    await owner.execute("ALTER TABLE events ADD CONSTRAINT unforeseen CHECK (aggregate_id <> 'unforeseen')")
    await owner.close()
    good = [[command(node_event(f"good-{n}"), command_id=f"good-{n}")] for n in range(6)]
    nul = [command(node_event("nul", "\x00"))]
    invalid = [command(NewEvent("node", "x", "node.state_changed", {"surplus": 1}))]
    large = [command(node_event("large", "x" * (8 << 20)))]
    unforeseen = [command(node_event("unforeseen"))]
    conflict = [command(node_event("conflict"), expected={("node", "conflict"): 4})]
    results = await at_once(store, *good[:3], nul, invalid, large, unforeseen, conflict, *good[3:], good[0])
    assert [type(result) for result in results[3:7]] == [Refusal, Bug, Refusal, Bug]
    assert isinstance(results[7][0], Conflict)
    appended = [result for (result,) in [*results[:3], *results[8:11]]]
    assert all(isinstance(result, Appended) and not result.duplicate for result in appended)
    assert results[11] == [Appended("good-0", appended[0].first_event_id, appended[0].last_event_id, duplicate=True)]
    assert [event.event_id for event in await store.log.read(0, limit=99)] == [1, 2, 3, 4, 5, 6]


async def test_L4_an_atomic_batch_stays_one_unit_among_others(store: Store) -> None:
    whole = [command(node_event("w")), command(node_event("w")), command(node_event("w"))]
    broken = [command(node_event("b")), command(node_event("b"), expected=version(node_event("b"), 7))]
    results = await at_once(store, *([command(node_event("x"))] for _ in range(5)), whole, broken)
    ids = [result.first_event_id for result in results[5]]
    assert ids == [ids[0], ids[0] + 1, ids[0] + 2]
    assert [result.kind for result in results[6]] == ["batch", "version"]
    assert (await store.log.head()).last_event_id == 8


async def test_L4_of_many_that_expect_the_same_version_one_wins(store: Store) -> None:
    event = node_event()
    for round_ in range(3):
        results = await at_once(store, *([command(event, expected=version(event, round_))] for _ in range(20)))
        assert sum(isinstance(result, Appended) for (result,) in results) == 1
    assert (await store.log.head()).last_event_id == 3


async def test_an_expected_version_counts_what_the_same_batch_appends_before(store: Store) -> None:
    event = node_event()
    batch = [
        command(event),
        command(event, event, expected=version(event, 1)),
        command(event, expected=version(event, 3)),
    ]
    assert all(isinstance(result, Appended) for result in await store.log.append(batch))
    assert [e.aggregate_seq for e in await store.log.read(0, limit=9)] == [1, 2, 3, 4]


async def set_lease(url: str, epoch: int) -> None:
    connection = await connect(url)
    await connection.execute(
        "INSERT INTO leases (name, holder, epoch, expires_at) VALUES ($1, 'me', $2, now())"
        " ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch",
        FENCE,
        epoch,
    )
    await connection.close()


@pytest.mark.parametrize("take", [(), (Claim("hostname", "a:1", "b"),)])
async def test_a_fence_of_an_older_epoch_appends_nothing(
    store: Store, superuser_url: str, take: tuple[Claim, ...]
) -> None:
    """On the short way, in a batch, and on the longer way."""
    await set_lease(superuser_url, 2)

    def fenced(epoch: int, lease: str = FENCE) -> Append:
        plain = command(node_event(), take=take)
        return Append(plain.command_id, "h", plain.cause, plain.events, {}, take, (), Fence(lease, epoch))

    old, unknown = fenced(1), fenced(2, "nobody")
    results = await at_once(store, [old], [unknown], [fenced(2)], [fenced(3)])
    assert results[0] == [Conflict(old.command_id, "fence", FENCE, "1", "2")]
    assert results[1] == [Conflict(unknown.command_id, "fence", "nobody", "2", "0")]
    assert isinstance(results[2][0], Appended)
    assert isinstance(results[3][0], Conflict)
    assert isinstance((await store.log.append([fenced(2), fenced(2)]))[1], Appended)
    await set_lease(superuser_url, 3)
    assert isinstance((await store.log.append([fenced(2)]))[0], Conflict)
    assert [r.kind for r in await store.log.append([fenced(3), fenced(2)]) if isinstance(r, Conflict)] == [
        "batch",
        "fence",
    ]
    assert (await store.log.head()).last_event_id == 3


@pytest.mark.parametrize("cut", ["before_commit", "after_commit", "while_committing"])
async def test_L3_batches_whose_commit_was_cut_are_appended_once(cut_store: Any, cut: Cut) -> None:  # noqa: F811
    store, proxy = cut_store
    await store.log.append([command(node_event())])
    proxy.plan.extend([cut] * 3)
    batches = [[command(node_event(str(n)), node_event(str(n))) for _ in range(3)] for n in range(12)]
    results = await at_once(store, *batches)
    assert all(not result.duplicate for answers in results for result in answers)
    assert proxy.cuts == 3
    events = await store.log.read(1, limit=999)
    assert [event.event_id for event in events] == list(range(2, 12 * 6 + 2))
    for answers in await at_once(store, *batches):
        assert all(result.duplicate for result in answers)


RACER = """
import asyncio, sys
from pathlib import Path
from reconciler.core.commands import Appended
from reconciler.store.settings import StoreSettings
from reconciler.store.store import opened_store
from tests.integration.store.building import command, node_event, version

async def main(name, owner, app):
    async with opened_store(StoreSettings(Path("."), owner, app, 2)) as store:
        async def race(number):
            won = 0
            event = node_event(f"shared-{number % 3}")
            for step in range(8):
                await store.log.append([command(*[node_event(name)] * 2, command_id=f"{name}-{number}-{step}")])
                seq = len(await store.log.read(0, limit=9999)) % 5
                (result,) = await store.log.append([command(event, command_id=f"v-{name}-{number}-{step}",
                    expected=version(event, seq))])
                won += isinstance(result, Appended)
            return won
        print(sum(await asyncio.gather(*(race(number) for number in range(6)))))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_L4_racing_processes_leave_a_history_that_some_order_explains(
    store: Store, store_settings: StoreSettings
) -> None:
    arguments = [store_settings.database_url, store_settings.app_url]
    racers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", RACER, name, *arguments, stdout=subprocess.PIPE)
        for name in ("p1", "p2", "p3")
    ]
    won = sum([int((await racer.communicate())[0]) for racer in racers])
    events = await store.log.read(0, limit=9999)
    assert [event.event_id for event in events] == list(range(1, 3 * 6 * 8 * 2 + won + 1))
    seqs: dict[str, int] = {}
    for event in events:
        seqs[event.aggregate_id] = seqs.get(event.aggregate_id, 0) + 1
        assert event.aggregate_seq == seqs[event.aggregate_id]
    for _, group in itertools.groupby(events, key=lambda event: event.command_id):
        assert len(list(group)) in (1, 2)
    assert len({key for key, _ in itertools.groupby(events, key=lambda e: e.command_id)}) == 3 * 6 * 8 + won


async def test_a_closed_store_answers_those_who_wait(store_settings: StoreSettings, superuser_url: str) -> None:
    holder = await asyncpg.connect(superuser_url)
    async with opened_store(store_settings) as store:
        await holder.execute("BEGIN")
        await holder.execute("SELECT FROM trueup.log_head FOR UPDATE")
        waiting = asyncio.ensure_future(at_once(store, [command(node_event())], [command(node_event())]))
        await asyncio.sleep(0.05)
    assert all(isinstance(result, Transient) for result in await waiting)
    await holder.close()


def test_an_atomic_batch_that_conflicts_leaves_no_trace_in_what_is_placed_after_it() -> None:
    broken = [command(node_event("b")), command(node_event("b"), expected=version(node_event("b"), 7))]
    good = [command(node_event("b"), command_id="good")]
    placement, answers = place_units([(broken, True), (good, True)], Known("log", 4))
    assert answers[1] == [Appended("good", 5, 5)]
    assert [(placed.event_id, placed.aggregate_seq) for placed in placement.events] == [(5, 1)]


@pytest.mark.parametrize("wrong", [-1, 1, 1000])
async def test_a_wrong_hint_about_where_an_aggregate_is_changes_nothing(store: Store, wrong: int) -> None:
    event, key = node_event("hinted"), ("node", "hinted")
    for at in range(3):
        store.log._reached.learn([key], [at], [wrong])  # what another process appended, or a restored log
        (result,) = await store.log.append([command(event, expected={key: at})])
        assert isinstance(result, Appended), result
        store.log._reached.learn([key], [at], [wrong])
        both = await at_once(store, *[[command(event, expected={key: 9})] for _ in range(3)])
        assert all(isinstance(each, Conflict) and each.found == str(at + 1) for (each,) in both)
    store.log._reached.learn([key], [3], [wrong])
    await at_once(store, *[[command(event, node_event("other"))] for _ in range(4)])
    seqs = [e.aggregate_seq for e in await store.log.read(0, limit=99) if e.aggregate_id == "hinted"]
    assert seqs == [1, 2, 3, 4, 5, 6, 7]


def test_hints_are_bounded() -> None:
    reached = Reached()
    keys = [("node", str(number)) for number in range(REACHED_AGGREGATES_MAX + 5)]
    reached.learn(keys, [1] * len(keys), [2] * len(keys))
    assert reached.floors(keys) == [0] * 5 + [3] * REACHED_AGGREGATES_MAX
