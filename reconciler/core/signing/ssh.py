"""SSH signatures, in process: OpenSSH's PROTOCOL.sshsig, PROTOCOL.u2f and the keys of RFC 4253, 5656, 8332 and 8709.

Called by `verdicts` (signatures) and `policy_file` (keys). The parsing is ours and exact; the mathematics are those of
`cryptography`. tests/contracts/test_ssh_signatures.py holds it against `ssh-keygen -Y verify` for every type of key.
All structures are rows of strings with a length of four bytes in front:

    public key   type, then: ed25519: key | ecdsa: curve, point | rsa: e, n | sk-*: the same, then application
    SSHSIG       "SSHSIG" (bare), version 1 (u32), public key, namespace, reserved, hash, signature
    signed text  "SSHSIG" (bare), namespace, reserved, hash, HASH(payload)
    signature    type, bytes; of sk-*: then flags (u8), counter (u32), and the signed text becomes
                 SHA256(application), flags, counter, SHA256(signed text)

Certificates, DSA, SHA-1 and RSA below 2,048 bits are not accepted.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from reconciler.core.signing.armour import SignatureUnreadable, dearmour, decode64

NAMESPACE = b"git"
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 16384
_MAGIC = b"SSHSIG"
_SK_ED25519, _SK_ECDSA = b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"
_USER_PRESENT = 0x01
_CURVES: dict[bytes, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    b"nistp256": (ec.SECP256R1(), hashes.SHA256()),
    b"nistp384": (ec.SECP384R1(), hashes.SHA384()),
    b"nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_RSA_HASHES: dict[bytes, hashes.HashAlgorithm] = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class SshSignature:
    """`key`: the public key as it was sent along; who it belongs to is for the caller to say."""

    key: bytes
    namespace: bytes
    reserved: bytes
    hash_name: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class _Key:
    kind: bytes
    public: _PublicKey
    curve: bytes = b""
    application: bytes | None = None  # of a security key


def read_public_key(line: str) -> bytes:
    """The key of a line TYPE BASE64 [COMMENT]. Raises `SignatureUnreadable`."""
    parts = line.split()
    if len(parts) < 2:
        raise SignatureUnreadable("expected TYPE BASE64 as in a .pub file")
    blob = decode64([parts[1].encode()])
    if _parse_key(blob).kind != parts[0].encode():
        raise SignatureUnreadable(f"the key is not of the type {parts[0]}")
    return blob


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def read_signature(armoured: bytes) -> SshSignature:
    """Raises `SignatureUnreadable`."""
    reader = _Reader(decode64(dearmour(armoured, "SSH SIGNATURE")))
    if reader.take(len(_MAGIC)) != _MAGIC or reader.u32() != 1:
        raise SignatureUnreadable("it is no SSHSIG of version 1")
    found = SshSignature(reader.string(), reader.string(), reader.string(), reader.string(), reader.string())
    reader.end()
    return found


def holds(signature: SshSignature, payload: bytes) -> bool:
    """Whether the key that was sent along made the signature over the payload. Raises `SignatureUnreadable` for what
    is not a Git signature at all."""
    if signature.namespace != NAMESPACE:
        shown = signature.namespace[:40].decode("ascii", "backslashreplace")
        raise SignatureUnreadable(f"it was made for the namespace {shown!r}, not for git")
    if signature.hash_name not in _HASHES:
        raise SignatureUnreadable("it uses an unknown hash")
    digest = _HASHES[signature.hash_name](payload).digest()
    parts = (signature.namespace, signature.reserved, signature.hash_name, digest)
    signed = _MAGIC + b"".join(struct.pack(">I", len(part)) + part for part in parts)
    key = _parse_key(signature.key)
    try:
        _verify(key, _Reader(signature.signature), signed)
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _verify(key: _Key, reader: _Reader, signed: bytes) -> None:
    """Raises `InvalidSignature` or `SignatureUnreadable`."""
    kind, signature = reader.string(), reader.string()
    if key.application is not None:
        flags, counter = reader.take(1), reader.take(4)
        if not flags[0] & _USER_PRESENT:
            raise SignatureUnreadable("nobody touched the security key")
        signed = _sha256(key.application) + flags + counter + _sha256(signed)
    reader.end()
    if kind != key.kind and not (key.kind == b"ssh-rsa" and kind in _RSA_HASHES):
        raise SignatureUnreadable("its algorithm does not fit its key")
    match key.public:
        case ed25519.Ed25519PublicKey():
            key.public.verify(signature, signed)
        case ec.EllipticCurvePublicKey():
            numbers = _Reader(signature)
            dss = encode_dss_signature(numbers.mpint(), numbers.mpint())
            numbers.end()
            key.public.verify(dss, signed, ec.ECDSA(_CURVES[key.curve][1]))
        case rsa.RSAPublicKey():
            padded = signature.rjust((key.public.key_size + 7) // 8, b"\x00")
            key.public.verify(padded, signed, padding.PKCS1v15(), _RSA_HASHES[kind])


def _parse_key(blob: bytes) -> _Key:
    reader = _Reader(blob)
    kind = reader.string()
    try:
        key = _read_key(kind, reader)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureUnreadable(f"its key is damaged ({error})") from error
    reader.end()
    return key


def _read_key(kind: bytes, reader: _Reader) -> _Key:
    if kind in (b"ssh-ed25519", _SK_ED25519):
        public = ed25519.Ed25519PublicKey.from_public_bytes(reader.string())
        return _Key(kind, public, application=reader.string() if kind == _SK_ED25519 else None)
    if kind.startswith(b"ecdsa-sha2-") or kind == _SK_ECDSA:
        curve = reader.string()
        if curve not in _CURVES or kind not in (b"ecdsa-sha2-" + curve, b"sk-ecdsa-sha2-" + curve + b"@openssh.com"):
            raise SignatureUnreadable("its curve does not fit its key")
        point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve][0], reader.string())
        return _Key(kind, point, curve, reader.string() if kind == _SK_ECDSA else None)
    if kind == b"ssh-rsa":
        exponent, modulus = reader.mpint(), reader.mpint()
        if not RSA_BITS_MIN <= modulus.bit_length() <= RSA_BITS_MAX:
            raise SignatureUnreadable(
                f"its RSA key has {modulus.bit_length()} bits; at least {RSA_BITS_MIN} are needed"
            )
        return _Key(kind, rsa.RSAPublicNumbers(exponent, modulus).public_key())
    raise SignatureUnreadable(f"keys of the type {kind[:60].decode('ascii', 'backslashreplace')} are not accepted")


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


class _Reader:
    """SSH's wire format, read to its very end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def take(self, count: int) -> bytes:
        taken = self._content[self._position : self._position + count]
        if len(taken) != count:
            raise SignatureUnreadable("it is cut off")
        self._position += count
        return taken

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.u32())

    def mpint(self) -> int:
        raw = self.string()
        if raw[:1] >= b"\x80":
            raise SignatureUnreadable("it holds a negative number")
        return int.from_bytes(raw, "big")

    def end(self) -> None:
        if self._position != len(self._content):
            raise SignatureUnreadable("something follows where it should end")
