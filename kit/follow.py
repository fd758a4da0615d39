"""Level-triggered following: read the plan, then let the change stream say when to read it again.

Called by the loops of `agent` and `edge`. `follow_plan` promises: `on_plan` gets the newest plan soon after every
change, never two calls at once; changes that come while it works are one later call; nothing is missed across
reconnects, restarts of the controller, or a log that was restored (410: start again from a plan).

The stream is preferred; when it breaks STREAM_FAILURES_MAX times without a single line (a proxy that buffers, say), the
long poll with the same cursor takes over for a while.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kit import logs
from kit.backoff import Backoff
from kit.control_plane import ControlPlane
from kit.errors import Refusal, TrueupError
from kit.programs import until_one_ends

Plan = TypeVar("Plan")
IDLE_TIMEOUT_S = 45.0  # three bookmarks
LONG_POLL_S = 25
STREAM_FAILURES_MAX = 3
LONG_POLLS_BEFORE_STREAM = 20
COALESCE_S = 0.02  # changes of one commit come together; one read serves them all
RESYNC_S = 60.0  # read the plan this often even if nothing was heard
_log = logs.get("follow")


@dataclass
class _Cursor:
    """Where the follower is. `heard`: something changed that the plan in hand does not show."""

    text: str = ""
    heard: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event_id: int) -> None:
        self.heard = max(self.heard, event_id)
        self.wake.set()


async def follow_plan(
    control_plane: ControlPlane,
    plan_path: str,
    decode: Callable[[Any], Plan],
    on_plan: Callable[[Plan], Awaitable[None]],
    stop: asyncio.Event,
    *,
    backoff: Backoff | None = None,
    rng: random.Random | None = None,
) -> None:
    """Runs until `stop` is set. `decode` makes a plan of the JSON document, whose log_id and generation are used."""
    follower = _Follower(control_plane, backoff or Backoff(0.2, 15.0), rng or random.Random())  # noqa: S311  # jitter
    await until_one_ends(follower.read_plans(plan_path, decode, on_plan), follower.hear_changes(), stop.wait())


class _Follower:
    def __init__(self, control_plane: ControlPlane, backoff: Backoff, rng: random.Random) -> None:
        self._control_plane = control_plane
        self._backoff = backoff
        self._rng = rng
        self._cursor = _Cursor()
        self._have_cursor = asyncio.Event()
        self._polls_left = 0

    async def read_plans(
        self, path: str, decode: Callable[[Any], Plan], on_plan: Callable[[Plan], Awaitable[None]]
    ) -> None:
        failures = 0
        while True:
            self._cursor.wake.clear()
            try:
                document = await self._control_plane.get_json(path, min_event_id=self._cursor.heard or "")
                await on_plan(decode(document))
                failures = 0
                self._start_from(document)
            except TrueupError as error:
                failures += 1
                _log.warning("plan not read", path=path, failures=failures, why=str(error))
                await asyncio.sleep(self._backoff.delay_s(failures, self._rng))
                continue
            await self._wait_for_change()

    def _start_from(self, document: dict[str, Any]) -> None:
        if not self._have_cursor.is_set():
            self._cursor.text = f"{document['log_id']}.{document['generation']}"
            self._have_cursor.set()

    async def _wait_for_change(self) -> None:
        try:
            # Not wait_for: it may swallow a cancellation.
            async with asyncio.timeout(RESYNC_S * (1 + 0.25 * self._rng.random())):
                await self._cursor.wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(COALESCE_S)

    async def hear_changes(self) -> None:
        failures = 0
        while True:
            await self._have_cursor.wait()
            try:
                heard = await self._hear_once()
            except Refusal as error:
                self._restart(error)
                heard = 0
            except TrueupError as error:
                _log.info("stream broke", why=str(error))
                heard = 0
            failures = 0 if heard else failures + 1
            if failures >= STREAM_FAILURES_MAX:
                self._polls_left = LONG_POLLS_BEFORE_STREAM
            await asyncio.sleep(self._backoff.delay_s(max(failures, 1), self._rng))

    async def _hear_once(self) -> int:
        """One connection, or one round of long polls. The number of lines that were heard."""
        lines = 0
        wait: dict[str, str | int] = {"wait": LONG_POLL_S} if self._polls_left else {}
        self._polls_left = max(0, self._polls_left - 1)
        idle_s = IDLE_TIMEOUT_S
        path = "/v1/stream"
        async with self._control_plane.lines(path, idle_timeout_s=idle_s, cursor=self._cursor.text, **wait) as stream:
            async for line in stream:
                lines += 1
                self._take(line)
        return lines

    def _take(self, line: dict[str, Any]) -> None:
        if line["type"] == "change":
            self._cursor.hear(int(line["event"]["event_id"]))
        if line["type"] in ("change", "bookmark"):
            self._cursor.text = line["cursor"]

    def _restart(self, error: Refusal) -> None:
        """The cursor is not of this log, or too old: only a new plan can say where to go on."""
        _log.warning("cursor refused, reading the plan anew", why=str(error), cursor=self._cursor.text)
        self._have_cursor.clear()
        self._cursor.heard = 0
        self._cursor.wake.set()
