"""Which secrets a node was given, and which of them are still good: what has to be changed once it is lost. Pure.

Made from the views `deliveries` and `resources`, by `trueup secret exposed` and by `explain_subjects`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Doc = Mapping[str, Any]
Rows = Mapping[str, Doc]
Worth = Literal["current", "earlier", "gone"]
"""Of a version that was given: the one that is declared now; one that was; its secret is declared no more."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """A version of a secret, and a node that has had it. `at`: when it was given last; `instance_id`: for which."""

    resource_id: str
    version_id: str
    node_id: str
    instance_id: str
    at: str
    worth: Worth


def exposed(deliveries: Rows, resources: Rows, *, node_id: str = "", resource_id: str = "") -> list[Exposed]:
    """By secret and node, the newest version first. Without a name: all."""
    rows = sorted(deliveries.items())
    named = (row for _, row in rows if node_id in ("", row["node_id"]) and resource_id in ("", row["resource_id"]))
    return [each for row in named for each in _of(row, resources.get(row["resource_id"]))]


def _of(row: Doc, secret: Doc | None) -> Iterable[Exposed]:
    for given in reversed(row["versions"]):
        version_id = given["version_id"]
        current = secret is not None and secret["spec"]["version_id"] == version_id
        worth: Worth = "gone" if secret is None else "current" if current else "earlier"
        yield Exposed(row["resource_id"], version_id, row["node_id"], given["instance_id"], given["at"], worth)
