"""Folds a whole log into all views, in memory. Pure. For tests and simulations: it is what the stored views have to
equal.

It has no quarantine: a fold that raises, raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.core.events import Event
from reconciler.core.projection import Doc, Projection
from reconciler.core.views import PROJECTIONS


def replay(events: Iterable[Event], projections: Mapping[str, Projection] = PROJECTIONS) -> dict[str, dict[str, Doc]]:
    """view -> key -> document, after all of `events`, given in the order of the log."""
    views: dict[str, dict[str, Doc]] = {name: {} for name in projections}
    for event in events:
        apply(views, event, projections)
    return views


def apply(views: dict[str, dict[str, Doc]], event: Event, projections: Mapping[str, Projection] = PROJECTIONS) -> None:
    """Moves `views` forward by one event, in place."""
    for name, projection in projections.items():
        rows = views[name]
        for key in projection.keys(event):
            after = projection.fold(key, rows.get(key), event)
            if after is None:
                rows.pop(key, None)
            else:
                rows[key] = after
