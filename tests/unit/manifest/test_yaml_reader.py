"""Inputs that break naive readers end in a finding, fast."""

from __future__ import annotations

import time

import pytest

from reconciler.core.yaml_reader import FILE_BYTES_MAX, read_documents

BOMBS = {
    "brackets": "[" * 50_000,
    "braces": "{" * 50_000,
    "dashes": "- " * 100_000,
    "question marks": "? " * 100_000,
    "indentation": "".join(" " * depth + "a:\n" for depth in range(600)),
    "items": "[" + "a," * 100_000 + "]",
    "documents": "---\na\n" * 2_000,
    "quotes": "'" * 100_001,
    "tags": "!" * 200_000,
    "colons": ":" * 200_000,
    "aliases": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\ne: [*d,*d]\n",
    "too long": "a: " + "x" * FILE_BYTES_MAX,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    began = time.monotonic()
    _, findings = read_documents(BOMBS[name].encode(), "bomb.yaml")
    assert findings
    assert time.monotonic() - began < 20


def test_scalars_keep_what_they_say() -> None:
    (document,), findings = read_documents(b"[no, 22:22, 1e3, 0x10, ~, 1_000, 2024-01-01, 'quoted']", "x.yaml")
    assert not findings
    assert [item.text for item in document.items] == [  # type: ignore[union-attr]  # the document is a list
        "no", "22:22", "1e3", "0x10", "~", "1_000", "2024-01-01", "quoted",
    ]  # fmt: skip


def test_a_byte_order_mark_is_no_content() -> None:
    (document,), findings = read_documents("\ufeffa: b".encode(), "x.yaml")
    assert not findings
    assert document.entries[0].key == "a"  # type: ignore[union-attr]  # the document is a mapping


def test_documents_before_a_mistake_are_still_read() -> None:
    documents, findings = read_documents(b"a: 1\n---\nb: 2\n---\nc: [\n", "x.yaml")
    assert len(documents) == 2
    assert [finding.code for finding in findings] == ["yaml_invalid"]
