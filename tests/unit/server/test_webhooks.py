"""Webhooks: proven by the raw body before anything else, answered alike, and able to do one thing only."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from typing import Any

import pytest

from reconciler.server.auth import WebhookProof
from reconciler.server.limits import Limits
from reconciler.server.sources import HookCounts
from tests.unit.server.world import WEBHOOK_SECRET, World, serving, token_of

PATH = "/v1/sources/main/webhook"
BODY = b'{"ref": not even json'


def signature(body: bytes = BODY, secret: bytes = WEBHOOK_SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def headers_of(provider: str, body: bytes = BODY, secret: bytes = WEBHOOK_SECRET) -> dict[str, str]:
    """As the forge sends them."""
    signed = signature(body, secret)
    return {
        "github": {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={signed}"},
        "gitlab": {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": secret.decode()},
        "gitea": {"X-Gitea-Event": "push", "X-Gitea-Signature": signed},
        "forgejo": {"X-Forgejo-Event": "push", "X-Forgejo-Signature": signed},
        "bitbucket": {"X-Event-Key": "repo:push", "X-Hub-Signature": f"sha256={signed}"},
    }[provider]


PROVIDERS = ("github", "gitlab", "gitea", "forgejo", "bitbucket")


async def hook(world: World, headers: dict[str, str], body: bytes = BODY, path: str = PATH) -> tuple[int, Any]:
    status, document, _ = await world.call("POST", path, data=body, headers=headers)
    return status, document


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_each_forge_is_believed_by_its_own_header(provider: str) -> None:
    async with serving() as world:
        assert await hook(world, headers_of(provider)) == (202, {"source_id": "main"})
        assert world.calls == [("look", "main")]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_another_secret_or_another_body_is_nobody(provider: str) -> None:
    async with serving() as world:
        wrong = headers_of(provider, secret=b"the secret of somebody else")
        assert (await hook(world, wrong))[0] == 401
        if provider != "gitlab":
            assert (await hook(world, headers_of(provider), BODY + b" "))[0] == 401
        assert world.calls == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": signature()},
        {"X-Hub-Signature-256": "sha256=" + signature()[:-2]},
        {"X-Hub-Signature-256": "sha256=" + "zz" * 32},
        {"X-Hub-Signature": "sha1=" + hmac.new(WEBHOOK_SECRET, BODY, hashlib.sha1).hexdigest()},
        {"X-Gitea-Signature": "sha256=" + signature()},
        {"X-Gitlab-Token": WEBHOOK_SECRET.decode() + "x"},
        {"X-Gitlab-Token": signature()},
        {"X-Gitea-Signature": "", "X-Gitlab-Token": ""},
    ],
)
async def test_what_is_no_proof(headers: dict[str, str]) -> None:
    async with serving() as world:
        status, document = await hook(world, headers)
        assert (status, document["code"]) == (401, "unauthorized")
        assert world.calls == []


async def test_a_source_that_does_not_exist_looks_like_a_wrong_signature() -> None:
    async with serving() as world:
        wrong = headers_of("github", secret=b"the secret of somebody else")
        _, known = await hook(world, wrong)
        _, unknown = await hook(world, wrong, path="/v1/sources/nothere/webhook")
        bearer = {"Authorization": f"Bearer {token_of('webhook', 'nothere')}"}
        status, signed = await hook(world, bearer, path="/v1/sources/nothere/webhook")
        for each in (known, unknown, signed):
            each.pop("request_id")
        assert known == unknown == signed
        assert status == 401


async def test_an_empty_list_of_secrets_is_no_open_door() -> None:
    """The file of the secrets cannot be read, say."""
    async with serving() as world:
        world.webhook_secrets = {"main": ()}
        for provider in PROVIDERS:
            assert (await hook(world, headers_of(provider, secret=b"anything at all, really")))[0] == 401


async def test_the_next_secret_is_valid_beside_the_old_one() -> None:
    async with serving() as world:
        world.webhook_secrets = {"main": (WEBHOOK_SECRET, b"the secret of the time to come")}
        for secret in world.webhook_secrets["main"]:
            for provider in PROVIDERS:
                assert (await hook(world, headers_of(provider, secret=secret)))[0] == 202


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_413_and_never_kept(announced: bool) -> None:
    async with serving(Limits(webhook_bytes_max=100_000)) as world:
        body = b"x" * 100_001

        async def drip() -> Any:
            for start in range(0, len(body), 10_000):
                yield body[start : start + 10_000]

        data: Any = body if announced else drip()
        status, document, _ = await world.call("POST", PATH, data=data, headers=headers_of("github", body))
        assert (status, document["code"]) == (413, "body_too_large")
        exact = body[:-1]
        assert (await hook(world, headers_of("github", exact), exact))[0] == 202


async def test_a_push_larger_than_a_document_may_be_is_taken() -> None:
    """GitHub sends up to 25 MB; a report may have 1 MiB."""
    async with serving() as world:
        body = b"x" * (3 << 20)
        assert (await hook(world, headers_of("github", body), body))[0] == 202


@pytest.mark.parametrize(("name", "event"), [("X-GitHub-Event", "ping"), ("X-Event-Key", "diagnostics:ping")])
async def test_a_ping_is_answered(name: str, event: str) -> None:
    body = json.dumps({"zen": "Keep it logically awesome.", "hook_id": 1}).encode()
    async with serving() as world:
        assert (await hook(world, {**headers_of("github", body), name: event}, body))[0] == 202


async def test_wrong_types_deep_nesting_and_bad_text_are_never_looked_at() -> None:
    async with serving() as world:
        for body in (b"", b"[" * 100_000, b"\xff\xfe", b'{"repository": 7, "commits": {"a": []}}', b"null"):
            assert (await hook(world, headers_of("bitbucket", body), body))[0] == 202


async def test_a_replay_is_one_more_look_and_nothing_else() -> None:
    async with serving() as world:
        for _ in range(3):
            await hook(world, headers_of("gitea"))
        assert world.calls == [("look", "main")] * 3


async def test_hooks_are_counted_and_refusals_logged_without_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving() as world:
            await hook(world, headers_of("github"))
            for _ in range(9):
                await hook(world, {"X-Gitlab-Token": "a guess that nobody may read"})
            await hook(world, {}, path="/v1/sources/nothere/webhook")
            status = await world.get("/v1/status")
    assert status["webhooks"] == {"": {"accepted": 0, "refused": 1}, "main": {"accepted": 1, "refused": 9}}
    told = [record for record in caplog.records if record.getMessage() == "webhook refused"]
    fields: list[Any] = [getattr(record, "fields") for record in told]  # noqa: B009
    assert [each["refused"] for each in fields if each["source"] == "main"] == [1, 2, 4, 8]
    everything = caplog.text + json.dumps(fields)
    assert WEBHOOK_SECRET.decode() not in everything
    assert "a guess" not in everything


def test_a_flood_of_names_does_not_fill_the_memory() -> None:
    counts = HookCounts()
    for number in range(10_000):
        counts.refused(f"name-{number}")
    assert len(counts.document()) <= 257


async def test_only_the_webhook_may_use_its_path() -> None:
    async with serving() as world:
        for token in (token_of("operator", "ops"), token_of("node", "main"), token_of("webhook", "other")):
            status, _, _ = await world.call("POST", PATH, token, data=BODY)
            assert status == 403
        signed = headers_of("github")
        assert (await world.call("POST", "/v1/sources/main/look", data=BODY, headers=signed))[0] == 401
        assert world.calls == []


async def test_hooks_are_answered_while_the_database_is_away() -> None:
    async with serving() as world:
        world.log.broken = True
        answers = await asyncio.gather(*(hook(world, headers_of("github")) for _ in range(50)))
        assert {status for status, _ in answers} == {202}


def test_all_secrets_are_tried_whichever_was_right() -> None:
    proof = WebhookProof([b"1" * 16, b"2" * 16], {"X-Gitlab-Token": "1" * 16})
    assert proof.offered
    assert proof.holds()
    assert not WebhookProof([b"1" * 16], {}).offered
