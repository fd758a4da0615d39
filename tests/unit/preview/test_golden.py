"""One plan as it is written: a change of the wire, of the words or of the order shows here."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources

from jsonschema import Draft202012Validator

from kit.codec import from_json, to_json
from reconciler.core.model import VolumeUse
from reconciler.core.preview import PlanDocument
from tests.unit.preview.plans import planned
from tests.unit.preview.test_changes import route
from tests.unit.scheduler.world import World, app, process, secret, volume

GOLDEN = resources.files("schemas") / "golden" / "plan" / "release_and_removal.json"
SCHEMA = resources.files("schemas") / "wire" / "plan.json"


def golden() -> PlanDocument:
    """A stateless process rolls, a stateful one has a gap, a volume is retained, a route goes."""
    world = World()
    world.node("node-a")
    world.node("node-b")
    web = process("0" * 64, replicas=2, secrets=("keys",))
    database = process("1" * 64, volumes=(VolumeUse("data", "/data"),))
    old = route("old.example.test", "old")
    world.commit(secret("sv-1"), volume(), volume("spare"), app(web=web, db=database), route("a.example.test"), old)
    world.settle()
    after = app(web=dataclasses.replace(web, image=f"registry/app@sha256:{'2' * 64}"), db=database)
    return planned(world, secret("sv-2"), after, remove=[volume("spare").id, old.id], subject="Release 2")


def test_the_golden_plan() -> None:
    told = json.loads(GOLDEN.read_text())
    assert to_json(golden()) == told
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(told)
    assert from_json(PlanDocument, told) == golden()
