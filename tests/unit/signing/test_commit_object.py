"""The reader of raw commits: what it takes apart is the whole, and it takes nothing that git would not write."""

from __future__ import annotations

import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.signing.armour import SignatureUnreadable
from reconciler.core.signing.commit_object import CommitMalformed, read_commit
from reconciler.core.signing.openpgp import read_packet
from reconciler.core.signing.ssh import holds, read_signature

TREE, PARENT = "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "0" * 39 + "1"
FIXED = f"tree {TREE}\nparent {PARENT}\nauthor A <a@x> 1 +0000\ncommitter B <b@x> 2 -0130\n".encode()
words = st.text(string.ascii_letters + string.digits + " -+/=:", max_size=20)
lines = st.lists(words, min_size=1, max_size=6).map(lambda each: "\n ".join(each).encode())
others = st.lists(st.tuples(st.sampled_from([b"mergetag", b"change-id"]), lines), max_size=3)
messages = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60).map(str.encode)


def written(headers: list[tuple[bytes, bytes]], message: bytes) -> bytes:
    return FIXED + b"".join(name + b" " + value + b"\n" for name, value in headers) + b"\n" + message


@given(others, lines, messages, st.data())
def test_a_signature_is_found_wherever_it_stands_and_the_rest_is_the_payload(
    headers: list[tuple[bytes, bytes]], signature: bytes, message: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(headers)))
    signed = [*headers[:at], (b"gpgsig", signature), *headers[at:]]
    found = read_commit(written(signed, message))
    assert found.payload == written(headers, message)
    assert found.signature == signature.replace(b"\n ", b"\n")
    assert (found.tree, found.parents, found.committer_email) == (TREE, (PARENT,), "b@x")
    assert found.message == message.decode()
    bare = read_commit(found.payload)
    assert (bare.signature, bare.payload) == (b"", found.payload)


@given(others, lines, lines, messages, st.sampled_from([b"gpgsig", b"gpgsig-sha256"]), st.data())
def test_two_signatures_are_never_taken(
    headers: list[tuple[bytes, bytes]], one: bytes, two: bytes, message: bytes, name: bytes, data: st.DataObject
) -> None:
    signed = data.draw(st.permutations([*headers, (b"gpgsig", one), (name, two)]))
    with pytest.raises(CommitMalformed, match="2 signature headers"):
        read_commit(written(list(signed), message))


@given(st.binary(max_size=300), st.integers(0, 200), st.integers(0, 40))
def test_any_bytes_are_read_or_refused(junk: bytes, start: int, length: int) -> None:
    """Nothing else happens, and whatever was read is made of the very bytes that came in."""
    raw = written([(b"gpgsig", b"-----BEGIN\n x")], b"message\n")
    for each in (junk, raw[:start] + junk + raw[start + length :]):
        with contextlib.suppress(CommitMalformed):
            found = read_commit(each)
            assert len(found.payload) <= len(each) and b"\0" not in each
            assert found.signature or found.payload == each


@given(st.binary(max_size=200))
def test_any_bytes_as_a_signature(junk: bytes) -> None:
    with contextlib.suppress(SignatureUnreadable):
        assert not holds(read_signature(junk), b"payload")
    with contextlib.suppress(SignatureUnreadable):
        read_packet(junk)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n\n",
        FIXED,
        b" " + FIXED + b"\n",
        FIXED.replace(b"tree", b"Tree") + b"\n",
        FIXED.replace(b"tree ", b"tree  ") + b"\n",
        FIXED.replace(TREE.encode(), TREE[:-1].encode()) + b"\n",
        FIXED.replace(TREE.encode(), TREE.upper().encode()) + b"\n",
        FIXED.replace(b"\nparent", b"\n parent") + b"\n",
        FIXED.replace(b"committer", b"author") + b"\n",
        FIXED.replace(b"<b@x>", b"<b@x> <c@x>") + b"\n",
        FIXED.replace(b" 2 -0130", b"") + b"\n",
        FIXED + b"encoding x\nencoding y\n\n",
        FIXED + b"gpgsig\n\n"[:0] + b"unknown 1\n\n",
        FIXED + b"author A <a@x> 1 +0000\n\n",
        b"tree %s\n" % TREE.encode() + b"parent %s\n" % PARENT.encode() * 17 + FIXED.split(b"\n", 2)[2] + b"\n",
        FIXED + b"mergetag x\n" * 65 + b"\n",
    ],
)
def test_what_git_does_not_write(raw: bytes) -> None:
    with pytest.raises(CommitMalformed):
        read_commit(raw)
