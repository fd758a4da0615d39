"""What gpgv's status lines mean. Exit codes mean nothing: it ends with 0 for revoked and expired keys."""

from __future__ import annotations

import pytest

from reconciler.core.signing.openpgp import GpgAnswer, read_status

KEY = "EE213198A922424D8D692F4F64C8615AD4119CD8"
VALID = f"VALIDSIG {'0' * 40} 2026-11-25 1795640650 0 4 0 22 8 00 {KEY}"


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["NEWSIG", "GOODSIG 64C8615AD4119CD8 A <a@x>", VALID], GpgAnswer("good", KEY)),
        (["REVKEYSIG 64C8615AD4119CD8 A <a@x>", VALID], GpgAnswer("revoked", KEY)),
        (["KEYEXPIRED 1609372800", "EXPKEYSIG 64C8615AD4119CD8 A", VALID], GpgAnswer("expired", KEY)),
        (["EXPSIG 64C8615AD4119CD8 A", VALID], GpgAnswer("expired", KEY)),
        (
            ["ERRSIG 64C8615AD4119CD8 22 8 00 1795640650 9 -", "NO_PUBKEY 64C8615AD4119CD8"],
            GpgAnswer("unknown", KEY[24:]),
        ),
        (["ERRSIG 64C8615AD4119CD8 22 8 00 1795640650 4 -"], GpgAnswer("bad", "")),
        (["BADSIG 64C8615AD4119CD8 A"], GpgAnswer("bad", "")),
        (["GOODSIG 64C8615AD4119CD8 A"], GpgAnswer("bad", "")),
        ([VALID], GpgAnswer("bad", KEY)),
        (["GOODSIG 64C8615AD4119CD8 A", VALID, "GOODSIG 64C8615AD4119CD8 A", VALID], GpgAnswer("bad", "")),
        (["GOODSIG 64C8615AD4119CD8 A", VALID, "BADSIG 64C8615AD4119CD8 A"], GpgAnswer("bad", KEY)),
        ([], GpgAnswer("bad", "")),
    ],
)
def test_the_status_decides(lines: list[str], answer: GpgAnswer) -> None:
    assert read_status("".join(f"[GNUPG:] {line}\n" for line in lines)) == answer
    assert read_status("".join(f"gpgv: {line}\n" for line in lines)) == GpgAnswer("bad", "")
