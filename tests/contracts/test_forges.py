"""One behaviour of every forge, the fake included; and what is special about HTTP, held against published shapes."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kit.clock import SystemClock
from kit.errors import Refusal, Transient, TrueupError
from reconciler.core.pulls import CommitStatus, PullRequest
from reconciler.forges import limits
from reconciler.forges.opening import open_forge
from reconciler.forges.quota import Quota, is_limited, retry_after_s
from reconciler.forges.settings import ForgeSettings
from reconciler.ports import Forge
from tests.acceptance.authority import Authority
from tests.contracts.forges.fake import FakeForge
from tests.contracts.forges.server import BOT, REPOSITORY, TOKEN, ForgeServer, hang

KINDS = ("github", "gitlab", "gitea")
A, B = "a" * 40, "b" * 40
PREFIX = "<!-- trueup:plan source=main "


@dataclass
class QuickClock(SystemClock):
    """Does not wait, and remembers for how long it should have."""

    slept: list[float] = field(default_factory=list)
    ahead_s: float = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.ahead_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ahead_s += seconds


@asynccontextmanager
async def opened(kind: str, folder: Path, **more: Any) -> AsyncIterator[tuple[ForgeServer, Any, QuickClock]]:
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    clock = QuickClock()
    async with ForgeServer(kind) as server:
        settings = ForgeSettings(kind=kind, api_url=server.url, repository=REPOSITORY, token_file=token, **more)
        forge = open_forge(settings, "", clock, random.Random(1))
        try:
            yield server, forge, clock
        finally:
            await forge.close()


class OfServer:
    """What the common tests do at a forge, behind its API."""

    def __init__(self, server: ForgeServer) -> None:
        self.server = server

    def open_pull(self, number: int, head: str, *, base: str = "main", fork: bool = False) -> None:
        self.server.open_pull(number, head, base=base, fork=fork)

    def say(self, number: int, author: str, body: str) -> None:
        self.server.comment(number, author, body)

    def comments(self, number: int) -> list[str]:
        return [note.body for note in self.server.notes.get(number, [])]

    def sent(self) -> int:
        return len(self.server.sent())

    def status(self, commit: str, context: str) -> tuple[str, str] | None:
        found = self.server.status_of(commit, context)
        return (found.description, found.url) if found else None


class OfFake(OfServer):
    def __init__(self, fake: FakeForge) -> None:
        self.fake = fake

    def open_pull(self, number: int, head: str, *, base: str = "main", fork: bool = False) -> None:
        self.fake.pulls[number] = PullRequest(number, head, base, fork, "ann")

    def say(self, number: int, author: str, body: str) -> None:
        from reconciler.core.pulls import Comment

        self.fake.comments.setdefault(number, []).append(Comment(f"x{len(self.fake.comments)}", author, body))

    def comments(self, number: int) -> list[str]:
        return [each.body for each in self.fake.comments.get(number, [])]

    def sent(self) -> int:
        return len(self.fake.sent)

    def status(self, commit: str, context: str) -> tuple[str, str] | None:
        found = self.fake.status_of(commit, context)
        return (found.description, found.url) if found else None


@asynccontextmanager
async def any_forge(kind: str, folder: Path) -> AsyncIterator[tuple[OfServer, Forge]]:
    if kind == "fake":
        fake = FakeForge()
        yield OfFake(fake), fake
    else:
        async with opened(kind, folder) as (server, forge, _):
            yield OfServer(server), forge


every_forge = pytest.mark.parametrize("kind", [*KINDS, "fake"])
every_real_forge = pytest.mark.parametrize("kind", KINDS)


@every_forge
async def test_open_pull_requests_of_the_branch_oldest_first(kind: str, tmp_path: Path) -> None:
    async with any_forge(kind, tmp_path) as (world, forge):
        world.open_pull(12, B, fork=True)
        world.open_pull(3, A)
        world.open_pull(4, A, base="release")
        listed = await forge.open_pull_requests("main")
        assert [(each.number, each.head_commit, each.fork) for each in listed.pull_requests] == [
            (3, A, False),
            (12, B, True),
        ]
        assert {each.author for each in listed.pull_requests} == {"ann"}
        assert listed.complete


@every_forge
async def test_one_comment_is_made_and_then_changed(kind: str, tmp_path: Path) -> None:
    async with any_forge(kind, tmp_path) as (world, forge):
        assert await forge.find_comment(3, PREFIX) is None
        made = await forge.put_comment(3, None, PREFIX + "1 -->\nfirst")
        assert made == await forge.find_comment(3, PREFIX)
        await forge.put_comment(3, made, PREFIX + "2 -->\nsecond")
        assert world.comments(3) == [PREFIX + "2 -->\nsecond"]


@every_forge
async def test_only_our_own_comments_count(kind: str, tmp_path: Path) -> None:
    """Anybody can write the marker. Whoever takes theirs for ours edits a stranger's comment, or believes it."""
    async with any_forge(kind, tmp_path) as (world, forge):
        world.say(3, "eve", PREFIX + "forged -->")
        world.say(3, BOT, "said by hand\n" + PREFIX)
        world.say(3, BOT, PREFIX.replace("main", "other") + "-->")
        assert await forge.find_comment(3, PREFIX) is None
        world.say(3, BOT, PREFIX + "-->")
        world.say(3, BOT, PREFIX + "a second one -->")
        found = await forge.find_comment(3, PREFIX)
        assert found is not None
        assert found.body == PREFIX + "-->"


