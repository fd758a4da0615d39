"""What an organisation or a project may hold. Called by `reconciler.handlers`. The limits of an environment stand in
its manifest instead (`git`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.canonical import digest
from reconciler.core.claims import as_claims, of_limits
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent


def decide_quota(row: Mapping[str, Any] | None, scope: str, limits: Mapping[str, int], cause: Cause) -> Append | None:
    """`row`: of the view `quotas`. A limit below what is used takes nothing away; it only lets nothing grow."""
    if (row["limits"] if row else {}) == limits:
        return None
    seq = row["aggregate_seq"] if row else 0
    payload = {"scope": scope, "limits": dict(limits)}
    return Append(
        command_id=f"quota-{digest([payload, seq], length=32)}",
        body_hash=digest(payload),
        cause=cause,
        events=(NewEvent("quota", scope, "quota.set", payload),),
        expected={("quota", scope): seq},
        take=as_claims(of_limits(scope, limits)),
        free=() if limits else as_claims({("limits", scope): "-"}),
    )
