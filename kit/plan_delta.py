"""What changed in a plan since the reader's, and a digest of the whole that says whether both have the same. Pure.

`reconciler.server` makes a delta out of the digests of the items that it sent last; `kit.follow` lays it over the plan
that it holds, and reads the whole again when the result is not what the controller meant. A plan is a document of
`kit.wire`: lists of items, each with a name of its own.

The digest covers the items of all lists, by name, whatever their order; log_id and generation are no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.canonical import digest
from kit.codec import from_json, to_json
from kit.errors import Transient
from kit.wire import PlanDelta

NAME_OF_LIST: Mapping[str, str] = {"instances": "instance_id", "volumes": "volume_id", "routes": "route_id"}
PLAN_BASE = "Trueup-Plan-Base"
"""The header in which a reader names the digest of the plan that it holds."""
ITEM_DIGITS = 32
Items = Mapping[str, Mapping[str, str]]
"""List -> name of an item -> its digest."""
Document = Mapping[str, Any]


def items_of(document: Document) -> Items:
    return {
        each: {item[name]: digest(item, length=ITEM_DIGITS) for item in document[each]}
        for each, name in NAME_OF_LIST.items()
        if each in document
    }


def delta(document: Document, items: Items, base: str, known: Items) -> Document:
    """`known`: the items of the plan whose digest is `base`."""
    changed = {
        each: tuple(
            item
            for item in document[each]
            if known.get(each, {}).get(item[NAME_OF_LIST[each]]) != digests[item[NAME_OF_LIST[each]]]
        )
        for each, digests in items.items()
    }
    removed = {each: tuple(sorted(known.get(each, {}).keys() - digests)) for each, digests in items.items()}
    made = PlanDelta(
        document["log_id"],
        document["generation"],
        base,
        digest(items),
        {each: found for each, found in changed.items() if found},
        {each: gone for each, gone in removed.items() if gone},
    )
    return dict(to_json(made))


def whole(held: Document | None, answer: Document) -> Document:
    """The plan that `answer` means: itself, or `held` with a delta over it. A `Transient` with code "plan_drift" when
    that is not the plan whose digest the controller gave. One that gives no digest is believed."""
    document = answer if "base" not in answer else _laid_over(held or {}, from_json(PlanDelta, answer))
    if document.get("digest") and digest(items_of(document)) != document["digest"]:
        why = f"its digest is not {document['digest'][:12]}, which the controller gave"
        raise Transient(f"read plan {answer['log_id']}.{answer['generation']}", why, code="plan_drift")
    return document


def _laid_over(held: Document, change: PlanDelta) -> Document:
    lists = {}
    for each, name in NAME_OF_LIST.items():
        if each not in held:
            continue
        items = {item[name]: item for item in held[each]}
        for gone in change.removed.get(each, ()):
            items.pop(gone, None)
        items.update({item[name]: item for item in change.changed.get(each, ())})
        lists[each] = [items[key] for key in sorted(items)]
    return {**held, **lists, "log_id": change.log_id, "generation": change.generation, "digest": change.digest}
