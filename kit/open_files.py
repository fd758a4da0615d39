"""How many files and connections this process may have open. Called by programs that serve many, at their start."""

from __future__ import annotations

import resource

from kit import logs

SPARE = 500
"""For everything that is no connection."""
_log = logs.get("open-files")


def allow(connections_max: int) -> int:
    """Raises the soft limit to the hard one, which needs no right. Returns the limit; one too low for that many
    connections is told in the log: the last ones would find no answer."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < connections_max + SPARE:
        _log.warning(
            "fewer files may be open than connections are allowed",
            limit=hard,
            connections_max=connections_max,
            fix="raise LimitNOFILE of the unit (ulimit -Hn), or lower http_connections_max",
        )
    return hard
