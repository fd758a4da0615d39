"""What the live system has against a commit, and what may take it away: no commit mends it, and none has to. Pure.

A hostname of another source, a resource of another source, a quota: `core.decide.git` finds them, and the app stays as
it is, or the commit is refused. `reconciler.tasks.git_sync` judges the same commit again once one of `FREEING` was told
by somebody else, and now and then in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.events import Event
from reconciler.core.findings import Finding
from reconciler.core.revisions import HeldApp

CODES = frozenset({"quota_exceeded", "hostname_taken", "listen_port_taken", "resource_owned"})
"""Of findings whose cause lies outside of the commit, or may."""

FREEING = (
    *("quota.set", "source.removed", "environment.updated"),
    *(f"{kind}.deleted" for kind in ("environment", "app", "route", "volume", "secret")),
    *(f"{kind}.moved" for kind in ("environment", "app", "route", "volume", "secret")),
    *("app.updated", "route.updated", "volume.updated"),
)
"""Events that may free a name or make room."""


def is_outside(findings: Iterable[Finding]) -> bool:
    return any(each.code in CODES for each in findings)


def waits_outside(held: Iterable[Mapping[str, Any]]) -> bool:
    """`held`: of a row of the view `revisions`. Whether one of the apps waits for something outside of the commit."""
    return any(finding["code"] in CODES for each in held for finding in each["findings"])


def may_have_freed(events: Iterable[Event], source_id: str) -> bool:
    """What the source itself did was known when its commit was judged."""
    return any(each.cause.source_id != source_id for each in events)


def held_alike(before: Iterable[Mapping[str, Any]], now: Iterable[HeldApp]) -> bool:
    """Whether the same apps are held back for the same reasons. Numbers in a message are no other reason."""
    told = {each["app"]: {(one["code"], one["path"], one["line"]) for one in each["findings"]} for each in before}
    return told == {each.app: {(one.code, one.path, one.line) for one in each.findings} for each in now}
