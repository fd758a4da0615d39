"""What is handed to gpgv, and what its status lines mean: it takes streams, and ends with 0 for revoked keys too."""

from __future__ import annotations

import base64

import pytest

from reconciler.core.signing.armour import SignatureUnreadable
from reconciler.core.signing.openpgp import GpgAnswer, read_packet, read_status

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


def armoured(packet: bytes, head: str = "", end: str = "-----END PGP SIGNATURE-----") -> bytes:
    body = base64.b64encode(packet).decode()
    return f"-----BEGIN PGP SIGNATURE-----\n{head}\n{body}\n=abcd\n{end}\n".encode()


def packet(content: bytes, tag: int = 2) -> bytes:
    return bytes([0xC0 | tag, len(content)]) + content


GOOD = bytes([4, 0, 22, 8]) + b"the rest"


def test_one_signature_packet_in_each_of_its_forms() -> None:
    size = len(GOOD)
    old = [bytes([0x88, size]), bytes([0x89]) + size.to_bytes(2, "big"), bytes([0x8A]) + size.to_bytes(4, "big")]
    for head in (*old, bytes([0xC2, size]), bytes([0xC2, 0xFF]) + size.to_bytes(4, "big")):
        assert read_packet(armoured(head + GOOD)) == head + GOOD
    long = GOOD.ljust(500, b".")
    assert read_packet(armoured(bytes([0xC2, 192 + (308 >> 8), 308 & 255]) + long, head="Version: 1\n"))[3:] == long


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (armoured(packet(GOOD) * 2), "exactly one"),
        (armoured(packet(GOOD) + b"x"), "exactly one"),
        (armoured(packet(GOOD)[:-1]), "exactly one"),
        (armoured(packet(packet(GOOD), tag=8)), "exactly one"),
        (armoured(b"\xa3" + packet(GOOD)), "not given"),
        (armoured(bytes([0xC2, 0xE4]) + GOOD), "not given"),
        (armoured(packet(b"\x03" + GOOD[1:])), "version 4"),
        (armoured(packet(b"\x04\x01" + GOOD[2:])), "over a document"),
        (armoured(packet(b"\x04\x00\x16\x02" + GOOD[4:])), "weak"),
        (armoured(packet(b"\x04\x00\x16\x01" + GOOD[4:])), "weak"),
        (armoured(b""), "no OpenPGP packet"),
        (armoured(b"\x02" + GOOD), "no OpenPGP packet"),
        (armoured(packet(GOOD), end="-----END PGP MESSAGE-----"), "BEGIN line to its END"),
        (armoured(packet(GOOD), end="more"), "BEGIN line to its END"),
        (armoured(packet(GOOD)) * 2, "more than one"),
        (armoured(packet(GOOD)).replace(b"\n\n", b"\n"), "no empty line"),
        (armoured(packet(GOOD)).replace(b"=abcd", b"!"), "base64"),
    ],
)
def test_anything_else_is_not_handed_on(bad: bytes, why: str) -> None:
    with pytest.raises(SignatureUnreadable, match=why):
        read_packet(bad)
