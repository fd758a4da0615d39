"""The list: for each promise, one-line changes that break it, and the test that then fails.

`path` holds `old` exactly once; tests/unit/test_planted_bugs.py sees to that, so a change of that line is a change of
this list. Choose lines that carry the promise, and of those the ones that change least.
"""

from __future__ import annotations

from tests.planted.bugs import (
    certificates,
    client,
    fleet,
    hardening,
    identity,
    isolation,
    log,
    revisions,
    scale,
    secrets,
    sources,
    streams,
    views,
)
from tests.planted.bugs.bug import Bug

BUGS: tuple[Bug, ...] = (
    *log.BUGS,
    *views.BUGS,
    *revisions.BUGS,
    *isolation.BUGS,
    *sources.BUGS,
    *scale.BUGS,
    *fleet.BUGS,
    *secrets.BUGS,
    *streams.BUGS,
    *client.BUGS,
    *identity.BUGS,
    *certificates.BUGS,
    *hardening.BUGS,
)

__all__ = ["BUGS", "Bug"]
