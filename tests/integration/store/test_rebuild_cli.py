"""`trueup views` and `trueup log archive` on a real database, and a poisoned row from end to end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from reconciler.cli import exits
from reconciler.cli.main import main
from reconciler.cli.output import plain
from reconciler.cli.status import page
from reconciler.core.views import PROJECTIONS
from reconciler.server.status import status_document
from reconciler.store.store import Store
from tests.integration.store.building import command, node_event
from tests.integration.store.test_views import Poisoned, append_all_kinds, poisoned
from tests.unit.projections.samples import new_event

__all__ = ["poisoned"]


class Trueup:
    """The command line in a thread, as it has a loop of its own. Answers the exit code and the document."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys

    async def __call__(self, *arguments: str, form: str = "--output") -> tuple[int, Any]:
        self._capsys.readouterr()
        code = await asyncio.to_thread(main, [*arguments, "--database-url", self._url, form, "json"])
        return code, json.loads(self._capsys.readouterr().out)


@pytest.fixture
def trueup(superuser_url: str, capsys: pytest.CaptureFixture[str]) -> Trueup:
    return Trueup(superuser_url, capsys)


async def test_verify_finds_and_rebuild_mends(store: Store, superuser_url: str, trueup: Trueup) -> None:
    await append_all_kinds(store)
    await store.writer.catch_up()
    assert (await trueup("views", "verify", "nodes", "sources"))[0] == exits.OK
    admin = await asyncpg.connect(superuser_url)
    await admin.execute("DELETE FROM trueup.view_nodes")
    await admin.close()
    code, document = await trueup("views", "verify", "nodes")
    assert (code, document["changed"]) == (exits.GENERIC, False)
    assert document["views"][0]["keys"] == [{"key": "node-a", "what": "missing"}]
    assert (await trueup("views", "rebuild", "nodes"))[0] == exits.OK
    assert (await trueup("views", "verify", "nodes"))[0] == exits.OK


async def test_list_tells_how_far_each_view_is(store: Store, trueup: Trueup) -> None:
    await store.log.append([command(node_event(), node_event())])
    await store.writer.catch_up(["nodes"])
    _, document = await trueup("views", "list")
    lags = {each["view"]: (each["event_id"], each["lag_events"], each["lag_s"] > 0) for each in document["views"]}
    assert lags["nodes"] == (2, 0, False)
    assert lags["sources"] == (0, 2, True)
    assert set(lags) == set(PROJECTIONS)


async def test_an_unknown_view_is_refused_with_the_known_ones(trueup: Trueup) -> None:
    code, document = await trueup("views", "rebuild", "nonsense")
    assert (code, document["code"]) == (exits.MISSING, "not_found")
    assert "instances" in document["detail"]


async def test_a_log_is_archived_and_rebuilt_from(store: Store, trueup: Trueup, tmp_path: Path) -> None:
    await append_all_kinds(store)
    await store.writer.catch_up()
    folder = str(tmp_path / "archive")
    code, manifest = await trueup("log", "archive", "--before", "11", "--output", folder, form="--format")
    assert (code, manifest["files"][0]["last_event_id"]) == (exits.OK, 10)
    code, document = await trueup("views", "rebuild", *PROJECTIONS, "--archive", folder)
    assert (code, {each["differing"] for each in document["views"]}) == (exits.OK, {0})


async def test_R8_a_poisoned_row_is_seen_everywhere_and_leaves_with_a_rebuild(
    store: Store, poisoned: pytest.MonkeyPatch, trueup: Trueup
) -> None:
    assert Poisoned.name == "nodes"
    await store.log.append([command(new_event("node.enrolled", node_id="bad"), node_event("bad", "over"))])
    await store.writer.catch_up()
    status = status_document(
        await store.views.snapshot(PROJECTIONS),
        await store.log.head(),
        {},
        await store.views.checkpoints(),
        await store.views.quarantined(),
    )
    (row,) = status["quarantined"]
    assert (row["projection"], row["key"], row["event_id"]) == ("nodes", "bad", 2)
    assert "poison" in row["error"]
    assert status["problems"] >= 1
    assert "view nodes, row bad: event 2 cannot be folded: KeyError: 'poison'" in plain(page(status))
    _, document = await trueup("views", "list")
    assert [each["quarantined"] for each in document["views"] if each["view"] == "nodes"] == [["bad"]]
    poisoned.undo()
    code, document = await trueup("views", "rebuild", "nodes")
    assert (code, document["views"][0]["keys"]) == (exits.OK, [{"key": "bad", "what": "wrong"}])
    assert await store.views.quarantined() == []