@every_forge
async def test_the_same_text_is_not_sent_again(kind: str, tmp_path: Path) -> None:
    async with any_forge(kind, tmp_path) as (world, forge):
        made = await forge.put_comment(3, None, "text")
        await forge.put_comment(3, made, "text")
        assert world.sent() == 1


@every_forge
async def test_a_status_is_sent_once_and_again_when_it_changes(kind: str, tmp_path: Path) -> None:
    async with any_forge(kind, tmp_path) as (world, forge):
        status = CommitStatus("trueup/plan", "pending", "soon", "https://example.test/1")
        assert await forge.put_status(A, status)
        assert not await forge.put_status(A, status)
        for state in ("failure", "success", "superseded"):
            assert await forge.put_status(A, CommitStatus("trueup/plan", state, state, status.url))
            assert not await forge.put_status(A, CommitStatus("trueup/plan", state, state, status.url))
        assert await forge.put_status(A, CommitStatus("trueup/apply", "success", "other"))
        assert world.status(A, "trueup/plan") == ("superseded", status.url)
        assert world.status(A, "trueup/apply") == ("other", "")
        assert world.status(B, "trueup/plan") is None
        assert world.sent() == 5


# --- what only HTTP has ---


@every_real_forge
async def test_each_state_in_the_forges_own_words(kind: str, tmp_path: Path) -> None:
    words = {
        "github": ["pending", "pending", "failure", "success", "error"],
        "gitlab": ["pending", "running", "failed", "success", "canceled"],
        "gitea": ["pending", "pending", "failure", "success", "warning"],
    }
    async with opened(kind, tmp_path) as (server, forge, _):
        for state in ("pending", "running", "failure", "success", "superseded"):
            await forge.put_status(A, CommitStatus("c", state, state))
        assert [each.state for each in reversed(server.statuses[A])] == words[kind]


