"""Errors, bounds and reads of the HTTP interface: what any client may rely on."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from yarl import URL

from kit.control_plane import ControlPlane
from kit.errors import Bug, Refusal, Transient
from reconciler.server.app import HttpServer
from reconciler.server.limits import Limits
from tests.twin import append
from tests.unit.server.world import (
    DEADLINE_S,
    World,
    enrol_node,
    enrolment,
    heard,
    long_event,
    serving,
    token_of,
    until,
)

OPS = token_of("operator", "ops")
NODE = token_of("node", "node-a")
MEMBERS = {"type", "title", "status", "detail", "code", "fix", "retryable", "retry_after_seconds", "request_id"}


async def raw(world: World, text: str, *, wait_s: float = DEADLINE_S) -> bytes:
    """Sends bytes as they are and reads until the server closes."""
    host, port = world.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(text.encode())
        await writer.drain()
        return await asyncio.wait_for(reader.read(), wait_s)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (
            Refusal("enrol node-a", "its subnet is taken", fix="use another", code="claim_taken"),
            409,
            "claim_taken",
            None,
        ),
        (Refusal("enrol node-a", "no", code="enrolment_invalid"), 400, "enrolment_invalid", None),
        (Transient("append", "the database is away", code="unavailable"), 503, "unavailable", 2),
        (Transient("append", "others wrote", code="version_conflict"), 503, "version_conflict", 2),
        (Bug("append", "table secret_table broke"), 500, "internal", None),
        (ZeroDivisionError("secret_table"), 500, "internal", None),
        (TimeoutError(), 504, "handler_timeout", 1),
    ],
)
async def test_every_error_is_one_problem_document(
    error: BaseException, status: int, code: str, retry_after: int | None
) -> None:
    async with serving() as world:
        world.break_with = error
        found, document, headers = await world.call(
            "POST", "/v1/nodes/node-a/enrol", NODE, json=enrolment("node-a"), headers={"X-Request-Id": "my-request-1"}
        )
        assert (found, document["status"], document["code"]) == (status, status, code)
        assert set(document) == MEMBERS
        assert headers["Content-Type"] == "application/problem+json"
        assert document["request_id"] == headers["X-Request-Id"] == "my-request-1"
        assert document["retry_after_seconds"] == retry_after
        assert headers.get("Retry-After") == (str(retry_after) if retry_after else None)
        assert document["retryable"] == (retry_after is not None)
        assert "secret_table" not in json.dumps(document)


async def test_the_kit_s_client_reads_a_problem_as_it_was_meant() -> None:
    async with serving() as world:
        world.break_with = Refusal(
            "enrol node node-a", "the subnet belongs to node-b", fix="use another", code="claim_taken"
        )
        async with ControlPlane(world.url, NODE) as control_plane:
            with pytest.raises(Refusal, match="belongs to node-b") as refused:
                await control_plane.post_json("/v1/nodes/node-a/enrol", enrolment("node-a"))
            assert (refused.value.code, refused.value.fix) == ("claim_taken", "use another")
            world.break_with = Transient("append", "the database is away", code="unavailable")
            with pytest.raises(Transient):
                await control_plane.post_json("/v1/nodes/node-a/enrol", enrolment("node-a"))


@pytest.mark.parametrize("given", ["short", "bad id!", "x" * 200, "a\tb-long-enough"])
async def test_a_request_id_that_does_not_fit_is_replaced(given: str) -> None:
    async with serving() as world:
        headers = {"X-Request-Id": given}
        _, document, answered = await world.call("GET", "/v1/nope", OPS, headers=headers)
        assert answered["X-Request-Id"] == document["request_id"] != given


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_argument"),
        (b"{", 400, "invalid_argument"),
        (b"[]", 400, "invalid_argument"),
        (b'{"node_id": NaN}', 400, "invalid_argument"),
        (b"\xff\xfe{}", 400, "invalid_argument"),
        (b"[" * 500_000, 400, "invalid_argument"),
        (b"{}", 400, "document_invalid"),
        (b" " * ((1 << 20) + 1), 413, "body_too_large"),
    ],
)
async def test_a_body_that_is_no_document_is_refused(body: bytes, status: int, code: str) -> None:
    async with serving() as world:
        found, document, _ = await world.call("POST", "/v1/nodes/node-a/reports", NODE, data=body)
        assert (found, document["code"]) == (status, code), document
        assert world.calls == []


async def test_a_body_without_a_length_is_bounded_too() -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b" " * 65536

    async with serving() as world:
        found, document, _ = await world.call("POST", "/v1/nodes/node-a/reports", NODE, data=endless())
        assert (found, document["code"]) == (413, "body_too_large")


async def test_a_client_that_drips_its_header_is_cut_off() -> None:
    async with serving(Limits(header_timeout_s=0.3)) as world:
        assert await raw(world, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""


async def test_a_client_that_drips_its_body_is_cut_off() -> None:
    async with serving(Limits(body_timeout_s=0.3)) as world:
        start = "POST /v1/nodes/node-a/reports HTTP/1.1\r\nHost: x\r\n"
        answer = await raw(world, f"{start}Authorization: Bearer {NODE}\r\nContent-Length: 9\r\n\r\n{{")
        assert b" 408 " in answer.split(b"\r\n")[0]
        assert b'"request_timeout"' in answer


async def test_an_oversized_header_is_refused() -> None:
    async with serving() as world:
        answer = await raw(world, f"GET /v1/status HTTP/1.1\r\nHost: x\r\nX-Big: {'y' * 20_000}\r\n\r\n")
        assert b" 431 " in answer.split(b"\r\n")[0]


async def test_an_unauthorised_body_is_never_read() -> None:
    async with serving() as world:
        head = "POST /v1/nodes/node-a/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        answer = await raw(world, head)
        assert b" 401 " in answer.split(b"\r\n")[0]


async def test_connections_beyond_the_bound_are_told_so() -> None:
    async with serving(Limits(connections_max=3, streams_max=2)) as world:
        host, port = world.url.removeprefix("http://").split(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        await until(lambda: len(world.server_connections()) == 3)
        assert b" 503 " in (await raw(world, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).split(b"\r\n")[0]
        for _, writer in held:
            writer.close()
        await until(lambda: len(world.server_connections()) == 0)
        assert (await world.call("GET", "/healthz"))[0] == 200


async def test_a_client_that_does_not_take_its_answer_is_cut_off() -> None:
    async with serving(Limits(write_timeout_s=0.3)) as world:
        for number in range(40):
            payload = {"node_id": "node-a", "filler": "x" * 200_000}
            await append(world.log, f"c{number}", long_event(number, payload))
        host, port = world.url.removeprefix("http://").split(":")
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, (host, int(port)))
        head = f"GET /v1/events?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPS}\r\n\r\n"
        await loop.sock_sendall(slow, head.encode())
        await until(lambda: len(world.server_connections()) == 1)
        await until(lambda: len(world.server_connections()) == 0)
        slow.close()


async def test_a_write_goes_on_when_its_client_leaves() -> None:
    async with serving() as world:
        entered, leave = asyncio.Event(), asyncio.Event()
        done: list[str] = []

        async def slow_handle(name: str, document: Any) -> int:
            entered.set()
            await leave.wait()
            done.append(name)
            return 1

        world.handle = slow_handle  # type: ignore[method-assign]  # one slow write is the point
        asking = asyncio.create_task(world.call("POST", "/v1/nodes/node-a/enrol", NODE, json=enrolment("node-a")))
        await asyncio.wait_for(entered.wait(), DEADLINE_S)
        asking.cancel()
        await until(lambda: len(world.server_connections()) == 0)
        leave.set()
        await until(lambda: done == ["enrol"])


async def test_shutdown_lets_a_request_at_work_finish() -> None:
    async with serving() as world:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def slow_handle(name: str, document: Any) -> int:
            entered.set()
            await leave.wait()
            return 1

        world.handle = slow_handle  # type: ignore[method-assign]  # one slow write is the point
        asking = asyncio.create_task(world.call("POST", "/v1/nodes/node-a/enrol", NODE, json=enrolment("node-a")))
        await asyncio.wait_for(entered.wait(), DEADLINE_S)
        server: HttpServer = world.server
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        leave.set()
        status, _, _ = await asyncio.wait_for(asking, DEADLINE_S)
        assert status == 200
        await asyncio.wait_for(stopping, DEADLINE_S)


async def test_reads_wait_for_what_the_reader_wrote_and_say_when_it_takes_too_long() -> None:
    async with serving() as world:
        event_id = await enrol_node(world.log, "node-a")
        document = await world.get(f"/v1/views/nodes?min_event_id={event_id}")
        assert [row["key"] for row in document["rows"]] == ["node-a"]
        world.views.held_at = event_id
        later = await enrol_node(world.log, "node-b")
        for path in ("/v1/views/nodes", "/v1/views/nodes/node-a", "/v1/status"):
            status, problem, _ = await world.call("GET", f"{path}?min_event_id={later}", OPS)
            assert (status, problem["code"], problem["retryable"]) == (504, "projection_timeout", True)
        status, problem, _ = await world.call("GET", f"/v1/nodes/node-a/plan?min_event_id={later}", NODE)
        assert (status, problem["code"]) == (504, "projection_timeout")


async def test_views_are_paged_in_the_order_of_their_keys() -> None:
    async with serving() as world:
        for name in ("c", "a", "b"):
            await enrol_node(world.log, name)
        page = await world.get("/v1/views/nodes?limit=2")
        assert ([row["key"] for row in page["rows"]], page["next"]) == (["a", "b"], "b")
        page = await world.get("/v1/views/nodes?limit=2&after=b")
        assert ([row["key"] for row in page["rows"]], page["next"]) == (["c"], None)
        row = await world.get("/v1/views/nodes/a")
        assert row["doc"]["node_id"] == "a"
        assert (await world.call("GET", "/v1/views/nodes/z", OPS))[0] == 404
        status, problem, _ = await world.call("GET", "/v1/views/pg_shadow", OPS)
        assert (status, problem["code"]) == (404, "not_found")
        assert "nodes" in problem["fix"]


async def test_events_are_filtered_and_paged() -> None:
    async with serving() as world:
        for number in range(5):
            await append(world.log, f"c{number}", heard("node-a", number))
        await enrol_node(world.log, "node-a")
        page = await world.get("/v1/events?limit=4")
        assert ([event["event_id"] for event in page["events"]], page["next_after"]) == ([1, 2, 3, 4], 4)
        page = await world.get("/v1/events?limit=4&after=4")
        assert ([event["event_id"] for event in page["events"]], page["next_after"]) == ([5, 6], None)
        page = await world.get("/v1/events?event_type=node.enrolled,node.state_changed")
        assert [event["event_id"] for event in page["events"]] == [6]
        page = await world.get("/v1/events?aggregate_type=volume&aggregate_id=o/p/prod/site/volume/v3")
        assert [event["event_id"] for event in page["events"]] == [4]


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "limit=0", "limit=1001", "limit=1e3", "commit=zz", "commit=ab", "agregate_id=x", "after=٣"],
)
async def test_a_query_that_means_nothing_is_refused(query: str) -> None:
    async with serving() as world:
        status, problem, _ = await world.call("GET", f"/v1/events?{query}", OPS)
        assert (status, problem["code"]) == (400, "invalid_argument")


async def test_a_node_that_is_not_known_gets_no_plan_and_no_heartbeat() -> None:
    """An empty plan would mean: stop everything."""
    async with serving() as world:
        for method, path in (("GET", "/v1/nodes/node-a/plan"), ("POST", "/v1/nodes/node-a/heartbeat")):
            status, problem, _ = await world.call(method, path, NODE)
            assert (status, problem["code"]) == (404, "node_unknown")
        await enrol_node(world.log, "node-a")
        status, plan, _ = await world.call("GET", "/v1/nodes/node-a/plan", NODE)
        assert (status, plan["node_id"], plan["log_id"], plan["generation"]) == (200, "node-a", "log-1", 1)
        assert (await world.call("POST", "/v1/nodes/node-a/heartbeat", NODE))[0] == 200
        assert world.calls == [("heartbeat", "node-a")]


async def test_readiness_follows_the_database() -> None:
    async with serving() as world:
        assert (await world.call("GET", "/readyz"))[0] == 200
        world.log.broken = True
        status, problem, _ = await world.call("GET", "/readyz")
        assert (status, problem["code"]) == (503, "unavailable")
        assert (await world.call("GET", "/healthz"))[0] == 200


async def test_no_token_and_no_secret_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with serving() as world:
        await enrol_node(world.log, "node-a")
        await world.call("GET", "/v1/nodes/node-a/plan", NODE)
        await world.call("GET", "/v1/nodes/node-b/plan", NODE)
        await world.call("POST", "/v1/nodes/node-a/enrol", NODE, json=enrolment("node-a"))
        await world.call("GET", f"/v1/events?commit={'canary' * 4}", OPS)
    everything = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "/v1/nodes/node-a/plan" in everything
    for secret in (NODE, NODE.rpartition(":")[2], OPS, "canary", "age1xyz"):
        assert secret not in everything


@pytest.mark.parametrize(
    "path", ["/v1/why?resource=%00ri", "/v1/views/nodes/a%00b", "/v1/events?actor=a%00", "/v1/status?%00=1"]
)
async def test_a_nul_anywhere_is_refused(path: str) -> None:
    """The database cannot hold one: asked for, it would be a bug of ours. Found by schemathesis."""
    async with serving() as world:
        assert world.session is not None
        url = URL(world.url + path, encoded=True)
        async with world.session.get(url, headers={"Authorization": f"Bearer {OPS}"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, "invalid_argument")
