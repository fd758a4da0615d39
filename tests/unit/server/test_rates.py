"""Token buckets: the burst, the rate in the long run, and a memory that no number of callers makes grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.server.limits import Rate
from reconciler.server.rates import Buckets


def test_a_burst_and_then_the_rate() -> None:
    buckets = Buckets(Rate(per_s=2, burst=3), callers_max=10)
    assert [buckets.take("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b", 0.0) == 0, "another caller has a bucket of its own"
    assert buckets.take("a", 0.25) == 0.25
    assert buckets.take("a", 0.5) == 0
    assert buckets.take("a", 1000.0) == 0
    assert [buckets.take("a", 1000.0) for _ in range(3)] == [0, 0, 0.5], "what was saved is never more than the burst"


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 2)), max_size=200), st.integers(1, 4))
def test_nobody_gets_more_than_burst_and_rate_allow(steps: list[tuple[int, float]], callers_max: int) -> None:
    """Whoever comes and goes, and however small the memory: also when it is full."""
    rate, now_s = Rate(per_s=3, burst=2), 0.0
    buckets, got = Buckets(rate, callers_max), dict.fromkeys(range(6), 0)
    for caller, pause_s in steps:
        now_s += pause_s
        got[caller] += not buckets.take(str(caller), now_s)
        assert len(buckets) <= callers_max
    allowed = rate.burst + rate.per_s * now_s
    for caller, requests in got.items():
        assert requests <= 2 * allowed, caller  # its own bucket, and a share of the common one


def test_a_hundred_thousand_callers_evict_nobody_who_is_limited() -> None:
    buckets = Buckets(Rate(per_s=0.001, burst=1), callers_max=100)
    assert buckets.take("bad", 0.0) == 0
    passed = sum(not buckets.take(f"other-{number}", 0.0) for number in range(100_000))
    assert len(buckets) == 100
    assert passed == 99 + 1, "the rest shares one bucket"
    assert buckets.take("bad", 0.0) > 0
