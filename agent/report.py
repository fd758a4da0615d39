"""Transitions on their way to the controller. Filled by the actors, drained by one loop of `agent.loop`.

Each report is a file of its own in STATE/reports until the controller has recorded it, so that neither a crash of the
agent nor a long silence of the controller loses one. Counters only grow, also when the state folder is lost: a new one
begins at `first_counter`, for which the start's Unix time is given (a node makes less than one report a second, on
average); a controller takes a smaller counter for an old report, and one that knows a larger counter than was ever
given here is told everything that waits anew, above it. Over QUEUE_MAX reports, and of what changes too often
(`kit.pacing`), older transitions of the same instance or volume are dropped, oldest first, but never the newest of
each.

What the controller refuses for what it is (an old epoch) is over: it is logged, not sent again. A batch that it cannot
read is halved until the one report that it cannot read is alone, and that one is put aside.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kit import logs, request_ids
from kit.backoff import Backoff
from kit.clock import Clock, SystemClock
from kit.codec import from_json, to_json
from kit.errors import Refusal, TrueupError
from kit.files import write_json
from kit.halving import deliver
from kit.pacing import Pace
from kit.wire import InstanceReport, NodeReport, VolumeReport

BATCH_S = 0.2
BATCH_MAX = 200
QUEUE_MAX = 2000
BACKOFF = Backoff(first_s=0.2, cap_s=15.0)
DETAIL_CHARS_MAX = 2000
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
        clock: Clock | None = None,
    ) -> None:
        self._folder = state / "reports"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._node_id = node_id
        self._post = post
        self._rng = rng
        self._queue_max = queue_max
        self._clock = clock or SystemClock()
        self._pace = Pace()
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
        self._put(replace(report, counter=self._counter, reason_detail=report.reason_detail[:DETAIL_CHARS_MAX]))
        self._make_room()
        self._wake.set()

    async def run(self) -> None:
        """Sends until cancelled."""
        failures = 0
        while True:
            await self._wake.wait()
            await self._clock.sleep(BATCH_S)
            try:
                await self.send_once()
                failures = 0
            except TrueupError as error:
                failures += 1
                _log.warning("reports not delivered", waiting=len(self._queue), failures=failures, why=str(error))
                await self._clock.sleep(BACKOFF.delay_s(failures, self._rng))

    async def send_once(self) -> None:
        """What is due of what waits, as one report."""
        if batch := self._due()[:BATCH_MAX]:
            await deliver(batch, self._send, self._put_aside)
        if not self._queue:
            self._wake.clear()

    def _due(self) -> list[Report]:
        """In their order. Of a subject that has more than its pace allows only the newest are kept."""
        now_s, due = self._clock.now_s(), []
        self._pace.forget(now_s)
        waiting: dict[str, list[Report]] = {}
        for report in self._queue.values():
            waiting.setdefault(_subject(report), []).append(report)
        for subject, reports in waiting.items():
            allowance = self._pace.allowance(subject, now_s)
            for superseded in reports[: -max(allowance, 1)]:
                self._drop(superseded.counter)
            due += reports[-allowance:] if allowance else []
        return sorted(due, key=lambda report: report.counter)

    async def _send(self, batch: Sequence[Report]) -> None:
        request_id = request_ids.work_on(request_ids.made())
        answer = await self._post(to_json(self._document(batch)))
        self._recorded(batch, answer or {}, request_id)

    def _put_aside(self, report: Report, error: Refusal) -> None:
        path = self._file(report.counter)
        _log.error("the controller cannot read a report; it was put aside", path=str(path), why=str(error))
        self._queue.pop(report.counter, None)
        path.replace(path.with_suffix(".refused"))

    def _recorded(self, batch: Sequence[Report], answer: Mapping[str, Any], request_id: str) -> None:
        now_s = self._clock.now_s()
        for report in batch:
            self._pace.told(_subject(report), now_s)
            self._drop(report.counter)
        _log.info("reports recorded", reports=len(batch), request_id=request_id)
        for each in answer.get("refused", ()):
            _log.warning("report refused", code=each["code"], why=each["detail"], request_id=request_id)
        if answer.get("counter", 0) > self._counter:
            self._number_anew(batch, answer["counter"])

    def _number_anew(self, batch: Sequence[Report], known: int) -> None:
        """The state folder was lost and the clock went back: what was sent was taken for old."""
        _log.warning("the controller knows a later report than this agent gave", counter=self._counter, known=known)
        again = [*batch, *self._queue.values()]
        for report in list(self._queue.values()):
            self._drop(report.counter)
        self._counter = known
        for report in again:
            self.push(report)

    def _document(self, batch: Sequence[Report]) -> NodeReport:
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
