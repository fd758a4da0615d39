"""The authority's files, in a folder that only controllers read (STATE/ca), never in Postgres.

    root.key, root.pem        the root that issues; its key is only needed to make an issuer, and may be kept elsewhere
    issuing.key, issuing.pem  the issuer: its key makes the certificates of machines and controllers
    bundle.pem                every root that machines and controllers trust
    retired.pem               issuers that are not trusted although a root made them: their key was stolen
    root.next.pem             key and certificate of a root that is trusted, and will issue later
    issuing.next.pem          key and certificate of the issuer that is being put in place
    lock                      held by whoever changes the folder

A key and its certificate change in two writes. So the next pair is written first, as one file, and stays until both
parts are in place: whoever reads a key that does not fit its certificate, or finds the issuer retired, takes the next
pair. What was interrupted at any point is finished by the same command. Every controller of a fleet has the same
folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kit.errors import Refusal, Transient
from kit.files import read_private, write_atomically
from reconciler.certificates.signing import Key, name_of, pem_of

PEM = serialization.Encoding.PEM
LOCK_WAIT_S = 10.0
READS_MAX = 3
_FILES = ("root.pem", "issuing.key", "issuing.pem", "issuing.next.pem", "bundle.pem", "retired.pem")


@dataclass(frozen=True, slots=True)
class Pair:
    certificate: x509.Certificate
    key: Key

    @property
    def name(self) -> str:
        return name_of(self.certificate)

    def pem(self) -> bytes:
        return pem_of(self.key) + self.certificate.public_bytes(PEM)


class AuthorityFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Another one whenever what a controller reads here has changed."""
        return tuple(_stamp(self.path / name) for name in _FILES)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """`Transient` when somebody else changes the folder for longer than anybody should."""
        deadline_s = time.monotonic() + LOCK_WAIT_S
        descriptor = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            while not _taken(descriptor):
                if time.monotonic() > deadline_s:
                    why = "another program changes it"
                    raise Transient(f"change the authority in {self.path}", why, code="authority_busy")
                time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def root(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._read("root.pem"))

    def root_pair(self) -> Pair | None:
        """None: its key is kept elsewhere, or half of it was replaced."""
        try:
            return _pair(self.root(), read_private(self.path / "root.key"))
        except FileNotFoundError:
            return None

    def issuer(self) -> Pair:
        """`ValueError` when there is none that can be used."""
        for _ in range(READS_MAX):  # somebody may put a new one in place meanwhile
            pair = _pair(self.issuing(), read_private(self.path / "issuing.key"))
            if pair is not None and pair.name not in self.retired():
                return pair
            if (following := self.next_issuer()) is not None:
                return following
        raise ValueError("issuing.key does not fit issuing.pem, or is retired")

    def issuing(self) -> x509.Certificate:
        """What stands in issuing.pem, whether its key is beside it or not."""
        return x509.load_pem_x509_certificate(self._read("issuing.pem"))

    def next_root(self) -> Pair | None:
        return self._next("root.next.pem")

    def next_issuer(self) -> Pair | None:
        return self._next("issuing.next.pem")

    def bundle(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self._read("bundle.pem"))

    def bundle_text(self) -> str:
        return self._read("bundle.pem").decode()

    def retired(self) -> frozenset[str]:
        return frozenset(name_of(each) for each in self._retired())

    def write_root(self, pair: Pair) -> None:
        write_atomically(self.path / "root.key", pem_of(pair.key))
        write_atomically(self.path / "root.pem", pair.certificate.public_bytes(PEM))

    def write_issuer(self, pair: Pair) -> None:
        write_atomically(self.path / "issuing.key", pem_of(pair.key))
        write_atomically(self.path / "issuing.pem", pair.certificate.public_bytes(PEM))

    def write_next_root(self, pair: Pair | None) -> None:
        self._write_next("root.next.pem", pair)

    def write_next_issuer(self, pair: Pair | None) -> None:
        self._write_next("issuing.next.pem", pair)

    def write_bundle(self, roots: Sequence[x509.Certificate]) -> None:
        write_atomically(self.path / "bundle.pem", b"".join(each.public_bytes(PEM) for each in roots))

    def retire(self, issuer: x509.Certificate) -> None:
        former = self._retired()
        if issuer not in former:
            content = b"".join(each.public_bytes(PEM) for each in (*former, issuer))
            write_atomically(self.path / "retired.pem", content)

    def _retired(self) -> list[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(self._read("retired.pem"))
        except FileNotFoundError:
            return []

    def _next(self, name: str) -> Pair | None:
        try:
            content = read_private(self.path / name)
        except FileNotFoundError:
            return None
        return _pair(x509.load_pem_x509_certificate(content), content)

    def _write_next(self, name: str, pair: Pair | None) -> None:
        if pair is None:
            (self.path / name).unlink(missing_ok=True)
        else:
            write_atomically(self.path / name, pair.pem())

    def _read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


@contextlib.contextmanager
def told_as_refusal(folder: Path) -> Iterator[None]:
    """What is wrong with the files, for an operator."""
    try:
        yield
    except (OSError, ValueError) as error:
        fix = "restore the folder from a backup, or see docs/runbooks/certificates.md"
        raise Refusal(f"open the authority in {folder}", str(error), fix=fix, code="authority_broken") from error


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _pair(certificate: x509.Certificate, pem: bytes) -> Pair | None:
    """None: the key is another one's."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("there is a key that is none of P-256")  # noqa: TRY004  # of a file's content
    return Pair(certificate, key) if key.public_key() == certificate.public_key() else None
