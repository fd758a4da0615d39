"""Machines that still come with the bearer tokens of earlier versions, while the setting `machine_tokens` lets them.

`reconciler.server.guard` tells each one it lets in; `trueup status` warns for as long as the setting is on and says
how many there are. Counted in this process, by name, for SEEN_S: names are proven before, so they are no more than the
machines that were given one.
"""

from __future__ import annotations

from typing import Any

from kit import logs
from kit.clock import Clock
from reconciler.core.explain_text import plural
from reconciler.core.permission import Identity
from reconciler.server.problems import Problem

SEEN_S = 3600.0
NAMED_MAX = 10
FIX = "`trueup node token NAME` or `trueup edge token NAME`, then start the machine with --join-token"
_log = logs.get("identity")


class FormerTokens:
    def __init__(self, clock: Clock, *, allowed: bool) -> None:
        self._clock = clock
        self._allowed = allowed
        self._seen_s: dict[str, float] = {}

    def admit(self, identity: Identity) -> None:
        """A machine whose token is right. 401 unless the setting is on."""
        if not self._allowed:
            raise Problem("unauthorized", f"{identity} came with a token of earlier versions: it has to join", fix=FIX)
        if str(identity) not in self._seen_s:
            _log.warning("a machine came with a token of earlier versions", identity=str(identity), fix=FIX)
        self._seen_s[str(identity)] = self._clock.now_s()

    def warnings(self) -> list[dict[str, Any]]:
        if not self._allowed:
            return []
        since_s = self._clock.now_s() - SEEN_S
        self._seen_s = {name: at_s for name, at_s in self._seen_s.items() if at_s >= since_s}
        names = sorted(self._seen_s)
        more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
        who = f": {', '.join(names[:NAMED_MAX])}{more}" if names else ""
        message = (
            "machine_tokens is on: who has a bearer token of a machine passes for it, for ever; "
            f"{plural(len(names), 'machine')} used one here within the last hour{who}"
        )
        fix = f"join them ({FIX}), then take machine_tokens out of the settings" if names else "take it out"
        return [{"code": "machine_tokens_on", "message": message, "fix": fix}]
