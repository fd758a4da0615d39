"""One reader's connections to the change stream, one after the other.

Used by `kit.follow` and `kit.follow_changes`, which keep the cursor. Here are the time-outs, the pauses, and the choice
between stream and long poll (`kit.stream_course`); both bring the same lines. docs/CLIENTS.md tells what they mean.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

from kit import logs
from kit.control_plane import ControlPlane
from kit.errors import Refusal, Transient, TrueupError
from kit.stream_course import STREAM_SILENT, Course, Outcome, Pace

PATH = "/v1/stream"
Line = Mapping[str, Any]
OnBreak = Callable[[TrueupError, int], None]
"""Is told why a connection broke, and how many in a row have brought nothing."""
_NEEDS = {"hello": ("cursor",), "change": ("cursor", "event"), "removal": ("cursor",), "bookmark": ("cursor",)}
_log = logs.get("stream")


class Stream:
    """`query`: the filter. Where to go on from is the caller's affair, so that only the caller says what is done."""

    def __init__(
        self,
        control_plane: ControlPlane,
        query: Mapping[str, str],
        *,
        pace: Pace | None = None,
        rng: random.Random | None = None,
        on_break: OnBreak | None = None,
    ) -> None:
        self._control_plane = control_plane
        self._query = query
        self._pace = pace or Pace()
        self._rng = rng or random.Random()  # noqa: S311  # jitter
        self._course = Course(self._pace)
        self._on_break = on_break
        self._not_before_s = 0.0

    async def connection(self, cursor: str, *, snapshot: bool = False) -> AsyncGenerator[Line, None]:
        """The lines behind `cursor` until the connection ends, however it does; it begins after the pause that is due.
        Without a cursor: the lines from now on, with `snapshot` those of what there is now before them. A `Refusal`
        is raised; whatever may go better the next time is only told to `on_break`."""
        await asyncio.sleep(self._not_before_s - _now_s())
        started_s = _now_s()
        polled, brought, ended, broke = self._course.polls(started_s), 0, False, None
        try:
            async with aclosing(self._lines(cursor, snapshot=snapshot, polled=polled)) as lines:
                async for line in lines:
                    brought += line["type"] not in ("hello", "end")
                    ended = ended or line["type"] == "end"
                    _tell_of(line)
                    yield line
        except TrueupError as error:
            broke = error
            if isinstance(error, Refusal):
                raise
        finally:
            now_s = _now_s()
            outcome = Outcome(polled, brought, ended, now_s - started_s, broke)
            self._not_before_s = now_s + self._course.pause_s(outcome, now_s, self._rng)
            self._say(broke)

    async def _lines(self, cursor: str, *, snapshot: bool, polled: bool) -> AsyncGenerator[Line, None]:
        """A controller greets at once, but the greeting of a long poll comes with its answer."""
        hello_s = None if polled else self._pace.hello_s
        query = {**self._query, "cursor": cursor, "snapshot": "1" if snapshot else ""}
        query["wait"] = f"{self._pace.long_poll_s:g}" if polled else ""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(hello_s):
                    lines = await stack.enter_async_context(
                        self._control_plane.lines(PATH, idle_timeout_s=self._pace.idle_s, **query)
                    )
                    first = await anext(lines, None)
            except TimeoutError as error:
                why = f"no greeting came for {self._pace.hello_s:g} s"
                raise Transient(f"GET {PATH}", why, code=STREAM_SILENT) from error
            if first is not None:
                yield _checked(first)
            async for line in lines:
                yield _checked(line)

    def _say(self, broke: TrueupError | None) -> None:
        if broke is None or isinstance(broke, Refusal):
            return
        failures = self._course.failures
        _log.info("stream broke", why=str(broke), code=broke.code, failures=failures)
        if self._on_break is not None:
            self._on_break(broke, failures)


def _tell_of(line: Line) -> None:
    if line["type"] == "hello" and line.get("cut_off"):
        _log.warning("the controller cut this reader off before", reason=line["cut_off"], cursor=line["cursor"])
    if line["type"] == "end":
        _log.info("stream ends", reason=line.get("reason", ""))


def _checked(line: Any) -> Line:
    """Of the lines that are known what is needed is there; others are for a later version of this client."""
    if not isinstance(line, dict) or not isinstance(line.get("type"), str):
        raise Transient(f"GET {PATH}", "what came is no line of a change stream", code="stream_garbled")
    if missing := [name for name in _NEEDS.get(line["type"], ()) if not line.get(name)]:
        raise Transient(f"GET {PATH}", f"a line {line['type']!r} came without {missing[0]!r}", code="stream_garbled")
    return line


def _now_s() -> float:
    return asyncio.get_running_loop().time()
