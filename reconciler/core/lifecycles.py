"""The states that things go through, as tables. `reconciler.core.decide` and `scheduler` ask here what may follow what.

instance, desired by the scheduler
    running -> draining -> stopped, or running -> stopped when there is nothing left to drain. Never back.
instance, observed by its agent
    Agents report what they saw, and they do not see everything: an agent that was down while its machine crashed and
    came up again says `ready` after `ready`. So every live status may follow every other, with two exceptions: an
    instance that drains can only fail or stop, and `stopped` is final. "" is before the first report.
deployment
    rolling -> succeeded, failed or superseded. A failed one is tried again a few times and may still succeed; a newer
    one supersedes it. A succeeded one stays so whatever happens to its instances later.
node
    active <-> offline.
revision
    refused -> applied (once what stood against it is gone) -> converged. After a rewrite of the branch a commit may be
    looked at anew, and be applied again or refused.
"""

from __future__ import annotations

from collections.abc import Mapping

Transitions = Mapping[str, frozenset[str]]

_LIVE = frozenset({"preparing", "booting", "ready", "unready", "failed"})
_ANY = _LIVE | {"draining", "stopped"}

INSTANCE_STATUS: Transitions = {
    "": _ANY,
    "preparing": _ANY,
    "booting": _ANY,
    "ready": _ANY,
    "unready": _ANY,
    "failed": _ANY,
    "draining": frozenset({"draining", "failed", "stopped"}),
    "stopped": frozenset(),
}

INSTANCE_DESIRED: Transitions = {
    "running": frozenset({"draining", "stopped"}),
    "draining": frozenset({"stopped"}),
    "stopped": frozenset(),
}

DEPLOYMENT: Transitions = {
    "rolling": frozenset({"succeeded", "failed", "superseded"}),
    "failed": frozenset({"succeeded", "superseded"}),
    "succeeded": frozenset(),
    "superseded": frozenset(),
}

NODE: Transitions = {"active": frozenset({"offline"}), "offline": frozenset({"active"})}

REVISION: Transitions = {
    "": frozenset({"refused", "applied"}),
    "refused": frozenset({"refused", "applied"}),
    "applied": frozenset({"converged", "applied", "refused"}),
    "converged": frozenset({"applied", "refused"}),
}


def allowed(table: Transitions, before: str, after: str) -> bool:
    """A state that the table does not know allows nothing."""
    return after in table.get(before, frozenset())
