"""GET /v1/log: what is asked of the source, and what is refused before it is asked."""

from __future__ import annotations

import pytest

from kit.errors import Refusal
from reconciler.core.history import Wanted
from tests.unit.server.world import serving, token_of

OPERATOR = token_of("operator", "ops")


async def test_the_question_reaches_the_only_source() -> None:
    async with serving() as world:
        query = "from=AAAAAAA&to=bbbbbbb&path=/apps/&since=2026-01-01&limit=3&under=" + "c" * 40
        page = await world.get(f"/v1/log?{query}")
        assert page["next"] == {"start": "b" * 40, "under": ""}
        wanted = Wanted("aaaaaaa", "bbbbbbb", "apps", "2026-01-01T00:00:00.000Z", "", 3, "c" * 40)
        assert world.calls == [("history", wanted)]


@pytest.mark.parametrize("query", ["from=HEAD", "to=main..x", "limit=201", "limit=0", "since=soon", "head=aaaaaaa"])
async def test_a_question_that_makes_no_sense_is_refused(query: str) -> None:
    async with serving() as world:
        status, document, _ = await world.call("GET", f"/v1/log?{query}", OPERATOR)
        assert (status, document["code"], world.calls) == (400, "invalid_argument", [])


async def test_an_unknown_source_or_commit() -> None:
    async with serving() as world:
        status, document, _ = await world.call("GET", "/v1/log?source=other", OPERATOR)
        assert (status, document["fix"]) == (404, "sources here: main")
        world.refuse = Refusal("read the history", "no such commit", code="not_found")
        assert (await world.call("GET", "/v1/log?from=aaaaaaa", OPERATOR))[0] == 404