@every_real_forge
async def test_pages_are_read_to_the_end_and_no_further_than_the_bound(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as (server, forge, _):
        server.page_items_max = 20  # Gitea's operator may allow fewer than are asked for
        for number in range(1, 46):
            server.open_pull(number, A)
        size_is_kept = kind != "gitlab"
        if not size_is_kept:
            server.page_items_max = 100
        listed = await forge.open_pull_requests("main")
        assert [each.number for each in listed.pull_requests] == list(range(1, 46))
        assert listed.complete
        for number in range(46, 1200):
            server.open_pull(number, A)
        server.page_items_max = 100
        listed = await forge.open_pull_requests("main")
        assert not listed.complete
        assert len(listed.pull_requests) == 1000


@pytest.mark.parametrize("kind", ["github", "gitlab"])
async def test_our_comment_is_found_behind_many_others(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as (server, forge, _):
        for number in range(250):
            server.comment(3, "ann", f"chat {number}")
        server.comment(3, BOT, PREFIX)
        assert await forge.find_comment(3, PREFIX) is not None


@every_real_forge
async def test_a_fork_is_one_when_its_repository_is_gone(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as (server, forge, _):
        server.open_pull(1, A, fork=True)
        document = server._pull_document(server.pulls[1])
        if kind == "gitlab":
            document["source_project_id"] = None
        else:
            document["head"]["repo"] = None
        server.next_answers = [web.json_response([document])]
        [pull] = (await forge.open_pull_requests("main")).pull_requests
        assert pull.fork


@every_real_forge
async def test_long_descriptions_and_links_fit(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as (server, forge, _):
        status = CommitStatus("c", "failure", "why " * 200, "https://example.test/" + "x" * 300)
        assert await forge.put_status(A, status)
        assert not await forge.put_status(A, status)
        sent = server.status_of(A, "c")
        assert sent is not None
        assert sent.description.endswith("...")
        assert sent.url == ""


@every_real_forge
async def test_a_comment_of_the_full_size_is_taken(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as (server, forge, _):
        await forge.put_comment(3, None, "é" * forge.comment_chars_max)
        assert len(server.notes[3][0].body) == forge.comment_chars_max


async def test_gitlab_keeps_a_pending_status_pending(tmp_path: Path) -> None:
    """It answers 400 to pending after pending, even with another description."""
    async with opened("gitlab", tmp_path) as (server, forge, _):
        await forge.put_status(A, CommitStatus("c", "pending", "one"))
        await forge.put_status(A, CommitStatus("c", "pending", "two"))
        server.next_answers = [web.json_response([]), web.json_response({"message": "ref is invalid"}, status=400)]
        with pytest.raises(Refusal, match="ref is invalid"):
            await forge.put_status(B, CommitStatus("c", "pending", "one"))


async def test_gitlab_is_told_the_ref_of_a_fork(tmp_path: Path) -> None:
    async with opened("gitlab", tmp_path) as (server, forge, _):
        await forge.put_status(A, CommitStatus("c", "success", "ok"), ref=forge.head_ref(9))
        assert server.statuses[A][0].ref == "refs/merge-requests/9/head"


# --- credentials ---


@every_real_forge
async def test_the_token_is_not_sent_after_a_redirect(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as (server, forge, _), ForgeServer(kind) as elsewhere:
        for status in (301, 302, 307, 308):
            server.next_answers = [web.Response(status=status, headers={"Location": f"{elsewhere.url}/user"})]
            with pytest.raises(Refusal) as refused:
                await forge.put_status(A, CommitStatus("c", "success", "ok"))
            assert refused.value.code == "forge_redirect"
        assert elsewhere.requests == []


async def test_a_link_to_the_next_page_elsewhere_is_not_followed(tmp_path: Path) -> None:
    async with opened("github", tmp_path) as (server, forge, _), ForgeServer("github") as elsewhere:
        server.next_answers = [
            web.json_response([], headers={"Link": f'<{elsewhere.url}/user>; rel="next"'}),
            web.json_response(
                [server._pull_document(server.open_pull(1, A))],
                headers={"Link": f'<{elsewhere.url}/user>; rel="next"'},
            ),
            web.json_response([]),
        ]
        await forge.open_pull_requests("main")
        await forge.open_pull_requests("main")
        assert elsewhere.requests == []


@every_real_forge
async def test_a_renewed_token_needs_no_restart(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as (server, forge, _):
        await forge.find_comment(1, PREFIX)
        (tmp_path / "token").write_text("renewed-token")
        await forge.find_comment(1, PREFIX)
        assert "renewed-token" in json.dumps(server.headers[-1])
        assert TOKEN not in json.dumps(server.headers[-1])
        assert [path for _, path, _ in server.requests].count("/user") == 2


@pytest.mark.parametrize(
    ("text", "mode", "code"),
    [
        (TOKEN, 0o644, "key_exposed"),
        ("", 0o600, "key_damaged"),
        ("two words", 0o600, "key_damaged"),
        ("é", 0o600, "key_damaged"),
    ],
)
def test_a_token_file_that_is_no_good_is_refused_at_the_start(tmp_path: Path, text: str, mode: int, code: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    settings = ForgeSettings(kind="github", repository=REPOSITORY, token_file=path)
    with pytest.raises(Refusal) as refused:
        open_forge(settings, "", SystemClock(), random.Random(1))
    assert refused.value.code == code
    assert TOKEN not in str(refused.value)


@every_real_forge
async def test_the_token_is_in_no_message_and_no_log(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with opened(kind, tmp_path) as (server, forge, _):
            for answer in (
                web.json_response({"message": "Bad credentials"}, status=401),
                web.json_response({"message": "no"}, status=403),
                web.json_response({"message": "no"}, status=404),
                web.json_response({"message": "no", "errors": [{"field": "body"}]}, status=422),
                web.Response(text="<html>"),
            ):
                server.next_answers = [answer]
                with pytest.raises(TrueupError) as failed:
                    await forge.open_pull_requests("main")
                assert TOKEN not in str(failed.value)
                assert failed.value.fix or failed.value.code == "forge_422"
    assert TOKEN not in caplog.text


async def test_an_unknown_certificate_is_refused_and_a_known_authority_believed(tmp_path: Path) -> None:
    import ssl

    from aiohttp.test_utils import unused_port

    authority = Authority.create()
    authority.write(tmp_path / "ca.pem")
    for name, text in zip(("cert.pem", "key.pem"), authority.issue("localhost"), strict=True):
        (tmp_path / name).write_text(text)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response([])

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    runner, port = web.AppRunner(app), unused_port()
    await runner.setup()
    await web.TCPSite(runner, "localhost", port, ssl_context=context).start()
    try:
        for ca_file in (None, tmp_path / "ca.pem"):
            settings = ForgeSettings(
                kind="github",
                api_url=f"https://localhost:{port}",
                repository=REPOSITORY,
                token_file=token,
                ca_file=ca_file,
            )
            forge = open_forge(settings, "", QuickClock(), random.Random(1))
            try:
                if ca_file is None:
                    with pytest.raises(Transient, match="certificate"):
                        await forge.open_pull_requests("main")
                    assert seen == []
                else:
                    await forge.open_pull_requests("main")
                    assert len(seen) == 1
            finally:
                await forge.close()
    finally:
        await runner.cleanup()


# --- what goes wrong on the way ---


@every_real_forge
async def test_a_passing_fault_is_tried_again_and_a_lasting_one_told(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as (server, forge, clock):
        server.next_answers = [web.Response(status=502), web.Response(status=500)]
        assert (await forge.open_pull_requests("main")).complete
        assert len(clock.slept) == 2
        server.next_answers = [web.Response(status=503) for _ in range(limits.TRIES_MAX)]
        with pytest.raises(Transient) as failed:
            await forge.open_pull_requests("main")
        assert failed.value.code == "forge_unavailable"


@every_real_forge
async def test_a_comment_whose_answer_is_lost_is_not_sent_twice_at_once(kind: str, tmp_path: Path) -> None:
    """The next pass looks whether it is there."""
    async with opened(kind, tmp_path) as (server, forge, _):
        server.next_answers = [web.Response(status=502)]
        with pytest.raises(Transient):
            await forge.put_comment(3, None, "text")
        assert len(server.sent()) == 1


@every_real_forge
async def test_a_forge_that_never_answers_is_given_up(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 0.2)
    async with opened(kind, tmp_path) as (server, forge, _):
        server.next_answers = [hang, hang, hang]
        with pytest.raises(Transient, match="did not answer in time"):
            await forge.open_pull_requests("main")


@every_real_forge
async def test_an_endless_answer_is_cut(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_BYTES_MAX", 1 << 20)
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"[" * 65536)
            written += 65536

    async with opened(kind, tmp_path) as (server, forge, _):
        server.next_answers = [endless]
        with pytest.raises(Refusal) as refused:
            await forge.open_pull_requests("main")
        assert refused.value.code == "forge_answer_too_large"
    assert written < 64 << 20


@every_real_forge
@pytest.mark.parametrize(
    "document",
    [{}, 7, None, [7], [{}], [None], [{"number": "x", "iid": []}], "text"],
)
async def test_an_odd_answer_is_said_to_be_one(kind: str, tmp_path: Path, document: Any) -> None:
    async with opened(kind, tmp_path) as (server, forge, _):
        server.next_answers = [web.json_response(document)]
        with pytest.raises(Transient) as failed:
            await forge.open_pull_requests("main")
        assert failed.value.code == "forge_answer_invalid"


@every_real_forge
@pytest.mark.parametrize("head", ["--upload-pack=x", "../x", "A" * 40, "a" * 39, 7])
async def test_a_head_that_is_no_commit_id_gets_nowhere(kind: str, tmp_path: Path, head: Any) -> None:
    async with opened(kind, tmp_path) as (server, forge, _):
        document = server._pull_document(server.open_pull(1, head))
        server.next_answers = [web.json_response([document])]
        with pytest.raises(Transient):
            await forge.open_pull_requests("main")


# --- limits of the forge ---


@every_real_forge
@pytest.mark.parametrize("status", [429, 403])
async def test_a_forge_that_wants_a_rest_gets_it(kind: str, tmp_path: Path, status: int) -> None:
    async with opened(kind, tmp_path) as (server, forge, clock):
        server.next_answers = [web.Response(status=status, headers={"Retry-After": "120"})]
        for _ in range(5):
            with pytest.raises(Transient) as failed:
                await forge.open_pull_requests("main")
            assert failed.value.code == "forge_rate_limited"
        assert len(server.requests) == 1
        assert 100 < forge.blocked_s() <= 120
        clock.ahead_s += 121
        assert (await forge.open_pull_requests("main")).complete


@every_real_forge
async def test_the_last_requests_are_left_to_people(kind: str, tmp_path: Path) -> None:
    prefix = "" if kind == "gitlab" else "X-"
    async with opened(kind, tmp_path) as (server, forge, _):
        moment = {"Date": "Wed, 25 Nov 2026 12:00:00 GMT"}
        left = {f"{prefix}RateLimit-Remaining": "3", f"{prefix}RateLimit-Reset": str(1795608000 + 300)}
        server.next_answers = [web.json_response([], headers={**moment, **left})]
        await forge.open_pull_requests("main")
        assert 290 < forge.blocked_s() <= 300, "by the forge's own clock, not ours"


def test_odd_limits_block_neither_for_ever_nor_not_at_all() -> None:
    quota = Quota()
    quota.learn(429, {"Retry-After": "99999999"}, 0.0)
    assert quota.blocked_s(0.0) == limits.RETRY_AFTER_S_MAX
    for text in ("-5", "soon", "", "1e9", "9" * 40, "²"):
        quota = Quota()
        quota.learn(429, {"Retry-After": text}, 0.0)
        assert quota.blocked_s(0.0) == 60.0
    assert (
        retry_after_s({"Retry-After": "Wed, 25 Nov 2026 12:01:00 GMT", "Date": "Wed, 25 Nov 2026 12:00:00 GMT"}) == 60.0
    )
    assert is_limited(403, {"X-RateLimit-Remaining": "0"})
    assert not is_limited(403, {"X-RateLimit-Remaining": "70"})


# --- settings ---


@pytest.mark.parametrize(
    ("kind", "source_url", "api_url", "repository"),
    [
        ("github", "https://github.com/acme/fleet.git", "https://api.github.com", "acme/fleet"),
        ("github", "git@github.example.com:acme/fleet.git", "https://github.example.com/api/v3", "acme/fleet"),
        ("gitlab", "ssh://git@gitlab.example.com:2222/a/b/fleet.git", "https://gitlab.example.com/api/v4", "a/b/fleet"),
        ("gitea", "https://git.example.com/acme/fleet", "https://git.example.com/api/v1", "acme/fleet"),
    ],
)
def test_where_the_api_is_follows_from_the_source(kind: str, source_url: str, api_url: str, repository: str) -> None:
    settings = ForgeSettings(kind=kind)
    assert settings.api_url_for(source_url) == api_url
    assert settings.repository_for(source_url) == repository


@pytest.mark.parametrize(
    ("api_url", "repository"),
    [
        ("http://git.example.com/api/v1", "acme/fleet"),
        ("https://user:password@git.example.com", "acme/fleet"),
        ("https://git.example.com/?token=x", "acme/fleet"),
        ("ftp://git.example.com", "acme/fleet"),
        ("https://", "acme/fleet"),
        ("https://git.example.com", "acme/../admin"),
        ("https://git.example.com", "acme"),
        ("https://git.example.com", "acme/fleet/x"),
        ("https://git.example.com", "acme/fl eet"),
        ("https://git.example.com", "acme/fleet?x=1"),
        ("", "acme/fleet"),
    ],
)
def test_addresses_that_the_token_would_not_be_safe_at(api_url: str, repository: str, tmp_path: Path) -> None:
    settings = ForgeSettings(kind="gitea", api_url=api_url, repository=repository)
    with pytest.raises(Refusal):
        settings.repository_for("")
        settings.api_url_for("/srv/git/fleet.git")
