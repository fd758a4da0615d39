"""Short ways to a plan: a fleet of `tests.unit.scheduler.world`, and trees said in YAML or as resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.cross_checks import Tree
from reconciler.core.model import Origin, Resource, ResourceId
from reconciler.core.planner import plan
from reconciler.core.preview import Asked, PlanDocument, preview
from reconciler.core.preview.document import RollOut
from reconciler.core.revisions import CommitInfo, Source
from reconciler.core.trailers import read_confirmations
from tests.unit.scheduler.world import ORG, PROJECT, SOURCE, World

MAIN = Source(SOURCE, ORG, PROJECT, "file:///repo")
COMMIT = "c" * 40


def declared(world: World) -> dict[ResourceId, Resource]:
    """What the source declares now."""
    found = {}
    for text, row in world.views["resources"].items():
        if row["origin"]["source_id"] == SOURCE and not row["retained"]:
            resource_id = ResourceId.parse(text)
            origin = Origin(row["origin"]["path"], row["origin"]["line"])
            found[resource_id] = Resource(resource_id, row["spec"], origin)
    return found


def planned(
    world: World,
    *resources: Resource,
    remove: Iterable[ResourceId] = (),
    message: str = "a change",
    subject: str = "a change",
) -> PlanDocument:
    """Of a commit that declares these, and removes those, on top of what is declared."""
    before = declared(world)
    after = {key: each for key, each in before.items() if key not in set(remove)} | {
        each.id: each for each in resources
    }
    base = world.views["sources"][SOURCE]["applied_commit"]
    info = CommitInfo(COMMIT, "Ann <ann@example.com>", subject)
    retained = [ResourceId.parse(text) for text, row in world.views["resources"].items() if row["retained"]]
    made = plan(
        Tree(before),
        Tree(after),
        source=MAIN,
        info=info,
        base_commit=base,
        retained=frozenset(retained),
        confirmations=read_confirmations([message]),
    )
    asked = Asked(MAIN, info, base, made, made.findings, base)
    return preview(world.views, world.log.last_event_id, asked, "live")


def roll_out(document: PlanDocument, process: str = "web", app: str = "prod/app/site") -> RollOut:
    (found,) = [each for each in document.roll_outs if (each.app, each.process) == (app, process)]
    return found


def acts(told: RollOut) -> list[str]:
    return [f"{each.step} {each.act} {each.instance} {each.at}".rstrip() for each in told.steps]


def strings(document: Any) -> Iterable[str]:
    """Every text in a JSON document, keys included."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield from strings(key)
            yield from strings(value)
    elif isinstance(document, list | tuple):
        for value in document:
            yield from strings(value)
