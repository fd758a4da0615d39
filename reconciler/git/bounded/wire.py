"""Frames between the controller and its reading process: four bytes of length, then MessagePack.

A question is one frame; the answer is any number of `Part` frames, then one `Done` or `Failed`. Both sides check types
on decoding, and the controller's side counts bytes: nothing that the child says is believed beyond its shape.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, TextIO

import msgspec

from reconciler.core.declared import ManifestFile

FRAME_BYTES_MAX = 16 << 20
PART_BYTES = 512 * 1024
"""A part is sent once it holds about so much, so that neither side keeps a second copy of a whole tree."""
ANSWER_BYTES_MAX = 256 << 20
_LENGTH_BYTES = 4


class Ask(msgspec.Struct, frozen=True):
    """`what`: a name in `child.ANSWERS`. `repository`: the path of a bare clone (asked of the sealer: of the key)."""

    what: str
    repository: str
    arguments: tuple[Any, ...] = ()


class Part(msgspec.Struct, frozen=True, tag="part"):
    files: tuple[ManifestFile, ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    value: Any = None


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A `TrueupError`, to be raised on the other side. `too_large`: of an `ObjectTooLarge`, what it is made from."""

    attempted: str
    why: str
    fix: str
    code: str
    retryable: bool
    too_large: tuple[str, int, int] | None = None


Answer = Part | Done | Failed


class FrameError(Exception):
    """The stream does not hold to the rules, or has ended."""


def frame(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def read_frame(read: Callable[[int], bytes], bytes_max: int) -> bytes:
    """`read` gives exactly as many bytes as asked for, or fewer at the end of the stream."""
    head = read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        raise FrameError("the stream ended")
    length = int.from_bytes(head, "big")
    if length > bytes_max:
        raise FrameError(f"a frame of {length} bytes; the bound is {bytes_max}")
    body = read(length)
    if len(body) < length:
        raise FrameError("the stream ended inside a frame")
    return body


def answers(standard_output: TextIO, *silent: TextIO) -> BinaryIO:
    """The child's pipe to the controller, away from standard output, where any library may have something to say. What
    goes to `silent` is lost as well."""
    pipe = os.fdopen(os.dup(standard_output.fileno()), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (standard_output, *silent):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return pipe
