"""Conversations with haproxy over its two sockets. Used by `process` (the master's) and `haproxy` (the worker's).

The worker's socket is used in its interactive mode: each answer ends with an empty line and a prompt, so that each
command has its own answer. A command with a payload ends with an empty line; haproxy prints "+ " for each line of it.
The master's socket closes after one command.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kit.errors import Transient

ANSWER_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 << 20
PAYLOAD_BYTES_MAX = 8 << 10  # one command and its payload must fit into a buffer of haproxy (16 KiB)
_PROMPT = b"\n> "
_PAYLOAD_ECHO = re.compile(r"\A(\+ )+")


class Conversation:
    """One open connection to a worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, command: str, payload: str = "") -> str:
        """The answer, without the white space around it. `payload`: lines, none empty, each with its line feed."""
        assert "\n" not in command and "\n\n" not in payload, command
        text = f"{command} <<\n{payload}\n" if payload else f"{command}\n"
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                self._writer.write(text.encode())
                await self._writer.drain()
                answer = await self._reader.readuntil(_PROMPT)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise _unreachable(command, error) from error
        return _PAYLOAD_ECHO.sub("", answer.removesuffix(_PROMPT).decode()).strip()

    async def tell(self, command: str, payload: str = "") -> None:
        """A command that says nothing when it works."""
        answer = await self.ask(command, payload)
        if answer and not answer.startswith(_HARMLESS):
            raise Transient(f"tell haproxy {command!r}", answer.splitlines()[0], code="dataplane_command_failed")


_HARMLESS = ("New server registered", "Server deleted")


@asynccontextmanager
async def conversation(socket: Path) -> AsyncIterator[Conversation]:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=ANSWER_BYTES_MAX)
    except (OSError, TimeoutError) as error:
        raise _unreachable(f"connect to {socket}", error) from error
    try:
        talk = Conversation(reader, writer)
        await talk.ask("prompt")
        yield talk
    finally:
        writer.close()


async def ask_master(socket: Path, command: str) -> str:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=ANSWER_BYTES_MAX)
            try:
                writer.write(f"{command}\n".encode())
                writer.write_eof()
                return (await reader.read(-1)).decode()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise _unreachable(command, error) from error


def _unreachable(command: str, error: BaseException) -> Transient:
    return Transient(
        f"tell haproxy {command.split(' <<')[0]!r}",
        f"it does not answer: {type(error).__name__} {error}".strip(),
        fix="the edge tries again by itself; see its log and haproxy.log in its state folder",
        code="dataplane_unreachable",
    )
