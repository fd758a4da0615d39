"""What the HTTP server needs from the rest of the controller. Filled by `reconciler.bootstrap`, and by tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kit.clock import Clock, SystemClock
from kit.wire import EdgeReport, Enrolment, NodeReport, ReportTaken
from reconciler.certificates.authority import Authority
from reconciler.core.acts import Act, Order
from reconciler.core.decide.deliveries import Delivery
from reconciler.core.decide.git.source_removal import Removal
from reconciler.core.history import HistoryPage, Wanted
from reconciler.core.preview import PlanDocument
from reconciler.handlers.identities import IdentityHandlers
from reconciler.oidc.issuers import Issuers
from reconciler.ports import CertificateRecords, Doc, EventLog, Views
from reconciler.server.limits import Limits


@dataclass(frozen=True, slots=True)
class Handlers:
    """The writes: commands to `reconciler.handlers`. They raise `Refusal` or `Transient`."""

    enrol_node: Callable[[Enrolment], Awaitable[Any]]
    record_heartbeat: Callable[[str], Awaitable[Any]]
    record_node_report: Callable[[NodeReport], Awaitable[ReportTaken]]
    record_edge_report: Callable[[EdgeReport], Awaitable[Any]]
    act: Callable[[Act, Order], Awaitable[Any]]
    """A dataclass of the events that the act became, and whether it was done before."""
    remove_source: Callable[[Removal], Awaitable[int]]
    """The last event_id, 0 when it was removed before."""
    record_delivery: Callable[[Delivery], Awaitable[Any]]
    """Returns when the log says that a node is given an instance's secrets."""


class PlanCommit(Protocol):
    """`reconciler.planning`: what a commit of the source's clone would do now."""

    async def __call__(self, base: str, head: str) -> PlanDocument: ...


class ReadHistory(Protocol):
    """`reconciler.revision_history`: the commits of a source's branch and what became of each."""

    async def __call__(self, wanted: Wanted) -> HistoryPage: ...


async def nothing_heard() -> Mapping[str, float]:
    return {}


def nothing_fetched() -> None:
    """Who follows what is not known."""


async def no_leases() -> Sequence[Any]:
    return ()


def no_secrets(source: str) -> Sequence[bytes]:
    return ()


def no_recipient(org: str, project: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Deps:
    log: EventLog
    views: Views
    handlers: Handlers
    checkpoints: Callable[[], Awaitable[Mapping[str, int]]]
    """View -> last event_id that is in it."""
    secret_for: Callable[[Doc, Doc], Awaitable[bytes]]
    """(instance row, node row) -> the instance's secret file, sealed to the node's key."""
    quarantined: Callable[[], Awaitable[Sequence[Any]]]
    """Rows that a projection could not fold: dataclasses of projection, key, event_id, event_type and error."""
    look: Callable[[str], Awaitable[bool]]
    """Look at that source now. False: there is no such source."""
    token_key: bytes
    authority: Authority | None = None
    """None: machines have no certificates here."""
    identities: IdentityHandlers | None = None
    certificates: CertificateRecords | None = None
    """What all controllers know of the certificates that were given; None: each knows its own."""
    machines_url: Callable[[], str] = str
    """Where machines reach this controller."""
    machine_tokens: bool = False
    """Whether nodes and edges may come with a bearer token of earlier versions instead of a certificate."""
    issuers: Issuers | None = None
    """Who vouches for people and CI by OIDC; None: nobody."""
    projects: Callable[[], Mapping[str, tuple[str, str]]] = dict
    """Source -> the organisation and project that it declares for."""
    webhook_secrets: Callable[[str], Sequence[bytes]] = no_secrets
    """Source -> the secrets that its forge may sign with. None for a source that does not exist."""
    source_troubles: Callable[[], Mapping[str, str]] = dict
    """Source -> why it cannot be read now; a source without trouble is absent."""
    notes_troubles: Callable[[], Mapping[str, str]] = dict
    """Source -> why what became of its commits cannot be noted or pushed now; one without trouble is absent."""
    source_fetch_ages_s: Callable[[], Mapping[str, float | None] | None] = nothing_fetched
    """Source that this controller follows -> how long ago it was fetched; None: not yet."""
    commits_behind: Callable[[], Mapping[str, int]] = dict
    """Suspended source -> how many commits were fetched and not applied."""
    heartbeat_ages_s: Callable[[], Awaitable[Mapping[str, float]]] = nothing_heard
    """Node -> how long ago any controller heard it."""
    lags_s: Callable[[], Awaitable[Mapping[str, float]]] = nothing_heard
    """View -> age of the oldest event that is not in it yet, 0 for none."""
    leases: Callable[[], Awaitable[Sequence[Any]]] = no_leases
    """Dataclasses of lease, holder, epoch, since, held and trouble."""
    plan: Mapping[str, PlanCommit] = field(default_factory=dict)
    """By source."""
    history: Mapping[str, ReadHistory] = field(default_factory=dict)
    """By source."""
    recipient_of: Callable[[str, str], str] = no_recipient
    """(org, project) -> what its secrets are sealed to."""
    clock: Clock = field(default_factory=SystemClock)
    limits: Limits = field(default_factory=Limits)
