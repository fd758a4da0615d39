"""What a plan says of things that go, will go, or only seem to. Pure; warnings of `planner`.

Identity decides: a new name is a new resource, and the old one goes. For what holds data that is the difference between
a new name and an empty volume, so the plan says it before anybody learns it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.core.findings import Finding
from reconciler.core.model import STATEFUL_KINDS, Origin, Resource, ResourceId
from reconciler.core.trailers import CONFIRM_DELETE


def same_meaning(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Whether two specifications of one resource ask for the same. A secret's blob is where its values stand, not what
    they are: the same values, encrypted anew, have the same version."""
    if "version_id" in left and "version_id" in right:
        return bool(left["version_id"] == right["version_id"] and list(left["keys"]) == list(right["keys"]))
    return left == right


def differs(old: Resource | None, new: Resource | None) -> bool:
    """Whether a plan has anything to do to get from one to the other."""
    if old is None or new is None:
        return old is not new
    return not same_meaning(old.spec, new.spec) or old.marks != new.marks or old.origin != new.origin


def renamings(
    before: Mapping[ResourceId, Resource], after: Mapping[ResourceId, Resource], gone: Iterable[ResourceId]
) -> Iterator[Finding]:
    """`gone`: what the plan takes away or retains. `before`, `after`: at least all that differs. Warnings, at the new
    name."""
    new = [resource for identity, resource in sorted(after.items()) if identity not in before]
    by_kind: dict[str, list[Resource]] = {}
    for resource in new:
        by_kind.setdefault(resource.id.kind, []).append(resource)
    for identity in sorted(gone):
        old = before.get(identity)
        alike = [each for each in by_kind.get(identity.kind, ()) if old is not None and _alike(old, each)]
        if old is not None and alike:
            yield _warning(old, alike[0])


def _alike(old: Resource, new: Resource) -> bool:
    return old.origin == new.origin or same_meaning(old.spec, new.spec)


def _warning(old: Resource, new: Resource) -> Finding:
    message = f"{old.id.short} seems to become {new.id.short}: a new name is a new {new.id.kind}, and the old one goes"
    fix = "keep the old name if that is not meant"
    if old.id.kind in STATEFUL_KINDS:
        message += "; nothing moves from one to the other"
        fix = f"keep the old name to keep what it holds; {old.id.short} goes once its removal is confirmed"
    return Finding(new.origin.path, new.origin.line, 0, "/metadata/name", "renamed", message, fix, "warning")


def announced(declared: Iterable[Resource]) -> Iterator[Finding]:
    """Removals that the manifests confirm ahead."""
    for resource in declared:
        if resource.marks.removal:
            origin, short = resource.origin, resource.id.short
            message = f"the removal of {short} is confirmed: once its manifest goes, its data goes"
            fix = "take the line removal: confirmed out if that is not meant"
            yield Finding(
                origin.path, origin.line, 0, "/metadata/removal", "removal_confirmed", message, fix, "warning"
            )


def retained_warning(identity: ResourceId, origin: Origin) -> Finding:
    kept = "its data is kept" if identity.kind == "volume" else "it is kept"
    trailer = f"{CONFIRM_DELETE}: {identity.short}"
    return Finding(
        path=origin.path,
        line=origin.line,
        column=0,
        pointer="",
        code=f"{identity.kind}_retained",
        message=f"{identity.short} is gone from Git; {kept} because nobody confirmed its removal",
        fix="to remove it, restore the manifest with metadata.removal: confirmed and remove it in a later commit;"
        f" or push a commit (it may be empty) that ends with the line: {trailer}",
        severity="warning",
    )
