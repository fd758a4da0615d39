"""Releases and deployments that follow from a revision. Called by `revision`.

An app that is new, or whose specification changed in more than its replicas, gets a deployment of the matching release
(which is made if the app never had it). An app that did not change itself, but uses a secret with a new version, gets a
deployment of its present release with the reason "secret".

An app that an operator holds stays where it is while Git says what the hold defies; a commit that says anything else
ends the hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.core.commands import DeclareResource
from reconciler.core.decide.git.state import Doc, GitState
from reconciler.core.events import NewEvent, newest_version
from reconciler.core.model import Resource
from reconciler.core.releases import deployment_id, release_id, release_spec, secrets_used


def app_rollout(state: GitState, resource: Resource, commit: str, base: str) -> tuple[NewEvent, ...]:
    """After the events about the app itself: release.created if needed, deployment.created if anything is to roll."""
    app = str(resource.id)
    row = state.resources.get(app)
    release = release_id(app, resource.spec)
    ended = _hold_ended(row, app, release, commit)
    if not _rolls(row, release):
        return ended
    known = release in state.releases
    events = ended if known else (*ended, _release_created(state, resource, release))
    kind = "rollback" if known and row is not None else "deploy"
    return (*events, _deployment_created(state, app, release, kind, "commit", commit, base))


def _rolls(row: Doc | None, release: str) -> bool:
    return row is None or release not in (row.get("release_id"), _defied(row))


def _defied(row: Doc) -> str:
    return str((row.get("hold") or {}).get("defied_release_id") or "")


def _hold_ended(row: Doc | None, app: str, release: str, commit: str) -> tuple[NewEvent, ...]:
    if row is None or _defied(row) in ("", release):
        return ()
    payload = {"resource_id": app, "reason": f"commit {commit} declares release {release}"}
    return (NewEvent("app", app, "app.hold_ended", payload),)


def secret_rollouts(
    state: GitState, secret: Resource, apps_rolled: frozenset[str], commit: str, base: str
) -> tuple[NewEvent, ...]:
    """`apps_rolled`: apps that get a deployment in this revision anyway, or are removed by it."""
    row = state.resources.get(str(secret.id))
    if row is not None and row["spec"]["version_id"] == secret.spec["version_id"]:
        return ()
    return tuple(
        _deployment_created(state, app["resource_id"], app["release_id"], "deploy", "secret", commit, base)
        for app in _apps_that_use(state, secret)
        if app["resource_id"] not in apps_rolled
    )


def _apps_that_use(state: GitState, secret: Resource) -> Iterable[Doc]:
    owner = replace(secret.id, kind="app", name=secret.id.app)
    row = state.resources.get(str(owner))
    if row is not None and row.get("release_id") and secret.id.name in secrets_used(row["spec"]):
        yield row


def rolled_apps(state: GitState, declared: Iterable[DeclareResource], removed: Iterable[str]) -> frozenset[str]:
    """Apps whose own declaration decides what rolls in this revision."""
    rolled = set(removed)
    for command in declared:
        app = str(command.resource.id)
        row = state.resources.get(app)
        if command.resource.id.kind == "app" and _rolls(row, _release_of(command)):
            rolled.add(app)
    return frozenset(rolled)


def _release_of(command: DeclareResource) -> str:
    return release_id(str(command.resource.id), command.resource.spec)


def _release_created(state: GitState, resource: Resource, release: str) -> NewEvent:
    app = str(resource.id)
    payload = {
        "release_id": release,
        "app": app,
        "spec": release_spec(resource.spec),
        "number": state.release_count(app) + 1,
    }
    return NewEvent("release", release, "release.created", payload)


def _deployment_created(
    state: GitState, app: str, release: str, kind: str, reason: str, commit: str, base: str
) -> NewEvent:
    deployment = deployment_id(app, release, commit)
    if deployment in state.deployments:
        deployment = deployment_id(app, release, commit, again_from=_unused(state, app, release, commit, base))
    payload = {"deployment_id": deployment, "app": app, "release_id": release, "kind": kind, "reason": reason}
    version = newest_version("deployment.created")
    return NewEvent("deployment", deployment, "deployment.created", payload, version)


def _unused(state: GitState, app: str, release: str, commit: str, base: str) -> str:
    """The same commit can come back more than once: the base, then base.2, base.3 ..."""
    candidates = [base or "-", *(f"{base}.{count}" for count in range(2, len(state.deployments) + 3))]
    return next(
        each for each in candidates if deployment_id(app, release, commit, again_from=each) not in state.deployments
    )
