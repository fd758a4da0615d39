"""Reading what a client sent, within bounds: the body, the query, the name in the path. Used by every handler."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from aiohttp import HttpVersion11, web

from reconciler.core.moments import parse_time
from reconciler.server.limits import Limits
from reconciler.server.problems import Problem

EVENT_ID_MAX = (1 << 63) - 1
TEXT_CHARS_MAX = 1024


async def only_known(request: web.Request) -> None:
    """Called before the guard for a request with an Expect header: whether its body is wanted is not known yet."""
    if request.version != HttpVersion11 or request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed


async def _say_go_on(request: web.Request) -> None:
    """Who waits for leave to send a body gets it now that the body will be read, and nobody before."""
    if "Expect" in request.headers and not request.content.is_eof() and not request.content.total_bytes:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the answer


async def read_body(request: web.Request, limits: Limits) -> bytes:
    """The raw body. 413 before reading when its length is announced, 408 when it drips."""
    if (request.content_length or 0) > limits.body_bytes_max:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            await _say_go_on(request)
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(limits) from None
    except TimeoutError:
        raise Problem("request_timeout", f"the body did not come within {limits.body_timeout_s:g} s") from None


async def feed_body(request: web.Request, feed: Callable[[bytes], None], *, bytes_max: int, timeout_s: float) -> None:
    """The raw body in pieces, for who keeps nothing of it. 413 and 408 as in `read_body`."""
    left_bytes = bytes_max
    if (request.content_length or 0) > bytes_max:
        raise Problem("body_too_large", f"the body is larger than {bytes_max} bytes")
    try:
        async with asyncio.timeout(timeout_s):
            await _say_go_on(request)
            async for chunk in request.content.iter_any():
                left_bytes -= len(chunk)
                if left_bytes < 0:
                    raise Problem("body_too_large", f"the body is larger than {bytes_max} bytes")
                feed(chunk)
    except TimeoutError:
        raise Problem("request_timeout", f"the body did not come within {timeout_s:g} s") from None


async def read_document(request: web.Request, limits: Limits) -> dict[str, Any]:
    """The body as one JSON object."""
    body = await read_body(request, limits)
    try:
        document = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Problem("invalid_argument", f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Problem("invalid_argument", f"the body is {type(document).__name__}, expected an object")
    return document


def query_int(request: web.Request, name: str, default: int, *, lowest: int = 0, highest: int = EVENT_ID_MAX) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and lowest <= int(text) <= highest):
        raise Problem("invalid_argument", f"{name}={text[:40]!r} is not a whole number from {lowest} to {highest}")
    return int(text)


def query_text(request: web.Request, name: str) -> str:
    text = str(request.query.get(name, ""))
    if len(text) > TEXT_CHARS_MAX or "\x00" in text:
        raise Problem("invalid_argument", f"{name}= is too long or has a NUL in it")
    return text


def query_time(request: web.Request, name: str) -> str:
    """As it is written in the log, "" when it is not given."""
    text = query_text(request, name)
    time = parse_time(text) if text else ""
    if time is None:
        raise Problem("invalid_argument", f"{name}={text[:40]!r} is not a time like 2026-01-31T10:00:00Z")
    return time


def query_words(request: web.Request, name: str) -> tuple[str, ...]:
    """Repeated or separated by commas."""
    return tuple(word for text in request.query.getall(name, []) for word in text.split(",") if word)


def known_query(request: web.Request, known: Collection[str]) -> None:
    """A misspelt filter would show everything and look like an answer. Called by the guard, for every route."""
    unknown = sorted(set(request.query) - set(known))
    if unknown:
        fix = f"known here: {', '.join(sorted(known)) or 'none'}"
        raise Problem("invalid_argument", f"unknown query parameter {unknown[0][:40]!r}", fix=fix)


def sound_words(request: web.Request) -> None:
    """No NUL and no half of a surrogate pair: neither the database nor an answer can hold one. Called by the guard."""
    words = (*request.query, *request.query.values(), *request.match_info.values())
    if any("\x00" in word or not _is_utf8(word) for word in words):
        raise Problem("invalid_argument", "the path or the query has a NUL or half a surrogate pair in it")


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_large(limits: Limits) -> Problem:
    return Problem("body_too_large", f"the body is larger than {limits.body_bytes_max} bytes")


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")
