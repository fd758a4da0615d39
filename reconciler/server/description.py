"""GET /openapi.json: schemas/openapi.yaml as one document, with what the route table knows better.

Called through `reconciler.server.routes`. The file says what cannot be derived: words, shapes, parameters. The table
says who may use an operation and how it may fail, so `default` of the file becomes the very status codes that the
guard, the connection and the bounds of that kind of route can answer with. tests/unit/server/test_openapi.py holds the
two against each other, and tests/integration/server/test_described.py the server against the result.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from aiohttp import web
from ruamel.yaml import YAML

from reconciler.server.table import Route

_ANY = (400, 429, 431, 500, 503, 504)
_PARAMETER = re.compile(r":[^}]*}")


class Description:
    """Made at the first question: most processes are never asked."""

    def __init__(self) -> None:
        self.routes: Sequence[Route] = ()
        self._bytes = b""

    async def serve(self, request: web.Request) -> web.Response:
        if not self._bytes:
            self._bytes = await asyncio.to_thread(lambda: json.dumps(openapi_document(self.routes)).encode())
        return web.Response(body=self._bytes, content_type="application/json")


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Whole in itself: no reference leads out of it."""
    folder = resources.files("schemas")
    document: dict[str, Any] = json.loads(json.dumps(YAML(typ="safe").load((folder / "openapi.yaml").read_text())))
    wire = {name: json.loads((folder / name).read_text()) for name in sorted(_files(document))}
    for name, schema in wire.items():
        document["components"]["schemas"][_component(name)] = _moved(schema, _component(name))
    document = _joined(document)
    for route in routes:
        operation = document["paths"][described_path(route)][route.method.lower()]
        operation["x-roles"] = sorted(route.roles)
        operation["responses"].pop("default", None)
        for status in error_statuses(route):
            operation["responses"][str(status)] = {"$ref": "#/components/responses/Problem"}
    return document


def described_path(route: Route) -> str:
    return _PARAMETER.sub("}", route.path)


def error_statuses(route: Route) -> list[int]:
    found = [*_ANY]
    if not route.open_to_all or route.body:
        found += [401, 403, 404, 409]
    if route.body or route.prove:
        found += [408, 413]
    if route.streams:
        found += [410]
    return sorted(found)


def _files(document: dict[str, Any]) -> set[str]:
    return set(re.findall(r'"\$ref": "(wire/[^"]+)"', json.dumps(document)))


def _component(file: str) -> str:
    """wire/node_plan.json -> WireNodePlan."""
    return "".join(part.capitalize() for part in re.split(r"[/_]", file.removesuffix(".json")))


def _moved(schema: dict[str, Any], component: str) -> dict[str, Any]:
    """A schema of its own file as a component: its references begin at the document now."""
    text = json.dumps({key: value for key, value in schema.items() if key not in ("$id", "$schema")})
    moved: dict[str, Any] = json.loads(text.replace('"#/$defs/', f'"#/components/schemas/{component}/$defs/'))
    return moved


def _joined(document: dict[str, Any]) -> dict[str, Any]:
    text = re.sub(
        r'"\$ref": "(wire/[^"]+)"',
        lambda found: f'"$ref": "#/components/schemas/{_component(found[1])}"',
        json.dumps(document),
    )
    joined: dict[str, Any] = json.loads(text)
    return joined
