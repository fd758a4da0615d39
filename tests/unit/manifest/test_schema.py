"""The schemas are schemas, for editors too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from reconciler.cli.main import main
from reconciler.core.editor_schema import FILE_NAME, editor_schema
from reconciler.core.language.documents import KINDS

FOLDER = Path(__file__).parents[3] / "schemas" / "manifest"
GOLDEN = FOLDER.parent / "golden" / "manifest"
GOOD = [
    *sorted((GOLDEN / "accepted").glob("*.yaml")),
    *sorted((GOLDEN / "trees" / "fleet").rglob("*.yaml")),
    *sorted((FOLDER.parents[1] / "examples-repo").rglob("*.yaml")),
]
SCHEMAS = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
EDITOR = Draft202012Validator(editor_schema())
META = {"name": "data", "app": "site", "env": "prod"}
VOLUME = {"apiVersion": "trueup/v1", "kind": "Volume", "metadata": META, "spec": {"size": "1Gi"}}
OVERLAY = {"apiVersion": "trueup/v1", "kind": "Overlay", "target": {"kind": "App", "name": "site"}}


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == name


def test_the_editors_schema_is_printed_and_packaged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == (FOLDER / FILE_NAME).read_text(), f"trueup schema > schemas/manifest/{FILE_NAME}"
    for kind in KINDS:
        assert main(["schema", kind]) == 0
        one = json.loads(capsys.readouterr().out)
        Draft202012Validator.check_schema(one)
        assert one["properties"]["kind"] == {"enum": [kind]}


def test_it_leads_nowhere_else() -> None:
    for reference in _references(editor_schema()):
        target: Any = editor_schema()
        assert reference.startswith("#/")
        for part in reference[2:].split("/"):
            target = target[part]


@pytest.mark.parametrize("path", GOOD, ids=lambda path: str(path.relative_to(FOLDER.parents[1])))
def test_what_the_controller_takes_an_editor_takes(path: Path) -> None:
    for document in YAML(typ="safe").load_all(path.read_text()):
        if document is not None:
            assert not [error.message for error in EDITOR.iter_errors(document)]


@pytest.mark.parametrize(
    ("document", "good"),
    [
        (VOLUME, True),
        ({**VOLUME, "spec": {"sice": "1Gi"}}, False),
        ({**VOLUME, "spec": {"size": "1GB"}}, False),
        ({**VOLUME, "spec": {"size": "${size}"}}, True),
        ({**VOLUME, "spec": {"size": None}}, True),
        ({**VOLUME, "spec": {}}, True),
        ({**VOLUME, "metadata": {"name": "data", "envs": ["prod"]}}, True),
        ({**VOLUME, "metadata": {"app": "site"}}, False),
        ({**VOLUME, "metadata": {**META, "name": "${name}"}}, False),
        ({**VOLUME, "kind": "Route"}, False),
        ({**VOLUME, "kind": "Pod"}, False),
        ({**VOLUME, "kind": "Secret", "spec": {"values": {"KEY": "plain"}}}, False),
        ({**OVERLAY, "patch": {"processes": {"web": {"replicas": 3, "health": None}}}}, True),
        ({**OVERLAY, "patch": {"processes": {"web": {"replicaz": 3}}}}, False),
        ({**OVERLAY, "patch": {"hostname": "a.example.test"}}, False),
        ({**OVERLAY}, False),
        ({"apiVersion": "trueup/v1", "kind": "Defaults", "spec": {"process": {"memory": "64Mi"}}}, True),
        ({"apiVersion": "trueup/v1", "kind": "Defaults", "spec": {"process": {"memory": 64}}}, False),
        ({"apiVersion": "trueup/v1", "kind": "Defaults", "spec": {"variables": {"a": "${b}"}}}, False),
    ],
)
def test_an_editor_finds_mistakes_and_no_others(document: dict[str, Any], good: bool) -> None:
    assert EDITOR.is_valid(document) == good


def _references(schema: Any) -> list[str]:
    match schema:
        case dict():
            own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
            return own + [each for value in schema.values() for each in _references(value)]
        case list():
            return [each for value in schema for each in _references(value)]
        case _:
            return []
