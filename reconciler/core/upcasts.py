"""Old events in the words of today. Pure.

An event is never changed, but what it says may get another form: a new version with its own schema. A function here
leads from each version to the next; the store asks `upcast` for every event that it reads (`reconciler.store.rows`), so
that folds, explanations and readers of the stream meet the newest version only. A test holds that every version that
has a schema leads to the newest one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from kit.errors import Bug
from reconciler.core.events import Event

Payload = Mapping[str, Any]
Upcast = Callable[[Payload], Payload]
"""A payload of one version to the payload of the next. It must not change what it is given."""


class Upcasts:
    """`steps`: (event_type, version) -> the way to version + 1."""

    def __init__(self, steps: Mapping[tuple[str, int], Upcast]) -> None:
        self._steps = dict(steps)
        self.event_types = frozenset(event_type for event_type, _ in steps)

    def upcast(self, event_type: str, version: int, payload: Payload) -> tuple[int, Payload]:
        """The newest version and its payload. A version from the future has no step and stays as it is."""
        while step := self._steps.get((event_type, version)):
            version, payload = version + 1, step(payload)
        return version, payload

    def check(self, written: Iterable[tuple[str, int]]) -> None:
        """`written`: every (event_type, version) that has a schema. Raises Bug when one of them leads nowhere."""
        versions = set(written)
        newest = {event_type: max(v for name, v in versions if name == event_type) for event_type, _ in versions}
        for event_type, version in sorted(versions):
            if version < newest[event_type] and (event_type, version) not in self._steps:
                raise self._bug(event_type, version, f"version {newest[event_type]} is the newest and no step leads on")
        for event_type, version in sorted(self._steps):
            if not {(event_type, version), (event_type, version + 1)} <= versions:
                raise self._bug(event_type, version, "a step begins or ends at a version without a schema")

    @staticmethod
    def _bug(event_type: str, version: int, why: str) -> Bug:
        fix = "write the step in reconciler/core/upcasts.py"
        return Bug(f"read events {event_type} of version {version}", why, fix=fix, code="upcast_missing")


def same(payload: Payload) -> Payload:
    """The next version may say more, and says the same in the same words."""
    return payload


def _environment_without_quota(payload: Payload) -> Payload:
    specs = {name: {**payload[name], "quota": {}} for name in ("spec", "previous_spec") if name in payload}
    return {**payload, **specs}


def _machine_for_nothing(payload: Payload) -> Payload:
    """Before version 2 quotas counted the memory of the manifest alone, and what was counted stays."""
    return {**payload, "overhead_bytes": 0}


def _of_an_unnamed_app(payload: Payload) -> Payload:
    """Before version 2 only instance.allocated said of which app an instance is."""
    return {**payload, "app": ""}


def _placed_first(payload: Payload) -> Payload:
    """Before version 2 nothing that had a home got another."""
    return {**payload, "previous_node_id": ""}


def _of_an_unnamed_home(payload: Payload) -> Payload:
    return {**payload, "node_id": ""}


def _bound_first(payload: Payload) -> Payload:
    return {**payload, "previous_org": ""}


def _whole_revision(payload: Payload) -> Payload:
    """Before version 2 a commit was applied whole or not at all, and nobody wrote down who had signed it."""
    return {**payload, "held": [], "released": [], "signers": [], "signers_omitted": 0}


UPCASTS = Upcasts(
    {
        ("app.unschedulable", 1): same,  # version 2 knows the reasons of quotas
        ("deployment.created", 1): same,  # version 2 knows the reasons hold and hold_ended
        ("environment.created", 1): _environment_without_quota,
        ("environment.updated", 1): _environment_without_quota,
        ("instance.allocated", 1): _machine_for_nothing,
        ("instance.desired_state_changed", 1): _of_an_unnamed_app,
        ("instance.status_changed", 1): _of_an_unnamed_app,
        ("revision.applied", 1): _whole_revision,
        ("source.registered", 1): _bound_first,
        ("volume.placed", 1): _placed_first,
        ("volume.updated", 1): _of_an_unnamed_home,
    }
)
"""Of this version of trueup."""


def current(event: Event, upcasts: Upcasts = UPCASTS) -> Event:
    """The event as it would be written today; the same object when it is of the newest version already."""
    if event.event_type not in upcasts.event_types:
        return event
    version, payload = upcasts.upcast(event.event_type, event.event_version, event.payload)
    return event if version == event.event_version else replace(event, event_version=version, payload=payload)
