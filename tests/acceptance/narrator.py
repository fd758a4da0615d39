"""What a person sees while the demo runs: steps, what was seen, how long it took, and the count of checks.

Lines are at most WIDTH_MAX columns; what is longer goes on below, indented. On a terminal the last line says what is
being waited for; elsewhere that is said once a wait has lasted SAY_AFTER_S, and then every so often.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kit.errors import TrueupError

T = TypeVar("T")
POLL_S = 0.2
SAY_AFTER_S = 10.0
WIDTH_MIN, WIDTH_MAX = 60, 110
MARGIN = " " * 11


class CheckFailed(Exception):
    """A check of the demo did not hold."""


class Narrator:
    """`steps`: how many are expected, for the headings; 0 leaves it out."""

    def __init__(self, steps: int = 0) -> None:
        self.passed = 0
        self.failed = 0
        self._steps = steps
        self._step = 0
        self._started = self._step_started = time.monotonic()
        self._tty = sys.stdout.isatty()
        self.width = max(WIDTH_MIN, min(WIDTH_MAX, shutil.get_terminal_size((WIDTH_MAX, 24)).columns))

    def step(self, title: str) -> None:
        """Ends the step before and begins the next."""
        now = time.monotonic()
        if self._step:
            self.say(f"step {self._step} took {now - self._step_started:.1f} s")
        self._step, self._step_started = self._step + 1, now
        number = f"{self._step}/{self._steps}" if self._steps else str(self._step)
        print(flush=True)
        self._line(f"[{now - self._started:6.1f} s] {number} {title}")

    def say(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self._line(MARGIN + line, MARGIN + "  ")

    def check(self, what: str, holds: bool, seen: str = "") -> None:
        """Counts and prints one check; a failed one ends the demo."""
        if holds:
            self.passed += 1
            self._line(f"  ok       {what}" + (f"  ({seen})" if seen else ""))
            return
        self.failed += 1
        self._line(f"  FAILED   {what}" + (f"  (seen: {seen})" if seen else ""))
        raise CheckFailed(what)

    async def until(self, what: str, look: Callable[[], Awaitable[tuple[T | None, str]]], within_s: float) -> T:
        """Calls `look` until it returns something that is not None; its text says what is seen meanwhile."""
        started, said_at, seen = time.monotonic(), 0.0, ""
        while (elapsed := time.monotonic() - started) < within_s:
            try:
                found, seen = await look()
            except (TrueupError, OSError, TimeoutError) as error:
                found, seen = None, str(error)
            if found is not None:
                self._clear()
                self.passed += 1
                self._line(f"  ok       {what}  (after {time.monotonic() - started:.1f} s: {seen})")
                return found
            said_at = self._waiting(f"{what}: {elapsed:.0f} of {within_s:.0f} s; {seen}", elapsed, said_at)
            await asyncio.sleep(POLL_S)
        self._clear()
        self.failed += 1
        self._line(f"  FAILED   {what}  (not within {within_s:.0f} s; last seen: {seen})")
        raise CheckFailed(what)

    def total(self) -> str:
        return f"demo: {self.passed} checks passed, {self.failed} failed"

    def _waiting(self, text: str, elapsed_s: float, said_at_s: float) -> float:
        """When it was last said, in seconds of this wait."""
        if self._tty:
            print(f"\r\x1b[2K{f'  waiting  {text}'[: self.width - 1]}", end="", flush=True)
        elif elapsed_s - said_at_s >= SAY_AFTER_S:
            self._line(f"  waiting  {text}")
            return elapsed_s
        return said_at_s

    def _line(self, text: str, below: str = MARGIN) -> None:
        pieces = textwrap.wrap(text, self.width, subsequent_indent=below, break_on_hyphens=False)
        print("\n".join(pieces), flush=True)

    def _clear(self) -> None:
        if self._tty:
            print("\r\x1b[2K", end="", flush=True)
