"""Is an instance that should run, but is not ready, still on its way, or broken? Called by `groups`.

While its deployment is not through (rolling, or failed and tried again) an instance is broken when
- its agent will not, or need not, try again (a restart policy, an image that does not exist), or
- its agent restarted it `RESTARTS_MAX` times, or gave up waiting for it, or
- it booted `start_timeout_s` ago, or was allocated `ROLLOUT_LIMIT_S` ago, and is still not ready.
What an agent cannot help (a registry that does not answer) is waited out, up to `ROLLOUT_LIMIT_S`.

Once its deployment succeeded, an instance that fails is its agent's business; only one that stays away for
`REPLACE_AFTER_S` is broken.
"""

from __future__ import annotations

from reconciler.core.scheduler.limits import REPLACE_AFTER_S, RESTARTS_MAX, ROLLOUT_LIMIT_S
from reconciler.core.scheduler.snapshot import Instance
from reconciler.core.scheduler.times import Times

_HOPELESS = frozenset(
    {"image_not_found", "image_digest_mismatch", "image_too_large", "start_timeout", "crash_loop_backoff"}
)
_OUTSIDE = frozenset({"registry_unreachable", "image_pull_failed", "node_offline"})


def why_broken(instance: Instance, settled: bool, times: Times, now_s: float) -> str:
    """The reason, "" when it is not broken. `settled`: its deployment has succeeded."""
    if instance.status == "stopped":
        return "it stopped, though it should always run"
    if instance.status == "ready":
        return ""
    why = "" if settled else _failed_for_good(instance)
    if why:
        return why
    late = [limit for limit in _deadlines(instance, settled, times) if limit[0] <= now_s]
    return late[0][1] if late else ""


def next_deadline_s(instance: Instance, settled: bool, times: Times, now_s: float) -> float | None:
    """When time alone will make the instance broken."""
    if instance.status in ("ready", "stopped"):
        return None
    ahead = [at_s for at_s, _ in _deadlines(instance, settled, times) if at_s > now_s]
    return min(ahead, default=None)


def _failed_for_good(instance: Instance) -> str:
    if instance.status != "failed":
        return ""
    said = ": ".join(part for part in (instance.reason_code or "failed", instance.reason_detail) if part)
    hopeless = instance.reason_code in _HOPELESS or instance.workload.restart == "never"
    tired = instance.restarts >= RESTARTS_MAX and instance.reason_code not in _OUTSIDE
    return said if hopeless or tired else ""


def _deadlines(instance: Instance, settled: bool, times: Times) -> list[tuple[float, str]]:
    unready_s = times.unready_s.get(instance.instance_id)
    if unready_s is None:
        return []
    said = f" (it is {instance.status or 'not reported yet'}{_because(instance)})"
    if settled:
        return [(unready_s + REPLACE_AFTER_S, f"not ready for {REPLACE_AFTER_S:g} s{said}")]
    found = [(unready_s + ROLLOUT_LIMIT_S, f"not ready {ROLLOUT_LIMIT_S:g} s after its allocation{said}")]
    booted_s = times.booted_s.get(instance.instance_id)
    if booted_s is not None and instance.reason_code not in _OUTSIDE:
        limit_s = instance.workload.start_timeout_s
        found.append((booted_s + limit_s, f"start_timeout: not ready {limit_s:g} s after it began to boot{said}"))
    return found


def _because(instance: Instance) -> str:
    said = ": ".join(part for part in (instance.reason_code, instance.reason_detail) if part)
    return f", {said}" if said else ""
