"""Gather, decide, append: every write to the log, but for the projections' own tables.

Called by `reconciler.tasks` (revisions, nodes, the scheduler) and `reconciler.server` (agents and edges). Each entry
point reads what it needs from the views, lets `reconciler.core.decide` decide, and appends with the versions that it
decided on. When something else got in between it waits until the views have caught up with the log, reads again and
decides anew, a bounded number of times. So a lagging view can delay a write, never falsify it, and every entry point
may be called again with the same input: it then changes nothing.
"""

from reconciler.handlers.acts import ActHandlers
from reconciler.handlers.appending import Recorded
from reconciler.handlers.deliveries import DeliveryHandlers
from reconciler.handlers.identities import IdentityHandlers
from reconciler.handlers.reports import ReportHandlers
from reconciler.handlers.revisions import RevisionHandlers
from reconciler.handlers.schedule import ScheduleHandlers
from reconciler.handlers.source_removal import SourceRemovalHandlers


class Handlers(
    RevisionHandlers,
    ReportHandlers,
    ScheduleHandlers,
    ActHandlers,
    SourceRemovalHandlers,
    IdentityHandlers,
    DeliveryHandlers,
):
    """All entry points, over one log and its views."""


__all__ = ["Handlers", "Recorded"]
