"""A commit as Git stores it, taken apart strictly: what was signed, by which one signature.

Called by `reconciler.git.signatures` with the raw bytes. Git and libgit2 disagree about odd commits (a second signature
header passes `git verify-commit`), so everything that git itself does not write is refused. The format:

    tree ID LF, (parent ID LF)*, author WHO LF, committer WHO LF, (NAME VALUE LF (SPACE MORE LF)*)*, LF, message

The signature is the value of the one header gpgsig (gpgsig-sha256 in a repository of SHA-256 ids), with the space that
begins each of its further lines removed. What is signed is every other byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SIGNATURE_BYTES_MAX = 16 * 1024
"""An RSA signature of 16,384 bits takes some 3,000."""
PARENTS_MAX = 16
HEADERS_MAX = 64
SIGNATURE_HEADERS = (b"gpgsig", b"gpgsig-sha256")
KNOWN_HEADERS = frozenset({b"encoding", b"mergetag", b"change-id", *SIGNATURE_HEADERS})
"""Behind the committer. `mergetag` may come several times; `change-id` is written by jj."""
_ID = rb"(?:[0-9a-f]{40}|[0-9a-f]{64})"
_TREE, _PARENT = re.compile(rb"tree (%s)" % _ID), re.compile(rb"parent (%s)" % _ID)
_WHO = re.compile(rb"(?:author|committer) [^<>\n\x00]*<([^<>\n\x00]*)> [0-9]{1,18} [+-][0-9]{4}")


class CommitMalformed(Exception):
    """The commit is not in the form that git writes; the message says in which way."""


@dataclass(frozen=True, slots=True)
class RawCommit:
    """`payload`: the bytes that the signature is about. `signature`: "" in bytes for an unsigned commit."""

    tree: str
    parents: tuple[str, ...]
    committer_email: str
    message: str
    payload: bytes
    signature: bytes
    signature_header: str


@dataclass(frozen=True, slots=True)
class _Header:
    """`start` and `end`: where it lies in the raw bytes, its last LF included."""

    name: bytes
    value: bytes
    start: int
    end: int


def read_commit(raw: bytes) -> RawCommit:
    """Raises `CommitMalformed`."""
    if b"\x00" in raw:
        raise CommitMalformed("it holds a NUL byte")
    end = raw.find(b"\n\n")
    if end < 0:
        raise CommitMalformed("no empty line ends its headers")
    headers = _headers(raw[: end + 1])
    tree, parents, email, others = _fixed_part(headers)
    _check_known(others)
    signature = _signature(others)
    payload = raw if signature is None else raw[: signature.start] + raw[signature.end :]
    return RawCommit(
        tree,
        parents,
        email,
        raw[end + 2 :].decode("utf-8", "replace"),
        payload,
        b"" if signature is None else signature.value,
        "" if signature is None else signature.name.decode(),
    )


def _headers(head: bytes) -> list[_Header]:
    """`head`: up to and with the LF of the last header."""
    found: list[_Header] = []
    position = 0
    while position < len(head):
        end = head.index(b"\n", position) + 1
        line = head[position : end - 1]
        if line.startswith(b" "):
            if not found:
                raise CommitMalformed("its first line is a continuation")
            last = found.pop()
            found.append(_Header(last.name, last.value + b"\n" + line[1:], last.start, end))
        else:
            name, _, value = line.partition(b" ")
            found.append(_Header(name, value, position, end))
            if len(found) > HEADERS_MAX:
                raise CommitMalformed(f"it has more than {HEADERS_MAX} headers")
        position = end
    return found


def _fixed_part(headers: list[_Header]) -> tuple[str, tuple[str, ...], str, list[_Header]]:
    """(tree, parents, the committer's e-mail address, the headers behind the committer)."""
    rest = [*headers]
    tree = _take(rest, b"tree", _TREE)
    parents = []
    while rest and rest[0].name == b"parent":
        parents.append(_take(rest, b"parent", _PARENT))
    if len(parents) > PARENTS_MAX:
        raise CommitMalformed(f"it has more than {PARENTS_MAX} parents")
    _take(rest, b"author", _WHO)
    email = _take(rest, b"committer", _WHO)
    return tree, tuple(parents), email, rest


def _take(rest: list[_Header], name: bytes, form: re.Pattern[bytes]) -> str:
    if not rest or rest[0].name != name:
        raise CommitMalformed(f"the header {name.decode()} is not where it belongs")
    header = rest.pop(0)
    match = form.fullmatch(header.name + b" " + header.value)
    if match is None:
        raise CommitMalformed(f"the header {name.decode()} is not in the form that git writes")
    return match[1].decode("utf-8", "replace")


def _check_known(others: list[_Header]) -> None:
    for header in others:
        if header.name not in KNOWN_HEADERS:
            shown = header.name[:40].decode("ascii", "backslashreplace")
            raise CommitMalformed(f"it has the unknown header {shown!r}")
    if sum(header.name == b"encoding" for header in others) > 1:
        raise CommitMalformed("it has two encodings")


def _signature(others: list[_Header]) -> _Header | None:
    signatures = [header for header in others if header.name in SIGNATURE_HEADERS]
    if len(signatures) > 1:
        raise CommitMalformed(f"it has {len(signatures)} signature headers; one is allowed")
    if signatures and len(signatures[0].value) > SIGNATURE_BYTES_MAX:
        raise CommitMalformed(f"its signature has more than {SIGNATURE_BYTES_MAX} bytes")
    return signatures[0] if signatures else None
