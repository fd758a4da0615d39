"""schemas/openapi.yaml says what the server does: the same routes and roles, and answers that fit its schemas."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from reconciler.core.views import PROJECTIONS
from reconciler.server.app import ROUTES
from reconciler.server.description import described_path, error_statuses
from tests.unit.cli.story import Story
from tests.unit.server.world import World, serving, token_of

DOCUMENT: dict[str, Any] = json.loads(
    json.dumps(YAML(typ="safe").load((resources.files("schemas") / "openapi.yaml").read_text()))
)

MEDIA_TYPES = {"application/json", "application/problem+json", "application/x-ndjson"}


async def test_it_names_every_route_with_its_roles_and_no_other() -> None:
    described = {
        (method.upper(), path): set(operation["x-roles"])
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    async with serving() as world:
        served = {(each.method, re.sub(r":[^}]*}", "}", each.path)): set(each.roles) for each in world.app[ROUTES]}
    assert described == served


def parameters_of(operation: dict[str, Any], place: str) -> set[str]:
    components = DOCUMENT["components"]["parameters"]
    listed = [
        components[each["$ref"].rsplit("/", 1)[1]] if "$ref" in each else each
        for each in operation.get("parameters", ())
    ]
    return {each["name"] for each in listed if each["in"] == place}


async def test_it_names_every_parameter_and_body_and_no_other() -> None:
    async with serving() as world:
        for route in world.app[ROUTES]:
            operation = DOCUMENT["paths"][described_path(route)][route.method.lower()]
            assert parameters_of(operation, "path") == set(re.findall(r"{(\w+)", route.path)), route.path
            if route.query is not None:
                assert parameters_of(operation, "query") == route.query, route.path
            assert ("requestBody" in operation) == route.body, route.path
            assert "default" in operation["responses"], f"{route.path}: how it fails is not said"


async def test_it_is_served_whole_with_the_status_codes_of_every_operation() -> None:
    async with serving() as world:
        status, served, headers = await world.call("GET", "/openapi.json")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(served)):
            node: Any = served
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]
        for route in world.app[ROUTES]:
            responses = served["paths"][described_path(route)][route.method.lower()]["responses"]
            assert set(responses) == {success_of(responses), *map(str, error_statuses(route))}
            for answer in responses.values():
                answer = (
                    served["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]] if "$ref" in answer else answer
                )
                assert set(answer["content"]) <= {
                    "application/json",
                    "application/problem+json",
                    "application/x-ndjson",
                }


def success_of(responses: dict[str, Any]) -> str:
    (found,) = (status for status in responses if status.startswith("2"))
    return found


async def test_a_parameter_that_no_route_knows_is_refused_by_every_route() -> None:
    async with serving() as world:
        for route in (each for each in world.app[ROUTES] if each.query is not None):
            role = min(route.roles)
            path = re.sub(r"{(\w+)(:[^}]*)?}", "x", route.path)
            token = "" if route.open_to_all else token_of(role, "x")
            _, problem, _ = await world.call(route.method, path + "?mispelt=1", token)
            assert problem["code"] == "invalid_argument", route.path
            assert "mispelt" in problem["detail"]


def test_every_reference_leads_somewhere() -> None:
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(DOCUMENT))
    assert references
    for reference in references:
        if reference.startswith("#/"):
            node: Any = DOCUMENT
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]
        else:
            assert (resources.files("schemas") / reference).is_file(), reference


def test_it_names_every_view() -> None:
    assert DOCUMENT["components"]["parameters"]["View"]["schema"]["enum"] == sorted(PROJECTIONS)


def check(schema: dict[str, Any], document: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(document)


def answer_schema(path: str, status: str = "200") -> dict[str, Any]:
    content = DOCUMENT["paths"][path]["get"]["responses"][status]["content"]
    schema: dict[str, Any] = next(iter(content.values()))["schema"]
    return schema


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/healthz", ""),
        ("/readyz", ""),
        ("/v1/events", ""),
        ("/v1/events", "?newest=true&limit=3"),
        ("/v1/state", "?at=9"),
        ("/v1/state", "?of=instance"),
        ("/v1/diff", "?from=0"),
        ("/v1/views/{view}", ""),
        ("/v1/views/{view}/{key}", ""),
        ("/v1/status", ""),
        ("/v1/log", ""),
        ("/v1/log", "?source=main&from=aaaaaaa&limit=3"),
        ("/v1/why", "?resource=app/site"),
        ("/v1/why", "?resource=node-a"),
    ],
)
async def test_the_answers_fit(path: str, query: str) -> None:
    async with serving() as world:
        await Story(world.log).site()
        url = path.replace("{view}", "nodes").replace("{key}", "node-a") + query
        check(answer_schema(path), await world.get(url))


async def test_the_lines_of_a_stream_fit() -> None:
    async with serving() as world:
        await Story(world.log).site()
        _, body, _ = await world.call("GET", "/v1/stream?cursor=log-1.0&wait=0", token_of("operator", "ops"))
        lines = [json.loads(line) for line in body.splitlines()]
        assert [line["type"] for line in lines] == ["hello", *["change"] * 17, "bookmark"]
        for line in lines:
            check(answer_schema("/v1/stream"), line)


async def problem_of(world: World, path: str, token: str) -> Any:
    return (await world.call("GET", path, token))[1]


async def test_problems_fit() -> None:
    schema = {"$ref": "#/components/schemas/Problem"}
    operator = token_of("operator", "ops")
    async with serving() as world:
        await Story(world.log).site()
        check(schema, await problem_of(world, "/v1/status", ""))
        check(schema, await problem_of(world, "/v1/stream?cursor=log-9.1", operator))
        check(schema, await problem_of(world, "/v1/why?resource=i-00", operator))
        check(schema, await problem_of(world, "/v1/sources/main/look", operator))
        with pytest.raises(jsonschema.ValidationError):
            check(schema, {"status": 500})
