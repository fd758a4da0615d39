"""When a forge may be asked again, from the headers of its answers. Pure but for what it remembers.

Used by `reconciler.forges.http`. GitHub and Gitea say X-RateLimit-Remaining and X-RateLimit-Reset, GitLab the same
without X-; all say Retry-After. Reset times are wall-clock seconds, so they are compared with the Date of the same
answer and never with this machine's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from reconciler.forges.limits import RATE_RESERVE, RETRY_AFTER_S_MAX

DEFAULT_S = 60.0


class Quota:
    """`now_s` is monotonic."""

    def __init__(self) -> None:
        self._blocked_until_s = 0.0

    def blocked_s(self, now_s: float) -> float:
        return max(0.0, self._blocked_until_s - now_s)

    def learn(self, status: int, headers: Mapping[str, str], now_s: float) -> None:
        """After every answer."""
        if is_limited(status, headers):
            self._block(now_s, retry_after_s(headers) or _until_reset_s(headers) or DEFAULT_S)
        elif 0 <= _remaining(headers) <= RATE_RESERVE and (until_s := _until_reset_s(headers)):
            self._block(now_s, until_s)

    def _block(self, now_s: float, seconds: float) -> None:
        until_s = now_s + min(max(seconds, 1.0), RETRY_AFTER_S_MAX)
        self._blocked_until_s = max(self._blocked_until_s, until_s)


def is_limited(status: int, headers: Mapping[str, str]) -> bool:
    """429, or GitHub's 403 for the same."""
    return status == 429 or (status == 403 and ("Retry-After" in headers or _remaining(headers) == 0))


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds, or a date; 0 when there is none that can be read."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    moment = _moment(text)
    return max(0.0, (moment - _date(headers)).total_seconds()) if moment else 0.0


def _remaining(headers: Mapping[str, str]) -> int:
    text = headers.get("X-RateLimit-Remaining") or headers.get("RateLimit-Remaining") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def _until_reset_s(headers: Mapping[str, str]) -> float:
    text = headers.get("X-RateLimit-Reset") or headers.get("RateLimit-Reset") or ""
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        return 0.0
    return max(0.0, int(text) - _date(headers).timestamp())


def _date(headers: Mapping[str, str]) -> datetime:
    return _moment(headers.get("Date", "")) or datetime.now(UTC)


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
