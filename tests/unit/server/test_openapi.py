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
from tests.unit.cli.story import Story
from tests.unit.server.world import World, serving, token_of

DOCUMENT: dict[str, Any] = json.loads(
    json.dumps(YAML(typ="safe").load((resources.files("schemas") / "openapi.yaml").read_text()))
)


async def test_it_names_every_route_with_its_roles_and_no_other() -> None:
    described = {
        (method.upper(), path): set(operation["x-roles"])
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    async with serving() as world:
        served = {(each.method, re.sub(r":[^}]*}", "}", each.path)): set(each.roles) for each in world.app[ROUTES]}
    assert described == served


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
