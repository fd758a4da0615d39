"""Every bound of the scheduler, with its unit and the reason for it."""

from __future__ import annotations

ACTIONS_MAX = 200
"""Per pass: one append of bounded size. What is left over follows in the next pass, at once."""

FIRST_HOST = 0x10
"""Lower addresses of a subnet belong to the node: gateway, name server."""

RESTARTS_MAX = 3
"""A new release's instance that its agent has restarted this often without getting ready is broken."""

ROLLOUT_LIMIT_S = 600.0
"""A new release's instance that is not ready after this long is broken, whatever it is doing (a slow image, say)."""

REPLACE_AFTER_S = 300.0
"""Its agent restarts an instance that fails; one that does not come back for this long is replaced on another node."""

REPLACEMENTS_MAX = 3
RETRY_FIRST_S = 60.0
RETRY_SLOW_S = 3600.0
"""Replacements of broken instances, per process and deployment: three, after 60, 120 and 240 s, then one an hour: a
fault that was outside (a registry, a dependency) ends some day, and a broken release costs next to nothing
meanwhile."""

assert RETRY_FIRST_S * 2**REPLACEMENTS_MAX < RETRY_SLOW_S, "the delays only grow"
assert ROLLOUT_LIMIT_S > REPLACE_AFTER_S


CONVERGENCE_LIMIT_S = 1800.0
"""An applied commit that has not converged for this long has failed, for as long as it does not converge after all.
Three roll-outs, one after the other, that each take as long as they may."""

assert CONVERGENCE_LIMIT_S > 2 * ROLLOUT_LIMIT_S, "a broken release is told as such, not as a late commit"


def retry_delay_s(broken: int) -> float:
    """How long to wait after the `broken`-th instance (from 1) of a process broke in a deployment."""
    return RETRY_FIRST_S * 2.0 ** (broken - 1) if broken <= REPLACEMENTS_MAX else RETRY_SLOW_S
