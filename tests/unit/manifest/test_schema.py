"""The schemas are schemas, for editors too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[3] / "schemas" / "manifest"
SCHEMAS = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == name


def valid(document: Any) -> bool:
    registry: Registry[Any] = Registry().with_resources(
        [(name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()]
    )
    return bool(Draft202012Validator(SCHEMAS["trueup.v1.json"], registry=registry).is_valid(document))


def test_the_editors_schema_chooses_by_kind() -> None:
    meta = {"name": "data", "app": "site", "env": "prod"}
    manifest = {"apiVersion": "trueup/v1", "kind": "Volume", "metadata": meta, "spec": {"size": "1Gi"}}
    assert valid(manifest)
    assert not valid({**manifest, "spec": {"sice": "1Gi"}})
    assert not valid({**manifest, "kind": "Route"})
    assert not valid({**manifest, "kind": "Pod"})
