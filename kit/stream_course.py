"""Stream or long poll next, and after what pause: decided from how the connections before went. Pure.

Asked by `kit.stream` before and after each connection.

1. The stream is preferred. A long poll costs a request for each answer.
2. A stream is barren when nothing came but a greeting, although the controller could be reached: a proxy that buffers,
   or that breaks what lasts. One that was silent (no greeting in time, or nothing after it) is left for a long poll at
   once, one that broke after BARREN_MAX in a row. One that fell silent later (half-open) is opened anew.
3. When that long poll is answered, the next ones follow it for `polling_s`; then the stream is tried again. Each time
   that it is no better, the long polls go on for twice as long, up to `polling_s_max`.
4. When that long poll is not answered either, it was not for the stream: the stream is next.
5. A controller that cannot be reached, that says no, or that says when to come back, says nothing about streams.
6. Nobody comes back before Retry-After, and then spread over as long again. When a good stream breaks everybody's may
   have broken, so who comes back does so spread over `reconnect_s`. Otherwise the pause grows with each connection in
   a row that brought nothing. A long poll that brought something is followed by the next at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kit.backoff import Backoff, Chance
from kit.errors import TrueupError

BARREN_MAX = 3
POLL_REST_S = 0.05
SPREAD = 0.25
STREAM_SILENT = "stream_silent"
UNREACHABLE = "controller_unreachable"


@dataclass(frozen=True, slots=True)
class Pace:
    """`hello_s`, `idle_s`: how long a stream may be silent before its greeting, and after it."""

    hello_s: float = 10.0
    idle_s: float = 45.0  # three bookmarks
    long_poll_s: float = 25.0
    polling_s: float = 60.0
    polling_s_max: float = 3600.0
    reconnect_s: float = 1.0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.2, 15.0, jitter=1.0))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one connection. `brought`: lines besides the greeting and the end. `ended`: with an end line."""

    polled: bool
    brought: int = 0
    ended: bool = False
    lasted_s: float = 0.0
    error: TrueupError | None = None


@dataclass(slots=True)
class Course:
    pace: Pace
    failures: int = 0
    """Connections in a row that brought nothing."""
    _barren: int = 0
    _polling: bool = False
    _until_s: float | None = None
    _length_s: float = 0.0

    def polls(self, now_s: float) -> bool:
        """Whether a long poll is next."""
        if self._until_s is not None and now_s >= self._until_s:
            self._polling, self._until_s = False, None
        return self._polling

    def pause_s(self, outcome: Outcome, now_s: float, rng: Chance) -> float:
        """Takes note of a connection that ended at `now_s`, and says how long to wait before the next."""
        good = outcome.brought > 0 or self._lasted(outcome)
        self.failures = 0 if good else self.failures + 1
        if outcome.polled:
            self._polled(good=good, now_s=now_s, rng=rng)
        else:
            self._streamed(outcome, good=good)
        return self._rest_s(outcome, good=good, rng=rng)

    def _lasted(self, outcome: Outcome) -> bool:
        """A stream of which something in between makes an end now and then, and on which nothing happened."""
        return not outcome.polled and not _silent(outcome) and outcome.lasted_s >= self.pace.hello_s

    def _streamed(self, outcome: Outcome, *, good: bool) -> None:
        if good:
            self._barren = 0
            self._length_s = self._length_s if _silent(outcome) else 0.0
        elif not outcome.ended and _says_something_about_streams(outcome.error):
            self._barren = BARREN_MAX if _silent(outcome) else self._barren + 1
            self._polling = self._barren >= BARREN_MAX

    def _polled(self, *, good: bool, now_s: float, rng: Chance) -> None:
        if self._until_s is None:  # the first one
            self._polling = good
            if good:
                self._length_s = min(self._length_s * 2 or self.pace.polling_s, self.pace.polling_s_max)
                self._until_s = now_s + self._length_s * (1 + SPREAD * rng.random())

    def _rest_s(self, outcome: Outcome, *, good: bool, rng: Chance) -> float:
        wanted_s = outcome.error.retry_after_s * (1 + rng.random()) if outcome.error else 0.0
        return max(wanted_s, self._own_rest_s(outcome, good=good, rng=rng))

    def _own_rest_s(self, outcome: Outcome, *, good: bool, rng: Chance) -> float:
        if not good:
            return self.pace.backoff.delay_s(self.failures, rng)
        at_once = outcome.polled and outcome.error is None
        return POLL_REST_S if at_once else self.pace.reconnect_s * rng.random()


def _silent(outcome: Outcome) -> bool:
    return outcome.error is not None and outcome.error.code == STREAM_SILENT


def _says_something_about_streams(error: TrueupError | None) -> bool:
    return error is None or (error.retryable and error.code != UNREACHABLE and not error.retry_after_s)
