"""schemas/wire/*.json say the same as kit/wire.py: every document validates and round-trips, field by field."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kit import wire
from kit.codec import from_json, to_json
from kit.errors import Refusal
from reconciler.core.difference import FieldChange
from reconciler.core.findings import Finding
from reconciler.core.preview import PlanDocument
from reconciler.core.preview import document as plan_document
from reconciler.core.revisions import HeldApp
from reconciler.core.signing.verdicts import SignedBy

_FOLDER = Path(__file__).parents[2] / "schemas" / "wire"
_DOCUMENTS: dict[str, type[Any]] = {
    "node_plan": wire.NodePlan,
    "route_plan": wire.RoutePlan,
    "plan_delta": wire.PlanDelta,
    "node_report": wire.NodeReport,
    "report_taken": wire.ReportTaken,
    "edge_report": wire.EdgeReport,
    "enrolment": wire.Enrolment,
    "plan": PlanDocument,
}
_ELSEWHERE = {cls.__name__: cls for cls in (Finding, FieldChange, SignedBy, HeldApp)}
"""Parts of the plan that are described where they are made."""
_SCHEMAS: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(_FOLDER.glob("*.json"))}
_names = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
_positive = st.integers(1, 1 << 40)
_SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("port", "listen_port", "reach_port"), st.integers(1, 65535)),
    **dict.fromkeys(("epoch", "counter", "successes", "failures", "spec_version"), _positive),
    **dict.fromkeys(("generation", "applied_generation", "restarts"), st.integers(0, 1 << 60)),
    **dict.fromkeys(("memory_bytes", "disk_bytes", "size_bytes"), st.integers(0, 1 << 50)),
    "cpu": st.floats(0.001, 1024),
    "mode": st.integers(0, 0o777),
    "image": st.just("registry.example/app@sha256:" + "0" * 64),
    "observed_at": st.just("2026-11-23T14:00:00.000Z"),
    "reason_code": st.sampled_from(["", *wire.REASON_CODES]),
}
_PATHS = {"Mount", "SecretRef", "Health"}


def _classes() -> list[type[Any]]:
    """Those of both modules of documents. A rendered plan is for this program alone."""
    found = [
        each
        for module in (wire, plan_document)
        for _, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and each is not plan_document.RenderedPlan
    ]
    return [*found, *_ELSEWHERE.values()]


def _class(title: str) -> type[Any]:
    return next(each for each in _classes() if each.__name__ == title)


def _objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield schema["title"], schema
    yield from schema.get("$defs", {}).items()


def _documents(cls: type[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{f.name: _field(cls, f.name, hints[f.name]) for f in dataclasses.fields(cls)})


def _field(cls: type[Any], name: str, kind: Any) -> st.SearchStrategy[Any]:
    if name == "path" and cls.__name__ in _PATHS:
        return _names.map("/{}".format)
    if name == "backends" and kind is int:
        return st.integers(0, 256)
    return _SPECIAL[name] if name in _SPECIAL else _of(kind)


def _of(kind: Any) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _documents(kind)
    if origin is tuple:
        return st.lists(_of(arguments[0]), max_size=2).map(tuple)
    if origin is collections.abc.Mapping:
        return st.dictionaries(_names, _of(arguments[1]), max_size=2)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_of(each) for each in arguments))
    scalars: dict[Any, st.SearchStrategy[Any]] = {
        str: _names,
        bool: st.booleans(),
        int: st.integers(-255, 255),
        float: st.floats(0, 1e6),
        Any: st.none() | st.integers(0, 9) | _names | st.lists(_names, max_size=2),
        type(None): st.none(),
    }
    return scalars[kind]


def test_there_is_one_schema_per_document_and_each_class_is_in_one() -> None:
    assert set(_SCHEMAS) == set(_DOCUMENTS)
    described = {name for schema in _SCHEMAS.values() for name, _ in _objects(schema)}
    assert described == {cls.__name__ for cls in _classes()}


@pytest.mark.parametrize("name", sorted(_DOCUMENTS))
def test_a_schema_is_valid_and_names_the_fields_of_its_classes(name: str) -> None:
    schema = _SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"{name}.json"
    for title, described in _objects(schema):
        fields = dataclasses.fields(_class(title))
        missing = dataclasses.MISSING
        required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
        assert list(described["properties"]) == [f.name for f in fields], title
        assert described["required"] == required, title
        assert "additionalProperties" not in described, "a reader ignores what it does not know"


@pytest.mark.parametrize("name", sorted(_DOCUMENTS))
def test_every_document_validates_and_round_trips(name: str) -> None:
    validator = Draft202012Validator(_SCHEMAS[name])

    @given(_documents(_DOCUMENTS[name]))
    @settings(max_examples=40, deadline=None)
    def check(document: Any) -> None:
        encoded = json.loads(json.dumps(to_json(document)))
        validator.validate(encoded)
        assert from_json(_DOCUMENTS[name], encoded) == document
        assert from_json(_DOCUMENTS[name], encoded | {"a_field_of_tomorrow": 1}) == document

    check()


@pytest.mark.parametrize("name", sorted(_DOCUMENTS))
def test_a_document_that_lacks_a_field_is_refused_by_schema_and_codec(name: str) -> None:
    cls, validator = _DOCUMENTS[name], Draft202012Validator(_SCHEMAS[name])

    @given(_documents(cls), st.data())
    @settings(max_examples=10, deadline=None)
    def check(document: Any, data: st.DataObject) -> None:
        encoded = to_json(document)
        del encoded[data.draw(st.sampled_from(_SCHEMAS[name]["required"]))]
        assert not validator.is_valid(encoded)
        with pytest.raises(Refusal):
            from_json(cls, encoded)

    check()


def test_closed_words_are_closed_in_both() -> None:
    plan = to_json(wire.RoutePlan("e", "l", 1, (wire.PlannedRoute("r", "a.example", 443, "tcp_raw", "off"),)))
    plan["routes"][0]["protocol"] = "udp"
    assert not Draft202012Validator(_SCHEMAS["route_plan"]).is_valid(plan)
    with pytest.raises(Refusal, match="tls_passthrough"):
        from_json(wire.RoutePlan, plan)
