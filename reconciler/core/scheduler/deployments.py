"""How each deployment stands. Called by `schedule` with the groups as they were seen, before this pass acts.

A rolling deployment fails with the first instance that breaks; the old instances serve on. It succeeds when every
process matches. One that failed may still succeed, when a later try gets through. A deployment that is not its app's
current one any more, and has not ended, is superseded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.core.lifecycles import DEPLOYMENT, allowed
from reconciler.core.scheduler.actions import DeploymentStatus
from reconciler.core.scheduler.groups import Group, Unknown
from reconciler.core.scheduler.snapshot import App, Deployment, Snapshot
from reconciler.core.scheduler.times import Times


def app_matches(groups: Sequence[Group | Unknown], leftovers: bool) -> bool:
    """`leftovers`: instances of processes that the app has no more are still to run."""
    return not leftovers and all(isinstance(group, Group) and group.matches for group in groups)


def current_status(
    app: App, groups: Sequence[Group | Unknown], matches: bool, times: Times, now_s: float
) -> Iterable[DeploymentStatus]:
    deployment = app.deployment
    if matches and allowed(DEPLOYMENT, deployment.status, "succeeded"):
        count = sum(group.replicas for group in groups)
        yield _status(deployment, "succeeded", f"{count} of {count} instances are ready", times, now_s)
        return
    broken = [group.why_broken for group in groups if isinstance(group, Group) and group.why_broken]
    if broken and allowed(DEPLOYMENT, deployment.status, "failed"):
        yield _status(deployment, "failed", "; ".join(broken), times, now_s)


def superseded(snapshot: Snapshot, times: Times, now_s: float) -> Iterable[DeploymentStatus]:
    """Only of apps that are understood, or gone: an app that cannot be read now stops only itself. What is suspended
    waits as it is."""
    for deployment in snapshot.deployments.values():
        app = snapshot.apps.get(deployment.app)
        gone = deployment.app not in snapshot.apps_known
        if deployment.status != "rolling" or (app is None and not gone) or (app is not None and app.suspended):
            continue
        if app is None or app.deployment.deployment_id != deployment.deployment_id:
            by = f"by {app.deployment.deployment_id}" if app else "by the removal of its app"
            yield _status(deployment, "superseded", f"superseded {by}", times, now_s)


def _status(deployment: Deployment, status: str, message: str, times: Times, now_s: float) -> DeploymentStatus:
    begun_s = times.begun_s.get(deployment.deployment_id, now_s)
    return DeploymentStatus(
        deployment_id=deployment.deployment_id,
        app=deployment.app,
        status=status,
        message=message,
        seconds=round(max(now_s - begun_s, 0.0), 3),
        seq=deployment.seq,
        origin=deployment.origin,
    )
