"""Snapshots, backups and restores: who may ask, one at a time, what is told, what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kit.errors import Refusal
from reconciler.core.claims import Claims
from reconciler.core.commands import Append, Conflict
from reconciler.core.copies import REASONS, WORKS
from reconciler.core.decide import copies
from reconciler.core.decide.copies import Progress, Restoring, ask_backup, ask_restore, ask_snapshot, decide_progress
from reconciler.core.event_schemas import EventSchemas
from reconciler.core.events import Cause, Event
from reconciler.core.replay import apply
from reconciler.core.views import PROJECTIONS
from reconciler.store.event_schema_files import load_event_schemas
from reconciler.store.placement import Known, place
from tests.unit.projections.samples import VOLUME, new_event

ANN = Cause("user", "ann", "acme")
NODE = Cause("service_principal", "node:node-a", "")
NEW = "acme/shop/prod/site/volume/again"
SCHEMAS = EventSchemas(load_event_schemas())
GOOD = Progress("succeeded", size_bytes=100, sha256="a" * 64, object="acme/b-1", key_id="k-1")


class Log:
    """What the store does with an append, and the views and claims that follow."""

    def __init__(self) -> None:
        self.views: dict[str, dict[str, Any]] = {name: {} for name in PROJECTIONS}
        self.known = Known("log", 0)
        self.claims = Claims()
        seen = (new_event("volume.created"), new_event("volume.placed"), new_event("volume.status_changed"))
        nodes = (new_event("node.enrolled"), new_event("node.enrolled", node_id="node-b", subnet="fd01::/64"))
        self.append(Append("start", "h", ANN, (*nodes, *seen, new_event("volume.created", resource_id=NEW)), {}))

    def append(self, decision: Any) -> Conflict | None:
        assert isinstance(decision, Append), decision
        for event in decision.events:
            SCHEMAS.check(event)
        placement = place([decision], self.known)
        for each in placement.events:
            told = each.event
            about = (told.aggregate_type, told.aggregate_id, each.aggregate_seq, told.event_type, told.event_version)
            made = Event(each.event_id, "", *about, each.command_id, each.cause, told.payload)
            apply(self.views, made)
            self.claims.apply(made)
        return next(iter(placement.conflicts), None)

    def held(self, kind: str) -> dict[str, str]:
        live = {key: owner for (each, key), owner in self.known.claims.items() if each == kind}
        assert live == {key: held.owner for (each, key), held in self.claims.held.items() if each == kind}
        return live

    def volume(self, volume_id: str = VOLUME) -> Any:
        return self.views["resources"].get(volume_id)

    def node(self, node_id: str = "node-a") -> Any:
        return self.views["nodes"].get(node_id)

    def snapshot(self, snapshot_id: str, cause: Cause = ANN) -> Any:
        return ask_snapshot(snapshot_id, VOLUME, self.volume(), self.node(), "", cause)

    def backup(self, backup_id: str, snapshot_id: str = "s-1", cause: Cause = ANN) -> Any:
        return ask_backup(backup_id, snapshot_id, self.views["snapshots"].get(snapshot_id), self.node(), cause)

    def restore(self, restore_id: str, kind: str, origin: str, node_id: str, into: str = NEW) -> Any:
        row = self.views[f"{kind}s"].get(origin)
        return ask_restore(restore_id, Restoring(kind, origin, row, into, self.volume(into), self.node(node_id)), ANN)

    def tell(self, kind: str, work_id: str, progress: Progress, node_id: str = "") -> Any:
        row = self.views[f"{kind}s"].get(work_id)
        node_id = node_id or (row["node_id"] if row else "node-a")
        return decide_progress(kind, row, node_id, progress, NODE, self.volume(row["volume_id"]) if row else None)

    def done(self, kind: str, work_id: str, last: Progress = GOOD) -> None:
        for progress in (Progress("running"), last):
            assert self.append(self.tell(kind, work_id, progress)) is None


@pytest.fixture
def log() -> Log:
    return Log()


def code(decision: Any) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


def test_a_volume_goes_through_snapshot_backup_and_restore(log: Log) -> None:
    log.append(log.snapshot("s-1"))
    row = log.views["snapshots"]["s-1"]
    assert (row["status"], row["asked_by"], row["volume_bytes"], row["size_bytes"]) == ("queued", "ann", 1 << 30, None)
    log.done("snapshot", "s-1")
    assert log.views["snapshots"]["s-1"]["sha256"] == "a" * 64
    log.append(log.backup("b-1"))
    log.done("backup", "b-1")
    assert (log.views["backups"]["b-1"]["object"], log.views["backups"]["b-1"]["key_id"]) == ("acme/b-1", "k-1")
    log.append(log.restore("w-1", "backup", "b-1", "node-b"))
    log.done("restore", "w-1", Progress("succeeded"))
    assert log.views["restores"]["w-1"]["status"] == "succeeded"
    assert log.volume(NEW)["home_node"] == "node-b", "it has its data there"
    log.append(log.tell("snapshot", "s-1", Progress("deleted")))
    assert log.views["snapshots"] == {}
    assert log.held("snapshot") == log.held("backup") == log.held("restore") == {}


def test_one_at_a_time_until_the_work_is_over(log: Log) -> None:
    assert log.append(log.snapshot("s-1")) is None
    assert log.held("snapshot") == {VOLUME: "s-1"}
    second = ask_snapshot("s-2", VOLUME, log.volume(), log.node(), "", ANN)
    conflict = log.append(second)
    assert conflict is not None
    said = copies.in_progress(conflict)
    assert said is not None and said.code == "snapshot_in_progress" and "s-1" in str(said)
    assert "s-2" not in log.views["snapshots"]
    log.append(log.tell("snapshot", "s-1", Progress("running")))
    assert log.append(log.snapshot("s-3")) is not None
    log.append(log.tell("snapshot", "s-1", Progress("failed", reason_code="io_failed", reason_detail="EIO")))
    assert log.held("snapshot") == {}
    assert log.append(log.snapshot("s-4")) is None, "another one, with its own id"


def test_one_backup_of_a_snapshot_and_one_restore_into_a_volume(log: Log) -> None:
    log.append(log.snapshot("s-1"))
    log.done("snapshot", "s-1")
    first, second = log.backup("b-1"), log.backup("b-2")
    assert log.append(first) is None and log.held("backup") == {"s-1": "b-1"}
    conflict = log.append(second)
    assert conflict is not None and conflict.subject == "backup:s-1"
    assert log.append(log.restore("w-1", "snapshot", "s-1", "node-a")) is None
    conflict = log.append(log.restore("w-2", "snapshot", "s-1", "node-a"))
    assert conflict is not None and conflict.subject == f"restore:{NEW}"
    assert copies.in_progress(Conflict("c", "version", "volume/x", "1", "2")) is None


def test_nodes_do_not_ask_and_nobody_asks_for_another_organisation(log: Log) -> None:
    assert code(log.snapshot("s-1", NODE)) == "forbidden"
    assert code(log.snapshot("s-1", replace(ANN, org_id="evil"))) == "forbidden"
    assert isinstance(log.snapshot("s-1", Cause("system", "backups", "acme")), Append), "a loop of the controller may"
    log.append(log.snapshot("s-1"))
    log.done("snapshot", "s-1")
    assert code(log.backup("b-1", cause=NODE)) == "forbidden"
    foreign = log.views["snapshots"]["s-1"] | {"volume_id": "evil/shop/prod/site/volume/data"}
    wanted = Restoring("snapshot", "s-1", foreign, NEW, log.volume(NEW), log.node())
    assert code(ask_restore("w-1", wanted, ANN)) == "forbidden"


def test_what_cannot_be_is_refused_before_it_is_queued(log: Log) -> None:
    assert code(ask_snapshot("s-1", NEW, log.volume(NEW), None, "", ANN)) == "volume_not_found", "it has no data"
    assert code(ask_snapshot("s-1", "acme/a/b/c/volume/d", None, None, "", ANN)) == "volume_not_found"
    away = {**log.node(), "state": "offline"}
    assert code(ask_snapshot("s-1", VOLUME, log.volume(), away, "", ANN)) == "node_not_eligible"
    assert code(log.backup("b-1")) == "snapshot_not_found"
    log.append(log.snapshot("s-1"))
    assert code(log.backup("b-1")) == "snapshot_not_succeeded"
    log.done("snapshot", "s-1")
    assert code(log.restore("w-1", "backup", "b-9", "node-b")) == "backup_metadata_missing"
    assert code(log.restore("w-1", "snapshot", "s-1", "node-b")) == "node_not_eligible", "it is on node-a"
    assert code(log.restore("w-1", "snapshot", "s-1", "node-a", into=VOLUME)) == "volume_not_new", (
        "nothing is overwritten"
    )
    small = {**log.volume(NEW), "spec": {"size_bytes": 1, "filesystem": "ext4"}}
    wanted = Restoring("snapshot", "s-1", log.views["snapshots"]["s-1"], NEW, small, log.node())
    assert code(ask_restore("w-1", wanted, ANN)) == "no_capacity"


def test_a_node_tells_of_its_own_work_in_the_order_of_the_lifecycle(log: Log) -> None:
    log.append(log.snapshot("s-1"))
    assert code(log.tell("snapshot", "s-1", Progress("running"), "node-b")) == "snapshot_foreign"
    assert code(log.tell("snapshot", "s-1", GOOD)) == "transition_invalid", "it does not run yet"
    assert code(log.tell("snapshot", "s-1", Progress("failed", reason_code="bad luck"))) == "report_invalid"
    assert code(log.tell("snapshot", "s-1", Progress("pruned"))) == "report_invalid"
    log.append(log.tell("snapshot", "s-1", Progress("running")))
    assert code(log.tell("snapshot", "s-1", Progress("succeeded"))) == "report_invalid", "how large, which digest?"
    assert log.tell("snapshot", "s-1", Progress("running")) is None, "said already"
    assert log.tell("snapshot", "s-9", Progress("running")) is None, "old news"
    log.append(log.tell("snapshot", "s-1", GOOD))
    assert code(log.tell("snapshot", "s-1", Progress("running"))) == "transition_invalid"


@pytest.mark.parametrize("change", ["gone", "placed"])
def test_a_restore_into_a_volume_that_is_not_new_any_more_has_failed(log: Log, change: str) -> None:
    log.append(log.snapshot("s-1"))
    log.done("snapshot", "s-1")
    log.append(log.restore("w-1", "snapshot", "s-1", "node-a"))
    log.append(log.tell("restore", "w-1", Progress("running")))
    if change == "gone":
        event = new_event("volume.deleted", resource_id=NEW, node_id="")
    else:
        event = new_event("volume.placed", resource_id=NEW, node_id="node-b")
    log.append(Append("meanwhile", "h", ANN, (event,), {}))
    log.append(log.tell("restore", "w-1", Progress("succeeded")))
    row = log.views["restores"]["w-1"]
    assert (row["status"], row["reason_code"]) == ("failed", "volume_not_found")
    assert log.held("restore") == {}
    assert change == "gone" or log.volume(NEW)["home_node"] == "node-b"


def test_the_newest_good_backup_is_never_pruned(log: Log) -> None:
    log.append(log.snapshot("s-1"))
    log.done("snapshot", "s-1")
    for name, last in (("b-1", GOOD), ("b-2", GOOD), ("b-3", Progress("failed", reason_code="master_key_unavailable"))):
        log.append(log.backup(name))
        log.done("backup", name, last)
    rows = log.views["backups"]

    def prune(name: str, volume: Any) -> Any:
        return copies.prune_backup(rows[name], list(rows.values()), volume, Cause("system", "backups", "acme"))

    assert code(prune("b-2", log.volume())) == "backup_newest", "a failed one is no successor"
    assert code(prune("b-3", log.volume())) == "transition_invalid"
    assert isinstance(prune("b-2", None), Append), "its volume is gone"
    log.append(prune("b-1", log.volume()))
    assert set(log.views["backups"]) == {"b-2", "b-3"}


def test_the_reasons_are_those_of_the_schemas() -> None:
    for (name, _), document in load_event_schemas().items():
        if name.endswith(".status_changed") and name.partition(".")[0] in WORKS:
            assert document["properties"]["reason_code"]["enum"] == ["", *REASONS]
