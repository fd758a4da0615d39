"""Identities of releases and deployments. Used by `reconciler.core.decide.git` and by whoever shows them.

A release is everything about an app but how many: scaling never restarts anything, and a commit that returns to an
earlier specification returns to its release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.canonical import digest

_DIGITS = 12


def release_spec(app_spec: Mapping[str, Any]) -> dict[str, Any]:
    """An app's specification (JSON) less the replicas."""
    processes = {
        name: {key: value for key, value in process.items() if key != "replicas"}
        for name, process in app_spec["processes"].items()
    }
    return {**app_spec, "processes": processes}


def release_id(app: str, app_spec: Mapping[str, Any]) -> str:
    return "r-" + digest([app, release_spec(app_spec)], length=_DIGITS)


def deployment_id(app: str, release: str, commit: str, *, again_from: str = "") -> str:
    """`again_from`: the base, when the same commit is applied a second time after a rewrite of the branch."""
    parts = [app, release, commit, again_from] if again_from else [app, release, commit]
    return "d-" + digest(parts, length=_DIGITS)


def secrets_used(app_spec: Mapping[str, Any]) -> frozenset[str]:
    """Names of the secrets that processes of the app use."""
    return frozenset(name for process in app_spec["processes"].values() for name in process.get("secrets") or ())
