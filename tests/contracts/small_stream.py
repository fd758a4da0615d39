"""A small controller that keeps the contract of the change stream, for tests of clients. Its fleet are nodes.

tests/contracts/test_change_stream.py holds it and the real one against the same promises.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

BOOKMARK_EVERY_S = 0.1
_CURSOR = re.compile(r"[a-z0-9-]+\.\d+")


@dataclass
class SmallController:
    """`events`: one command each."""

    log_id: str = "log-1"
    events: list[dict[str, Any]] = field(default_factory=list)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    def enrol(self, node_id: str) -> None:
        number = len(self.events) + 1
        event = {
            "event_id": number,
            "event_type": "node.enrolled",
            "aggregate_type": "node",
            "aggregate_id": node_id,
            "command_id": f"enrol-{number}",
            "payload": {"node_id": node_id},
        }
        self.events.append(event)
        self._wake()

    def restore(self, log_id: str) -> None:
        self.log_id = log_id
        self.events = []
        self._wake()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/stream", self.stream)
        return app

    async def stream(self, request: web.Request) -> web.StreamResponse:
        cursor, snapshot = request.query.get("cursor", ""), request.query.get("snapshot") == "1"
        if cursor and (snapshot or not _CURSOR.fullmatch(cursor)):
            return _problem(400, "invalid_argument", detail=f"cursor {cursor!r} is not LOGID.NUMBER, or not alone")
        log_id, _, number = (cursor or self._cursor(len(self.events))).rpartition(".")
        if log_id != self.log_id or int(number) > len(self.events):
            return _problem(410, "cursor_invalid", cursor=self._cursor(len(self.events)))
        answer = web.StreamResponse()
        await answer.prepare(request)
        wait_s = float(request.query["wait"]) if "wait" in request.query else None
        position = int(number)
        await answer.write(b"".join(self._first(position, snapshot=snapshot)))
        if not (snapshot and wait_s is not None):
            await self._follow(answer, position, wait_s)
        return answer

    async def _follow(self, answer: web.StreamResponse, position: int, wait_s: float | None) -> None:
        log_id = self.log_id
        while True:
            await self._wait(position, BOOKMARK_EVERY_S if wait_s is None else wait_s)
            if log_id != self.log_id:
                await answer.write(_line(type="end", reason="log_changed"))
                return
            changes = [_line(type="change", cursor=self._cursor(each), event=self.events[each - 1])
                       for each in range(position + 1, len(self.events) + 1)]  # fmt: skip
            position = len(self.events)
            await answer.write(b"".join(changes) + _line(type="bookmark", cursor=self._cursor(position)))
            if wait_s is not None:
                return

    def _first(self, position: int, *, snapshot: bool) -> Iterator[bytes]:
        yield _line(type="hello", log_id=self.log_id, cursor=self._cursor(position))
        if snapshot:
            for node_id in sorted({event["aggregate_id"] for event in self.events}):
                yield _line(type="row", view="nodes", key=node_id, doc={"node_id": node_id})
            yield _line(type="bookmark", cursor=self._cursor(position))

    async def _wait(self, position: int, wait_s: float) -> None:
        grown, log_id = self._grown, self.log_id
        try:
            async with asyncio.timeout(wait_s):
                while len(self.events) <= position and log_id == self.log_id:
                    await grown.wait()
                    grown = self._grown
        except TimeoutError:
            return

    def _cursor(self, position: int) -> str:
        return f"{self.log_id}.{position}"

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _problem(status: int, code: str, **more: str) -> web.Response:
    document = {"code": code, "detail": code, "status": status, "retryable": False, **more}
    return web.json_response(document, status=status, content_type="application/problem+json")
