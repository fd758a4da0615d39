"""For any history, what a process keeps of the views equals what is stored, byte for byte and in the same order.

The kept rows are brought up to date at any moment, for any of the views, while pages are folded, rows go, rebuilds
mend what was wrong, and rows go into quarantine. A second reader, which keeps nothing, reads the whole.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.clock import SystemClock
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.views import PROJECTIONS
from reconciler.ports import ViewSnapshot
from reconciler.store import view_mirror, view_writer
from reconciler.store.store import Store
from reconciler.store.views import PostgresViews
from tests.properties.test_replay_equals_views import BEGINNINGS, as_of, histories
from tests.unit.projections.samples import CAUSE, new_event

_numbers = itertools.count(1)
VIEWS = sorted(PROJECTIONS)


def as_bytes(snapshot: ViewSnapshot) -> bytes:
    """The order of the rows included."""
    rows = {view: list(each.items()) for view, each in snapshot.rows.items()}
    return json.dumps([snapshot.event_id, snapshot.log_id, rows]).encode()


async def damage(superuser_url: str, view: str) -> None:
    """Somebody's hand in the database: a row goes, another one is not what the log says."""
    connection = await asyncpg.connect(superuser_url, server_settings={"search_path": "trueup"})
    try:
        await connection.execute(f"DELETE FROM view_{view} WHERE key = (SELECT min(key) FROM view_{view})")
        await connection.execute(f"INSERT INTO view_{view} VALUES ('~wrong', '{{}}', 1) ON CONFLICT DO NOTHING")
    finally:
        await connection.close()


async def forgetful(store: Store, names: Sequence[str]) -> ViewSnapshot:
    return await PostgresViews(store._pool, SystemClock()).snapshot(names)


step = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4)),
    st.tuples(st.just("page"), st.sampled_from(VIEWS)),
    st.tuples(st.just("read"), st.sets(st.sampled_from(VIEWS), min_size=1)),
    st.tuples(st.just("mend"), st.sampled_from(VIEWS)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=histories, steps=st.lists(step, min_size=3, max_size=25), page=st.integers(1, 9), near=st.integers(0, 30)
)
async def test_kept_rows_equal_stored_rows(
    store: Store,
    superuser_url: str,
    history: list[tuple[Cause, list[NewEvent]]],
    steps: list[tuple[str, object]],
    page: int,
    near: int,
) -> None:
    """The log and what is kept grow from example to example. `near`: events above which the whole is read."""
    number = next(_numbers)
    made = [(cause, [as_of(number, each) for each in events]) for cause, events in [(CAUSE, BEGINNINGS), *history]]
    waiting = [Append(f"m-{number}-{place}", "h", cause, tuple(each), {}) for place, (cause, each) in enumerate(made)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_writer, "PAGE_EVENTS_MAX", page)
        patch.setattr(view_mirror, "MIRROR_CATCH_UP_EVENTS_MAX", near)
        patch.setattr(view_mirror, "MIRROR_LOOP_ROWS_MAX", page)
        patch.setattr(view_mirror, "MIRROR_DECODE_ROWS", page)
        for what, subject in [*steps, ("append", 99), ("read", set(VIEWS))]:
            if isinstance(subject, int):
                batch, waiting = waiting[:subject], waiting[subject:]
                await store.log.append(batch)
            elif isinstance(subject, set):
                assert as_bytes(await store.views.snapshot(subject)) == as_bytes(
                    await forgetful(store, sorted(subject))
                )
            elif what == "page":
                await store.writer.apply_page(str(subject))
            else:
                await damage(superuser_url, str(subject))
                await store.rebuild(str(subject))
        await store.writer.catch_up()
        assert as_bytes(await store.views.snapshot(VIEWS)) == as_bytes(await forgetful(store, VIEWS))


async def test_a_snapshot_never_changes(store: Store) -> None:
    """Whoever holds one works on it in a thread while the next one is read."""
    await store.log.append([Append("first", "h", CAUSE, tuple(BEGINNINGS), {})])
    await store.writer.catch_up()
    before = await store.views.snapshot(VIEWS)
    as_it_was = as_bytes(before)
    again = [as_of(next(_numbers) + 10_000, each) for each in BEGINNINGS]
    await store.log.append([Append("second", "h", CAUSE, tuple(again), {})])
    await store.writer.catch_up()
    after = await store.views.snapshot(VIEWS)
    assert as_bytes(before) == as_it_was
    assert _count(after.rows) > _count(before.rows)


async def test_a_row_that_goes_is_gone(store: Store) -> None:
    await store.log.append([Append("made", "h", CAUSE, (new_event("volume.created"),), {})])
    await store.writer.catch_up()
    assert len((await store.views.snapshot(["resources"])).rows["resources"]) == 1
    await store.log.append([Append("deleted", "h", CAUSE, (new_event("volume.deleted"),), {})])
    await store.writer.catch_up()
    assert (await store.views.snapshot(["resources"])).rows["resources"] == {}


async def test_what_a_rebuild_mends_is_read_again(store: Store, superuser_url: str) -> None:
    """Also when no event has come since."""
    await store.log.append([Append("made", "h", CAUSE, tuple(BEGINNINGS), {})])
    await store.writer.catch_up()
    await damage(superuser_url, "nodes")
    wrong = await store.views.snapshot(["nodes"])
    await store.rebuild("nodes")
    mended = await store.views.snapshot(["nodes"])
    assert mended.event_id == wrong.event_id
    assert "~wrong" in wrong.rows["nodes"]
    assert "~wrong" not in mended.rows["nodes"]
    assert as_bytes(mended) == as_bytes(await forgetful(store, ["nodes"]))


def _count(rows: Mapping[str, Mapping[str, object]]) -> int:
    return sum(len(each) for each in rows.values())
