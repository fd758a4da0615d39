"""schemas/openapi.yaml against a real controller (git, Postgres, HTTP): schemathesis asks what the description allows,
and what it forbids, as every kind of caller; every answer has to be one that the description names.

TRUEUP_API_EXAMPLES: how many requests of either kind each operation gets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Unsatisfiable
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from kit.codec import to_json
from kit.machine_identity import MachineIdentity
from kit.machine_names import CONTROLLER_HOST, MACHINE_KINDS
from kit.wire import Enrolment
from reconciler.core.tokens import make_token
from tests.integration.cli.test_controller import Fleet, fleet
from tests.joining import joined_machine, told

__all__ = ["fleet"]

EXAMPLES = int(os.environ.get("TRUEUP_API_EXAMPLES", "25"))
NAMES = {"operator": "ops", "webhook": "main"}
OWN = {"node": "node-a", "edge": "edge-a", "source": "main"}
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
NOTHING: tuple[Any, ...] = ([], {}, None, "", [""], [None])
"""As a parameter these are not sent, or count as if they were not."""


async def test_every_answer_is_one_that_the_description_names(fleet: Fleet) -> None:
    async with fleet.machine("node", "node-a") as node:
        enrolment = Enrolment("node-a", "fd00:0:0:1::/64", 4 << 30, 2.0, 10 << 30, "age1x", "tcg", "0.1.0")
        await node.post_json("/v1/nodes/node-a/enrol", to_json(enrolment))
    key = (fleet.state / "token.key").read_bytes()
    machines = [await joined_machine(fleet.state, kind, OWN[kind]) for kind in MACHINE_KINDS]
    asked = await asyncio.to_thread(ask_everything, fleet.url, told(fleet.state, "machines.url"), machines, key)
    assert len(asked) > 25
    assert min(asked.values()) >= 1, asked


class MachinesDoor(HTTPAdapter):
    """The machines' listener, to which a machine proves itself with its certificate."""

    def __init__(self, machine: MachineIdentity) -> None:
        self._machine = machine
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        more |= {"server_hostname": CONTROLLER_HOST, "assert_hostname": CONTROLLER_HOST}
        super().init_poolmanager(*args, ssl_context=self._machine.context(), **more)


def session_of(machine: MachineIdentity) -> requests.Session:
    session = requests.Session()
    session.mount("https://", MachinesDoor(machine))
    return session


def ask_everything(
    url: str, machines_url: str, machines: Sequence[MachineIdentity], token_key: bytes
) -> dict[str, int]:
    """How often each operation was asked."""
    described = requests.get(f"{url}/openapi.json", timeout=10).json()
    del described["security"], described["components"]["securitySchemes"]  # who asks is said here
    for operations in described["paths"].values():
        for described_one in operations.values():
            described_one.pop("security", None)
    schema = schemathesis.openapi.from_dict(described)
    doors = {each.kind: (machines_url, session_of(each)) for each in machines}
    asked: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # an Err raises here, which is what it should
        role = min(operation.definition.raw["x-roles"])
        token = make_token(token_key, role, NAMES[role]) if role in NAMES else ""
        door = doors.get(role, (url, requests.Session()))
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            asked[operation.label] = asked.get(operation.label, 0) + ask(operation, mode, door, token)
    return asked


def ask(operation: Any, mode: GenerationMode, door: tuple[str, requests.Session], token: str) -> int:
    count = 0

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: Any) -> None:
        nonlocal count
        count += 1
        own_names(case, mode)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if mode is GenerationMode.NEGATIVE:
            hypothesis.assume(all(value not in NOTHING for value in case.query.values()))
        answer = case.call(base_url=door[0], session=door[1], headers=headers, timeout=40)
        assert answer.status_code != 500, answer.text
        wrong = mode is GenerationMode.NEGATIVE and answer.status_code != 410
        case.validate_response(answer, checks=[*CHECKS, *([checks.negative_data_rejection] if wrong else [])])

    try:
        one()
    except Unsatisfiable:  # without parameters and a body nothing can be wrong
        assert mode is GenerationMode.NEGATIVE
    except BaseException as error:
        pytest.fail(f"{operation.label}, {mode}: {error}")
    return count


def own_names(case: Any, mode: GenerationMode) -> None:
    """What is asked as it should be is about what there is: a name made up gets no further than the guard."""
    if mode is GenerationMode.POSITIVE:
        for name in OWN.keys() & case.path_parameters.keys():
            case.path_parameters[name] = OWN[name]
    if case.path == "/v1/stream" and not wrong_wait(case.query.get("wait")):
        case.query["wait"] = 0  # or it would not end
    if str(case.query.get("min_event_id", "")).isdigit():
        case.query["min_event_id"] = 1  # or it would wait for what will not happen


def wrong_wait(text: Any) -> bool:
    try:
        return text is not None and not 0 <= float(text) <= 60
    except (TypeError, ValueError):
        return True
