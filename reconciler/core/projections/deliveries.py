"""View `deliveries`: which versions of a secret a node was ever given, by RESOURCE_ID@NODE. Read for `trueup secret
exposed` and `trueup why`.

A row stays when the node is lost and when the secret goes: what a host has had in its memory cannot be taken back.
"""

from __future__ import annotations

from typing import Any

from reconciler.core.events import Event
from reconciler.core.projection import Doc, require_version, stamped

name = "deliveries"
aggregate_types = frozenset({"delivery"})

VERSIONS_MAX = 20
"""Remembered for a secret and a node, the newest; `omitted` counts the others."""
_NODE = "node/"


def keys(event: Event) -> frozenset[str]:
    if event.aggregate_type != "delivery":
        return frozenset()
    return frozenset({f"{event.aggregate_id}@{event.payload['identity_id'].removeprefix(_NODE)}"})


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    told = event.payload
    earlier = [each for each in (row["versions"] if row else ()) if each["version_id"] != told["version_id"]]
    given: dict[str, Any] = {name: told[name] for name in ("version_id", "instance_id", "recipient")}
    versions = [*earlier, {**given, "at": event.occurred_at}]
    who = {"resource_id": told["resource_id"], "node_id": told["identity_id"].removeprefix(_NODE)}
    omitted = (row["omitted"] if row else 0) + max(0, len(versions) - VERSIONS_MAX)
    return stamped(row, event, {**who, "versions": versions[-VERSIONS_MAX:], "omitted": omitted}, own=False)
