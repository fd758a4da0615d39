"""What an explanation consists of. Made by `reconciler.core.explain`, sent as JSON, printed by `reconciler.cli.why`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.core.events import Event

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""view -> key -> document, as in a ViewSnapshot."""

SubjectKind = Literal["app", "route", "volume", "secret", "environment", "instance", "node", "revision", "event"]

Verdict = Literal[
    "held",
    "converged",
    "rolling",
    "waiting",
    "failing",
    "offline",
    "held_back",
    "refused",
    "retained",
    "stopping",
    "removed",
    "superseded",
    "recorded",
]
"""`held`: an operator keeps it from following Git, or a node from its work. `converged`: what is there is what is
wanted. `rolling`: on the way. `waiting`: cannot be placed. `failing`: it was tried and does not work. `offline`: the
node is silent. `held_back`: the applied commit left it as it was, because of errors that are its app's own. `refused`:
as the last good commit says, but a newer one was refused. `retained`: the manifest is gone, the thing is kept.
`stopping`: on the way out. `removed`: gone. `superseded`: a commit that another one took the place of. `recorded`: of
an event, which is what it is."""


@dataclass(frozen=True, slots=True)
class Subject:
    """`id` is a resource_id, an instance_id, a node_id, SOURCE@COMMIT or the number of an event. `label` is what people
    call it."""

    kind: SubjectKind
    id: str
    label: str


@dataclass(frozen=True, slots=True)
class NothingFound:
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    message: str
    candidates: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class Desired:
    """What Git says, and who said so where. `summary`: the specification, a line each."""

    summary: tuple[str, ...]
    source_id: str = ""
    commit: str = ""
    author: str = ""
    subject: str = ""
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """One instance. `current`: of the release that is wanted now. `since`: RFC 3339, of the last transition."""

    instance_id: str
    process: str
    node_id: str
    node_state: str
    desired: str
    status: str
    since: str
    release_id: str
    current: bool
    restarts: int
    exit_code: int | None
    reason_code: str
    reason_detail: str


@dataclass(frozen=True, slots=True)
class Fact:
    """Anything else that is there: an edge's view of a route, a volume's home, a node's memory."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One reason why what is there is not what is wanted. `code` is stable; `event_id` is its evidence (0: none)."""

    verdict: Verdict
    code: str
    message: str
    fix: str = ""
    details: tuple[str, ...] = ()
    event_id: int = 0
    at: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One event of the history, or `count` equal ones of which the last is (last_event_id, last_at)."""

    event_id: int
    at: str
    type: str
    what: str
    cause: str
    causation_id: int = 0
    count: int = 1
    last_event_id: int = 0
    last_at: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    subject: Subject
    exists: bool
    verdict: Verdict
    headline: str
    desired: Desired | None
    observed: tuple[Observed, ...] = ()
    facts: tuple[Fact, ...] = ()
    differences: tuple[Difference, ...] = ()
    history: tuple[Step, ...] = ()
    history_omitted: int = 0
    see_also: tuple[Subject, ...] = ()
    log_id: str = ""
    event_id: int = 0


@dataclass(frozen=True)  # without slots: it keeps its indexes
class Evidence:
    """All that an explanation may use. `events`: ascending, those of the subject and of what made it.

    The status page asks about every resource at once, so what belongs to what is looked up, not searched for."""

    rows: Rows
    events: Sequence[Event]
    heartbeat_ages_s: Mapping[str, float] = field(default_factory=dict)
    log_id: str = ""
    event_id: int = 0

    def row(self, view: str, key: str) -> Mapping[str, Any] | None:
        return self.rows.get(view, {}).get(key)

    def time_of(self, event_id: int) -> str:
        return self._times.get(event_id, "")

    def instances_of(self, app: str) -> Sequence[Mapping[str, Any]]:
        return self._by_app.get(app, ())

    def instances_on(self, node_id: str) -> Sequence[Mapping[str, Any]]:
        return self._by_node.get(node_id, ())

    def users_of(self, resource_id: str) -> Sequence[Mapping[str, Any]]:
        """The instances that mount that volume or got that secret."""
        return self._users.get(resource_id, ())

    @functools.cached_property
    def _times(self) -> dict[int, str]:
        return {event.event_id: event.occurred_at for event in self.events}

    @functools.cached_property
    def _by_app(self) -> dict[str, list[Mapping[str, Any]]]:
        return _grouped(self.rows["instances"].values(), lambda row: [row["app"]])

    @functools.cached_property
    def _by_node(self) -> dict[str, list[Mapping[str, Any]]]:
        return _grouped(self.rows["instances"].values(), lambda row: [row["node_id"]])

    @functools.cached_property
    def _users(self) -> dict[str, list[Mapping[str, Any]]]:
        return _grouped(self.rows["instances"].values(), _used_by)


def _used_by(row: Mapping[str, Any]) -> list[str]:
    mounted = [each["volume_id"] for each in row["workload"].get("mounts") or ()]
    return [*mounted, *(each["resource_id"] for each in row.get("secrets") or ())]


def _grouped(
    rows: Iterable[Mapping[str, Any]], keys: Callable[[Mapping[str, Any]], Iterable[str]]
) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for key in set(keys(row)):
            groups.setdefault(key, []).append(row)
    return groups
