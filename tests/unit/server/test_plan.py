"""GET /v1/plan: who is asked, and what the answers are when there is none."""

from __future__ import annotations

import json
from importlib import resources

from jsonschema import Draft202012Validator

from kit.errors import Refusal, Transient
from tests.unit.server.world import serving, token_of

OPERATOR = token_of("operator", "ops")


async def test_the_answer_is_the_plan_of_that_source() -> None:
    schema = json.loads((resources.files("schemas") / "wire" / "plan.json").read_text())
    async with serving() as world:
        document = await world.get("/v1/plan?source=main&base=aaaaaaa&head=bbbbbbb")
        Draft202012Validator(schema).validate(document)
        assert world.calls == [("plan", ("aaaaaaa", "bbbbbbb"))]


async def test_an_unknown_source_and_a_misspelt_question() -> None:
    async with serving() as world:
        status, document, _ = await world.call("GET", "/v1/plan?source=other&head=bbbbbbb", OPERATOR)
        assert (status, document["code"], document["fix"]) == (404, "not_found", "sources here: main")
        status, document, _ = await world.call("GET", "/v1/plan?source=main&from=bbbbbbb", OPERATOR)
        assert (status, document["code"]) == (400, "invalid_argument")
        assert world.calls == []


async def test_a_busy_source_says_when_to_ask_again() -> None:
    async with serving() as world:
        for code in ("plan_busy", "plan_timeout"):
            world.break_with = Transient("plan bbbbbbb", "another plan is being made", code=code)
            status, document, headers = await world.call("GET", "/v1/plan?source=main&head=bbbbbbb", OPERATOR)
            assert (status, document["code"], document["retryable"]) == (503, code, True)
            assert int(headers["Retry-After"]) > 0
        world.break_with = Refusal("plan bbbbbbb", "no such commit", code="not_found")
        assert (await world.call("GET", "/v1/plan?source=main&head=bbbbbbb", OPERATOR))[0] == 404
