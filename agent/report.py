"""Transitions on their way to the controller. Filled by the actors, drained by one loop of `agent.loop`.

Each report is a file of its own in STATE/reports until the controller has recorded it, so that neither a crash of the
agent nor a long silence of the controller loses one. Counters only grow, also when the state folder is lost: a new one
begins at `first_counter`, for which the start's Unix time is given (a node makes less than one report a second, on
average); a controller takes a smaller counter for an old report. Over QUEUE_MAX reports, older transitions of
the same instance or volume are dropped, oldest first, but never the newest of each.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kit import logs
from kit.backoff import Backoff
from kit.codec import from_json, to_json
from kit.errors import TrueupError
from kit.files import write_json
from kit.wire import InstanceReport, NodeReport, VolumeReport

BATCH_S = 0.2
BATCH_MAX = 200
QUEUE_MAX = 2000
BACKOFF = Backoff(first_s=0.2, cap_s=15.0)
Report = InstanceReport | VolumeReport
_log = logs.get("report")


class Reporter:
    """`post`: sends a NodeReport document; it returns when the controller has recorded it."""

    def __init__(
        self,
        state: Path,
        node_id: str,
        post: Callable[[Any], Awaitable[Any]],
        rng: random.Random,
        first_counter: int = 0,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self._folder = state / "reports"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._node_id = node_id
        self._post = post
        self._rng = rng
        self._queue_max = queue_max
        self._queue: dict[int, Report] = dict(sorted(self._read_queue()))
        self._counter = max([self._read_counter(first_counter), *self._queue])
        self._wake = asyncio.Event()
        if self._queue:
            self._wake.set()

    @property
    def waiting(self) -> tuple[Report, ...]:
        return tuple(self._queue.values())

    def push(self, report: Report) -> None:
        """Its counter is given here. On disk when this returns."""
        self._counter += 1
        write_json(self._folder / "counter", self._counter)
        self._put(replace(report, counter=self._counter))
        self._make_room()
        self._wake.set()

    async def run(self) -> None:
        """Sends until cancelled."""
        failures = 0
        while True:
            await self._wake.wait()
            await asyncio.sleep(BATCH_S)
            try:
                await self.send_once()
                failures = 0
            except TrueupError as error:
                failures += 1
                _log.warning("reports not delivered", waiting=len(self._queue), failures=failures, why=str(error))
                await asyncio.sleep(BACKOFF.delay_s(failures, self._rng))

    async def send_once(self) -> None:
        batch = list(self._queue.values())[:BATCH_MAX]
        if batch:
            await self._post(to_json(self._document(batch)))
            for report in batch:
                self._drop(report.counter)
        if not self._queue:
            self._wake.clear()

    def _document(self, batch: list[Report]) -> NodeReport:
        instances = tuple(report for report in batch if isinstance(report, InstanceReport))
        volumes = tuple(report for report in batch if isinstance(report, VolumeReport))
        return NodeReport(self._node_id, instances, volumes)

    def _make_room(self) -> None:
        if len(self._queue) <= self._queue_max:
            return
        newest = {_subject(report): counter for counter, report in self._queue.items()}
        superseded = [counter for counter, report in self._queue.items() if newest[_subject(report)] != counter]
        for counter in superseded[: len(self._queue) - self._queue_max]:
            self._drop(counter)

    def _put(self, report: Report) -> None:
        kind = "instance" if isinstance(report, InstanceReport) else "volume"
        write_json(self._file(report.counter), {"kind": kind, "report": to_json(report)})
        self._queue[report.counter] = report

    def _drop(self, counter: int) -> None:
        self._queue.pop(counter, None)
        self._file(counter).unlink(missing_ok=True)

    def _file(self, counter: int) -> Path:
        return self._folder / f"{counter:016d}.json"

    def _read_counter(self, first: int) -> int:
        try:
            return int((self._folder / "counter").read_text())
        except (FileNotFoundError, ValueError):
            return first

    def _read_queue(self) -> list[tuple[int, Report]]:
        found = ((int(path.stem), _read(path)) for path in self._folder.glob("*.json"))
        return [(counter, report) for counter, report in found if report is not None]


def _subject(report: Report) -> str:
    return report.instance_id if isinstance(report, InstanceReport) else f"volume {report.volume_id}"


def _read(path: Path) -> Report | None:
    try:
        document = json.loads(path.read_bytes())
        kind: type[Report] = InstanceReport if document["kind"] == "instance" else VolumeReport
        return from_json(kind, document["report"], where=str(path))
    except (ValueError, KeyError, TypeError, TrueupError) as error:
        _log.error("a waiting report is damaged and was put aside", path=str(path), why=str(error))
        path.replace(path.with_suffix(".damaged"))
        return None
