"""Level-triggered following: read the plan, then let the change stream say when to read it again.

Called by the loops of `agent` and `edge`. `follow_plan` promises: `on_plan` gets the newest plan soon after every
change, never two calls at once; changes that come while it works are one later call; nothing is missed across
reconnects, restarts of the controller, or a log that was restored (410: start again from a plan).

Of a plan that is held already only what changed is sent, and the digest of the whole (`kit.plan_delta`). When that is
not the digest of what is held here then, `on_plan` does not see it, and the whole is read at once. The connection is
that of `kit.stream`, with the long poll where streams do not get through. A controller that says when to come back is
not asked before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kit import logs
from kit.backoff import Backoff
from kit.control_plane import ControlPlane
from kit.errors import Refusal, TrueupError
from kit.plan_delta import PLAN_BASE, whole
from kit.programs import until_one_ends
from kit.stream import Line, Stream
from kit.stream_course import Pace

Plan = TypeVar("Plan")
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
    pace: Pace | None = None,
) -> None:
    """Runs until `stop` is set. `decode` makes a plan of the JSON document, whose log_id and generation are used.
    `backoff`: between reads of the plan that fail."""
    chance = rng or random.Random()  # noqa: S311  # jitter
    stream = Stream(control_plane, {}, pace=pace, rng=chance)
    follower = _Follower(control_plane, stream, backoff or Backoff(0.2, 15.0), chance)
    await until_one_ends(follower.read_plans(plan_path, decode, on_plan), follower.hear_changes(), stop.wait())


class _Follower:
    def __init__(self, control_plane: ControlPlane, stream: Stream, backoff: Backoff, rng: random.Random) -> None:
        self._control_plane = control_plane
        self._stream = stream
        self._backoff = backoff
        self._rng = rng
        self._cursor = _Cursor()
        self._held: Mapping[str, Any] | None = None
        self._have_cursor = asyncio.Event()

    async def read_plans(
        self, path: str, decode: Callable[[Any], Plan], on_plan: Callable[[Plan], Awaitable[None]]
    ) -> None:
        failures = 0
        while True:
            self._cursor.wake.clear()
            try:
                document = await self._read_plan(path)
                await on_plan(decode(document))
                failures = 0
                self._start_from(document)
            except TrueupError as error:
                failures += 1
                _log.warning("plan not read", path=path, failures=failures, why=str(error))
                await self._pause(failures, error)
                continue
            await self._wait_for_change()

    async def _read_plan(self, path: str) -> Mapping[str, Any]:
        """What changed since the plan that is held, if one is; else, and when that leads to another plan than it
        should, all of it."""
        held, self._held = self._held, None
        base = held.get("digest", "") if held else ""
        answer = await self._ask_for_plan(path, {PLAN_BASE: base} if base else {})
        try:
            self._held = whole(held, answer)
        except TrueupError as error:
            if error.code != "plan_drift" or not base:
                raise
            _log.error("the plan here and the controller's went apart; reading the whole", path=path, why=str(error))
            self._held = whole(None, await self._ask_for_plan(path, {}))
        return self._held

    async def _ask_for_plan(self, path: str, headers: Mapping[str, str]) -> Mapping[str, Any]:
        heard = self._cursor.heard or ""
        answer: Mapping[str, Any] = await self._control_plane.get_json(path, headers=headers, min_event_id=heard)
        return answer

    async def _pause(self, failures: int, error: TrueupError) -> None:
        """Not before the controller wants to be asked again; then spread over as long again."""
        wanted_s = error.retry_after_s * (1 + self._rng.random())
        await asyncio.sleep(max(wanted_s, self._backoff.delay_s(failures, self._rng)))

    def _start_from(self, document: Mapping[str, Any]) -> None:
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
        while True:
            await self._have_cursor.wait()
            try:
                async with aclosing(self._stream.connection(self._cursor.text)) as lines:
                    async for line in lines:
                        self._take(line)
            except Refusal as error:
                self._restart(error)

    def _take(self, line: Line) -> None:
        if line["type"] == "change":
            self._cursor.hear(int(line["event"]["event_id"]))
        if line["type"] in ("change", "bookmark"):
            self._cursor.text = line["cursor"]

    def _restart(self, error: Refusal) -> None:
        """The cursor is not of this log, or too old: only a new plan can say where to go on."""
        _log.warning("cursor refused, reading the plan anew", why=str(error), cursor=self._cursor.text)
        self._have_cursor.clear()
        self._held = None
        self._cursor.heard = 0
        self._cursor.wake.set()
