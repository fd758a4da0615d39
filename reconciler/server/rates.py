"""Who asks too often, and when to ask again. Called by `reconciler.server.guard` for every request.

A token bucket per caller and budget: `burst` requests at once, `per_s` in the long run. What is proven counts against
the identity, wherever it comes from, so that a site whose agents share one address is not punished for being large;
what is not proven (health probes, wrong tokens, webhooks before their signature was checked) counts against the
address. Each kind of traffic has a budget of its own: an operator's script cannot use up the heartbeats of a node.

Memory is bounded. When all places are taken, the bucket that was used least recently goes if it is full again, which
loses nothing; if it is not, the newcomers share one bucket until there is room.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from kit import logs
from reconciler.server.limits import Limits, Rate
from reconciler.server.problems import Problem
from reconciler.server.table import Budget

_log = logs.get("http")


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class Buckets:
    """Of one budget. Pure but for its own memory: the time is an argument."""

    def __init__(self, rate: Rate, callers_max: int) -> None:
        self._rate = rate
        self._callers_max = callers_max
        self._of: OrderedDict[str, _Bucket] = OrderedDict()
        self._shared = _Bucket(float(rate.burst), -math.inf)

    def __len__(self) -> int:
        return len(self._of)

    def take(self, caller: str, now_s: float, count: int = 1) -> float:
        """0 when the request is within the rate, which it then counts against; otherwise seconds until one will be.
        `count`: of what it holds, when that is what is bounded; it has to fit into the burst."""
        bucket = self._bucket(caller, now_s)
        if bucket.left < count:
            return (count - bucket.left) / self._rate.per_s
        bucket.left -= count
        return 0.0

    def wait_s(self, caller: str, now_s: float) -> float:
        """The same, and nothing is counted."""
        bucket = self._bucket(caller, now_s)
        return 0.0 if bucket.left >= 1 else (1 - bucket.left) / self._rate.per_s

    def _bucket(self, caller: str, now_s: float) -> _Bucket:
        bucket = self._of.get(caller)
        if bucket is None:
            bucket = self._new(caller, now_s)
        else:
            self._of.move_to_end(caller)
        self._fill(bucket, now_s)
        return bucket

    def _new(self, caller: str, now_s: float) -> _Bucket:
        if len(self._of) >= self._callers_max:
            oldest, bucket = next(iter(self._of.items()))
            self._fill(bucket, now_s)
            if bucket.left < self._rate.burst:
                return self._shared
            del self._of[oldest]
        return self._of.setdefault(caller, _Bucket(float(self._rate.burst), now_s))

    def _fill(self, bucket: _Bucket, now_s: float) -> None:
        gained = max(now_s - bucket.at_s, 0.0) * self._rate.per_s
        bucket.left = min(float(self._rate.burst), bucket.left + gained)
        bucket.at_s = now_s


class Rates:
    """All budgets of one server."""

    def __init__(self, limits: Limits) -> None:
        self._of: dict[Budget, Buckets] = {
            "request": Buckets(limits.request_rate, limits.rate_callers_max),
            "agent": Buckets(limits.agent_rate, limits.rate_callers_max),
            "heartbeat": Buckets(limits.heartbeat_rate, limits.rate_callers_max),
            "stream": Buckets(limits.stream_rate, limits.rate_callers_max),
            "webhook": Buckets(limits.webhook_rate, limits.rate_callers_max),
            "unproven": Buckets(limits.unproven_rate, limits.rate_callers_max),
        }
        self._limited = 0

    def take(self, budget: Budget, caller: str, now_s: float) -> None:
        """Counts one request; raises the 429 that says when to come back."""
        wait_s = self._of[budget].take(caller, now_s)
        if not wait_s:
            return
        self._limited += 1
        if self._limited & (self._limited - 1) == 0:  # a flood fills no disk
            _log.warning("too many requests", caller=caller, budget=budget, limited=self._limited)
        detail = f"{caller} has sent more requests of the kind {budget!r} than its rate allows"
        raise Problem("rate_limited", detail, retry_after_s=max(1, math.ceil(wait_s)))
