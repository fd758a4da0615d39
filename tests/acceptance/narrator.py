"""What a person sees while the demo runs: steps, what was seen, how long it took, and the count of checks."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kit.errors import TrueupError

T = TypeVar("T")
POLL_S = 0.2


class CheckFailed(Exception):
    """A check of the demo did not hold."""


class Narrator:
    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self._started = time.monotonic()
        self._tty = sys.stdout.isatty()

    def step(self, title: str) -> None:
        self._line(f"\n[{self._clock()}] {title}")

    def say(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self._line(f"           {line}")

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
        started, seen = time.monotonic(), ""
        while time.monotonic() - started < within_s:
            try:
                found, seen = await look()
            except (TrueupError, OSError, TimeoutError) as error:
                found, seen = None, str(error)
            if found is not None:
                self._clear()
                self.passed += 1
                self._line(f"  ok       {what}  (after {time.monotonic() - started:.1f} s: {seen})")
                return found
            self._progress(f"  waiting  {what}: {time.monotonic() - started:.0f} s, {seen}")
            await asyncio.sleep(POLL_S)
        self._clear()
        self.failed += 1
        self._line(f"  FAILED   {what}  (not within {within_s:.0f} s; last seen: {seen})")
        raise CheckFailed(what)

    def total(self) -> str:
        return f"demo: {self.passed} checks passed, {self.failed} failed"

    def _clock(self) -> str:
        return f"{time.monotonic() - self._started:6.1f} s"

    def _line(self, text: str) -> None:
        print(text, flush=True)

    def _progress(self, text: str) -> None:
        if self._tty:
            print(f"\r\x1b[2K{text[:150]}", end="", flush=True)

    def _clear(self) -> None:
        if self._tty:
            print("\r\x1b[2K", end="", flush=True)
