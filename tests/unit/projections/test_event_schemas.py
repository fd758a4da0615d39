"""The schemas of the events: every event has one, samples fit, and our compiled checks agree with the reference
validator.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import wire
from kit.errors import Bug
from reconciler.core import model
from reconciler.core.event_schemas import EventSchemas, compile_schema
from reconciler.core.events import NewEvent, newest_version
from reconciler.store.event_schema_files import load_event_schemas
from tests.unit.projections.samples import PAYLOADS, new_event

DOCUMENTS = load_event_schemas()
SCHEMAS = EventSchemas(DOCUMENTS)


def test_every_event_type_has_a_sample_and_a_schema() -> None:
    assert {event_type for event_type, _ in DOCUMENTS} == set(PAYLOADS)


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
def test_a_sample_fits_and_the_schema_is_a_valid_schema(event_type: str) -> None:
    document = DOCUMENTS[event_type, newest_version(event_type)]
    jsonschema.Draft202012Validator.check_schema(document)
    jsonschema.validate(PAYLOADS[event_type], document)
    SCHEMAS.check(new_event(event_type))


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
def test_a_missing_and_an_unknown_field_are_bugs(event_type: str) -> None:
    event = new_event(event_type)
    for name in event.payload:
        less = {key: value for key, value in event.payload.items() if key != name}
        with pytest.raises(Bug, match=f"/{name} is missing"):
            SCHEMAS.check(dataclasses.replace(event, payload=less))
    with pytest.raises(Bug, match="/surplus is not known"):
        SCHEMAS.check(dataclasses.replace(event, payload={**event.payload, "surplus": 1}))


def test_an_unknown_event_version_or_aggregate_is_a_bug() -> None:
    with pytest.raises(Bug, match="no schema"):
        SCHEMAS.check(dataclasses.replace(new_event("node.enrolled"), event_version=99))
    with pytest.raises(Bug, match="aggregate_type is app"):
        SCHEMAS.check(dataclasses.replace(new_event("node.enrolled"), aggregate_type="app"))


def test_the_place_of_a_fault_is_named() -> None:
    spec = {"processes": {"web": {**PAYLOADS["app.created"]["spec"]["processes"]["web"], "memory_bytes": "64Mi"}}}
    with pytest.raises(Bug, match="/spec/processes/web/memory_bytes is not of type integer"):
        SCHEMAS.check(new_event("app.created", spec=spec))


def test_a_schema_word_that_the_compiler_does_not_know_is_refused() -> None:
    with pytest.raises(Bug, match="'oneOf' is not known"):
        compile_schema({"oneOf": []})


@pytest.mark.parametrize(
    ("event_type", "definition", "cls"),
    [
        ("instance.allocated", "workload", wire.Workload),
        ("instance.allocated", "mount", wire.Mount),
        ("instance.allocated", "secret_ref_or_null", wire.SecretRef),
        ("instance.status_changed", "endpoint", wire.Endpoint),
        ("app.created", "health_or_null", wire.Health),
        ("app.created", "process_spec", model.ProcessSpec),
        ("app.created", "app_spec", model.AppSpec),
        ("app.created", "volume_use", model.VolumeUse),
        ("app.created", "update_policy", model.UpdatePolicy),
        ("route.created", "route_spec", model.RouteSpec),
        ("volume.created", "volume_spec", model.VolumeSpec),
        ("secret.created", "secret_spec", model.SecretSpec),
        ("environment.created", "environment_spec", model.EnvironmentSpec),
    ],
)
def test_a_schema_has_the_fields_of_the_class_that_it_describes(event_type: str, definition: str, cls: Any) -> None:
    fields = {field.name for field in dataclasses.fields(cls)}
    assert set(DOCUMENTS[event_type, newest_version(event_type)]["$defs"][definition]["required"]) == fields
    assert set(DOCUMENTS[event_type, newest_version(event_type)]["$defs"][definition]["properties"]) == fields


def test_reported_transitions_fit() -> None:
    """A report as the agent sends it, with the node that it came from, is the payload."""
    fields = {field.name for field in dataclasses.fields(wire.InstanceReport)} | {"node_id"}
    assert set(DOCUMENTS["instance.status_changed", 1]["properties"]) == fields


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*path, key))
    return found


def _mutated(payload: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(payload)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


ODD_VALUES = st.sampled_from(
    [None, True, False, 0, -1, 1, 1.0, 2.5, "", "x", "acme/a/b/c/app/d", [], ["x"], {}, {"x": 1}]
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_compiled_checks_agree_with_the_reference_validator(data: st.DataObject) -> None:
    event_type = data.draw(st.sampled_from(sorted(PAYLOADS)))
    path = data.draw(st.sampled_from(_places(PAYLOADS[event_type])))
    payload = _mutated(PAYLOADS[event_type], path, data.draw(ODD_VALUES))
    reference = jsonschema.Draft202012Validator(DOCUMENTS[event_type, newest_version(event_type)]).is_valid(payload)
    ours = compile_schema(DOCUMENTS[event_type, newest_version(event_type)])(payload, "") == ""
    assert ours == reference, (event_type, path, payload)


def test_a_check_is_quick_enough_for_the_log() -> None:
    """Not a benchmark: a guard against a validator that would take the log's speed away (it takes 10-20 us)."""
    import timeit

    event: NewEvent = new_event("instance.status_changed")
    assert min(timeit.repeat(lambda: SCHEMAS.check(event), number=100, repeat=5)) / 100 < 0.0005
