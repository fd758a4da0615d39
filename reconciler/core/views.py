"""All projections, by the name of their view. Siblings do not import each other, so they meet here.

Used by `reconciler.store` (to write and rebuild the views) and `reconciler.core.replay`.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.projection import Projection
from reconciler.core.projections import (
    acts,
    copies,
    deliveries,
    deployments,
    identities,
    instances,
    nodes,
    quotas,
    releases,
    resources,
    revisions,
    sources,
    tokens,
    tombstones,
)

_ALL: tuple[Projection, ...] = (
    sources,
    revisions,
    resources,
    releases,
    deployments,
    instances,
    nodes,
    tombstones,
    acts,
    quotas,
    identities,
    tokens,
    deliveries,
    *copies.VIEWS,
)

PROJECTIONS: Mapping[str, Projection] = {projection.name: projection for projection in _ALL}
