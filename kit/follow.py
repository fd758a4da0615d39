"""Level-triggered following: read the plan, then let the change stream say when to read it again.

Called by the loops of `agent` and `edge`. `follow_plan` promises: `on_plan` gets the newest plan soon after every
change, never two calls at once; changes that come while it works are one later call; nothing is missed across
reconnects, restarts of the controller, or a log that was restored (410: start again from a plan).

Of a plan that is held already only what changed is sent, and the digest of the whole (`kit.plan_delta`). When that is
not the digest of what is held here then, `on_plan` does not see it, and the whole is read at once.

The stream is preferred. When it is silent where it never is (no hello within HELLO_TIMEOUT_S, no bookmark for
IDLE_TIMEOUT_S: a proxy that buffers), or breaks STREAM_FAILURES_MAX times without a single line, the long poll with the
same cursor takes over for a while. A controller that says when to come back is not asked before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kit import logs
from kit.backoff import Backoff
from kit.control_plane import ControlPlane
from kit.errors import Refusal, Transient, TrueupError
from kit.plan_delta import PLAN_BASE, whole
from kit.programs import until_one_ends

Plan = TypeVar("Plan")
HELLO_TIMEOUT_S = 10.0
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
    timeouts_s: tuple[float, float] = (HELLO_TIMEOUT_S, IDLE_TIMEOUT_S),
) -> None:
    """Runs until `stop` is set. `decode` makes a plan of the JSON document, whose log_id and generation are used.
    `timeouts_s`: how long a stream may be silent before its greeting, and after it."""
    chance = rng or random.Random()  # noqa: S311  # jitter
    follower = _Follower(control_plane, backoff or Backoff(0.2, 15.0), chance, timeouts_s)
    await until_one_ends(follower.read_plans(plan_path, decode, on_plan), follower.hear_changes(), stop.wait())


class _Follower:
    def __init__(
        self, control_plane: ControlPlane, backoff: Backoff, rng: random.Random, timeouts_s: tuple[float, float]
    ) -> None:
        self._control_plane = control_plane
        self._backoff = backoff
        self._rng = rng
        self._cursor = _Cursor()
        self._hello_timeout_s, self._idle_timeout_s = timeouts_s
        self._held: Mapping[str, Any] | None = None
        self._lines = 0
        self._have_cursor = asyncio.Event()
        self._polls_left = 0

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

    async def _pause(self, failures: int, error: TrueupError | None = None) -> None:
        """Not before the controller wants to be asked again; then spread over as long again."""
        wanted_s = error.retry_after_s * (1 + self._rng.random()) if error else 0.0
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
        failures = 0
        while True:
            await self._have_cursor.wait()
            broke: TrueupError | None = None
            self._lines = 0
            try:
                await self._hear_once()
            except Refusal as error:
                self._restart(error)
                broke = error
            except TrueupError as error:
                _log.info("stream broke", why=str(error), code=error.code)
                broke = error
            failures = 0 if self._lines else failures + 1
            if failures >= STREAM_FAILURES_MAX or (broke is not None and broke.code == "stream_silent"):
                self._polls_left = LONG_POLLS_BEFORE_STREAM
            await self._pause(max(failures, 1), broke)

    async def _hear_once(self) -> None:
        """One connection, or one long poll. A controller greets at once, whichever it is; but the greeting of a long
        poll comes with its answer."""
        wait: dict[str, str | int] = {"wait": LONG_POLL_S} if self._polls_left else {}
        self._polls_left = max(0, self._polls_left - 1)
        idle_s, hello_s = self._idle_timeout_s, None if wait else self._hello_timeout_s
        path, cursor = "/v1/stream", self._cursor.text
        try:
            async with asyncio.timeout(hello_s) as patience:
                async with self._control_plane.lines(path, idle_timeout_s=idle_s, cursor=cursor, **wait) as stream:
                    async for line in stream:
                        patience.reschedule(None)
                        self._lines += 1
                        self._take(line)
        except TimeoutError as error:
            raise Transient(f"GET {path}", f"no greeting came for {hello_s} s", code="stream_silent") from error

    def _take(self, line: dict[str, Any]) -> None:
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
