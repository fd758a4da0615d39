"""The command line, and what a probe thinks of an answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.observe import probe
from agent.settings import Settings
from kit import settings
from kit.errors import Refusal
from kit.wire import Health


def load(*argv: str, **environ: str) -> Settings:
    return settings.load(Settings, argv=argv, environ=environ, prog="trueup-agent")


def test_flags_and_variables() -> None:
    chosen = load(
        *("--node-id", "node-a", "--controller", "http://[::1]:7340", "--subnet", "fd00:7475:a::/64"),
        *("--state", "/var/lib/x", "--memory", "2Gi"),
        TRUEUP_TOKEN="node:node-a:00",
        TRUEUP_BOOTS_MAX="3",
    )
    chosen.require()
    assert (chosen.memory, chosen.boots_max, chosen.token) == (2 << 30, 3, "node:node-a:00")
    assert len(str(chosen.run_folder())) < 40
    assert chosen.run_folder() != load("--state", "/var/lib/y").run_folder()
    assert load("--run", "/tmp/r").run_folder() == Path("/tmp/r")


@pytest.mark.parametrize(
    "argv", [("--subnet", "10.0.0.0/8"), ("--subnet", "fd00::/48"), ("--network", "magic"), ("--boots-max", "0")]
)
def test_wrong_settings_are_refused_by_name(argv: tuple[str, str]) -> None:
    with pytest.raises(Refusal) as caught:
        load(*argv)
    assert argv[0] in str(caught.value)


def test_what_a_running_agent_needs_is_named() -> None:
    with pytest.raises(Refusal) as caught:
        load("--node-id", "node-a").require()
    assert "--controller" in str(caught.value)
    assert "--subnet" in str(caught.value)


async def ask(answer: bytes, check: Health, reach: str = "direct", *, hold: bool = False) -> str:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if hold:
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await probe(check, "127.0.0.1", port, reach)  # type: ignore[arg-type]  # words


HTTP, TCP = Health("http", 80, "/health", timeout_s=0.5), Health("tcp", 80, timeout_s=0.5)


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 204 \r\n", True),
        (b"HTTP/1.1 302 Found\r\n", True),
        (b"HTTP/1.1 503 No\r\n", False),
        (b"SSH-2.0-x\r\n", False),
        (b"HTTP/1.1 2x0\r\n", False),
        (b"", False),
        (b"H" * 200_000, False),
    ],
)
async def test_http_answers(answer: bytes, good: bool) -> None:
    assert (await ask(answer, HTTP) == "") is good


async def test_a_silent_server_is_no_answer() -> None:
    assert "no answer within" in await ask(b"", HTTP, hold=True)
    assert await ask(b"", TCP, hold=True) == ""


async def test_a_forwarded_port_that_closes_at_once_has_nobody_behind_it() -> None:
    assert await ask(b"", TCP, "direct") == ""
    assert await ask(b"", TCP, "forwarded") != ""
    assert await ask(b"", TCP, "forwarded", hold=True) == ""


async def test_a_closed_port() -> None:
    assert await probe(TCP, "127.0.0.1", 1, "direct") != ""
