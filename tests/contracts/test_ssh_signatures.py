"""Our reading of SSH signatures against `ssh-keygen -Y verify`: the same answer for every key type and damage."""

from __future__ import annotations

import base64
import hashlib
import random
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from reconciler.core.signing import ssh
from reconciler.core.signing.armour import SignatureUnreadable

PAYLOAD = b"tree 0\n\nwords\n"
KINDS = [("ed25519", ""), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048"), ("rsa", "3072")]


def string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def armoured(blob: bytes) -> bytes:
    return b"-----BEGIN SSH SIGNATURE-----\n" + base64.encodebytes(blob) + b"-----END SSH SIGNATURE-----\n"


def bare(signature: bytes) -> bytes:
    return base64.b64decode(b"".join(signature.split(b"\n")[1:-2]))


def make_key(folder: Path, kind: str, bits: str) -> Path:
    key = folder / "key"
    size = ["-b", bits] if bits else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-f", str(key)], check=True)
    return key


def sign(key: Path, payload: bytes = PAYLOAD, namespace: str = "git", hash_name: str = "sha512") -> bytes:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-O", f"hashalg={hash_name}", "-f", str(key)]
    return subprocess.run(command, input=payload, capture_output=True, check=True).stdout


def openssh_holds(folder: Path, public: str, signature: bytes, payload: bytes = PAYLOAD) -> bool:
    (folder / "allowed").write_text(f"me {public}\n")
    (folder / "signature").write_bytes(signature)
    options = ["-f", str(folder / "allowed"), "-I", "me", "-n", "git", "-s", str(folder / "signature")]
    return (
        subprocess.run(["ssh-keygen", "-q", "-Y", "verify", *options], input=payload, capture_output=True).returncode
        == 0
    )


def we_hold(public: str, signature: bytes, payload: bytes = PAYLOAD) -> bool:
    try:
        found = ssh.read_signature(signature)
        return found.key == ssh.read_public_key(public) and ssh.holds(found, payload)
    except SignatureUnreadable:
        return False


@pytest.mark.parametrize(("kind", "bits"), KINDS)
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_good_signatures_of_all_keys(tmp_path: Path, kind: str, bits: str, hash_name: str) -> None:
    key = make_key(tmp_path, kind, bits)
    public = key.with_suffix(".pub").read_text()
    signature = sign(key, hash_name=hash_name)
    for payload in (PAYLOAD, PAYLOAD + b"x", b""):
        assert we_hold(public, signature, payload) is openssh_holds(tmp_path, public, signature, payload)
    assert we_hold(public, signature)
    listed = subprocess.run(["ssh-keygen", "-lf", str(key)], capture_output=True, check=True).stdout.decode()
    assert ssh.fingerprint(ssh.read_public_key(public)) == listed.split()[1]


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", ""), ("ecdsa", "256"), ("rsa", "2048")])
def test_whatever_byte_is_changed_nobody_holds_it(tmp_path: Path, kind: str, bits: str) -> None:
    """ssh-keygen ignores nothing that we do not; a damage that it takes, we may refuse, never the other way round."""
    key = make_key(tmp_path, kind, bits)
    public = key.with_suffix(".pub").read_text()
    blob = bare(sign(key))
    rng = random.Random(1)
    changed = [blob[:at] + bytes([blob[at] ^ 1 << rng.randrange(8)]) + blob[at + 1 :] for at in range(len(blob))]
    changed += [blob[:at] for at in range(0, len(blob), 7)] + [blob + b"\0"]
    assert not [each for each in changed if we_hold(public, armoured(each))]
    some = rng.sample(changed, 25)
    assert not [each for each in some if openssh_holds(tmp_path, public, armoured(each))]


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", ""), ("ecdsa", "256")])
def test_nothing_hides_behind_a_signature(tmp_path: Path, kind: str, bits: str) -> None:
    """One byte more at each level, all lengths right."""
    key = make_key(tmp_path, kind, bits)
    public = key.with_suffix(".pub").read_text()
    found = ssh.read_signature(sign(key))
    length = struct.unpack(">I", found.signature[:4])[0]
    inner, value = found.signature[: 4 + length], found.signature[8 + length :]

    def whole(signature: bytes, end: bytes = b"") -> bytes:
        parts = (found.key, b"git", b"", found.hash_name, signature)
        return armoured(b"SSHSIG" + struct.pack(">I", 1) + b"".join(map(string, parts)) + end)

    assert we_hold(public, whole(found.signature)) and openssh_holds(tmp_path, public, whole(found.signature))
    for each in (whole(found.signature + b"x"), whole(inner + string(value + b"x")), whole(found.signature, b"x")):
        assert not we_hold(public, each) and not openssh_holds(tmp_path, public, each)


def test_another_namespace_is_no_git_signature(tmp_path: Path) -> None:
    key = make_key(tmp_path, "ed25519", "")
    public = key.with_suffix(".pub").read_text()
    signature = sign(key, namespace="file")
    assert not we_hold(public, signature) and not openssh_holds(tmp_path, public, signature)


@pytest.mark.parametrize("curve", ["ed25519", "nistp256"])
@pytest.mark.parametrize("touched", [True, False])
def test_security_keys(tmp_path: Path, curve: str, touched: bool) -> None:
    """Signed as an authenticator does, whose private key never leaves it. OpenSSH takes an untouched one as well; we do
    not: a signature that nobody confirmed is what the device is there to prevent."""
    application, flags, counter = b"ssh:", bytes([int(touched)]), struct.pack(">I", 7)
    text = b"SSHSIG" + string(b"git") + string(b"") + string(b"sha512") + string(hashlib.sha512(PAYLOAD).digest())
    signed = hashlib.sha256(application).digest() + flags + counter + hashlib.sha256(text).digest()
    if curve == "ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
        kind, point = b"sk-ssh-ed25519@openssh.com", private.public_key().public_bytes_raw()
        blob = string(kind) + string(point) + string(application)
        signature = private.sign(signed)
    else:
        elliptic = ec.generate_private_key(ec.SECP256R1())
        encoding = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        kind, point = b"sk-ecdsa-sha2-nistp256@openssh.com", elliptic.public_key().public_bytes(*encoding)
        blob = string(kind) + string(b"nistp256") + string(point) + string(application)
        signature = b"".join(map(mpint, decode_dss_signature(elliptic.sign(signed, ec.ECDSA(hashes.SHA256())))))
    made = string(kind) + string(signature) + flags + counter
    whole = armoured(
        b"SSHSIG"
        + struct.pack(">I", 1)
        + string(blob)
        + string(b"git")
        + string(b"")
        + string(b"sha512")
        + string(made)
    )
    public = f"{kind.decode()} {base64.b64encode(blob).decode()}"
    assert we_hold(public, whole) is touched
    assert openssh_holds(tmp_path, public, whole) or not touched
    assert not we_hold(public, whole, PAYLOAD + b"x") and not openssh_holds(tmp_path, public, whole, PAYLOAD + b"x")


def test_weak_keys_are_not_accepted(tmp_path: Path) -> None:
    public = make_key(tmp_path, "rsa", "1024").with_suffix(".pub").read_text()
    with pytest.raises(SignatureUnreadable, match="1024 bits"):
        ssh.read_public_key(public)


def test_certificates_are_not_accepted(tmp_path: Path) -> None:
    key = make_key(tmp_path, "ed25519", "")
    subprocess.run(["ssh-keygen", "-q", "-s", str(key), "-I", "me", "-n", "me", f"{key}.pub"], check=True)
    with pytest.raises(SignatureUnreadable, match="not accepted"):
        ssh.read_public_key((tmp_path / "key-cert.pub").read_text())
