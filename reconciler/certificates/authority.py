"""The authority's files, in a folder that only the controller reads (STATE/ca), never in Postgres.

root.key, root.pem; issuing.key, issuing.pem; bundle.pem: all roots that machines and controllers trust, so that a new
root is trusted before the first certificate under it exists (docs/runbooks/certificates.md). root.key is only needed
when the issuing certificate is made anew, once a year, and may be kept elsewhere until then. Every controller of a
fleet has the same folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kit.errors import Refusal
from kit.files import read_private, write_atomically
from kit.machine_names import MachineKind, machine_of, machine_uri
from reconciler.certificates.signing import (
    CSR_BYTES_MAX,
    ISSUING_LIFETIME,
    Key,
    new_key,
    pem_of,
    read_request,
    sign_issuing,
    sign_machine,
    sign_root,
    sign_server,
)

PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Issued:
    """`chain`: the machine's certificate and the issuing one, as PEM. `key_id`: SHA-256 of the machine's public key."""

    chain: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Former:
    """Whom a certificate of ours was made for, however long ago."""

    kind: MachineKind
    name: str
    generation: int
    key_id: str
    not_after: datetime


class Authority:
    """`domain`: the trust domain, as it stands in every machine's name."""

    def __init__(self, folder: Path, domain: str, issuing: x509.Certificate, key: Key, bundle: str) -> None:
        self.folder = folder
        self.domain = domain
        self.bundle = bundle
        self._issuing = issuing
        self._key = key

    @classmethod
    def open_or_create(cls, folder: Path, domain: str, now: datetime) -> Authority:
        """A folder that holds half of it is a `Refusal`: a new root would shut out every machine there is."""
        if not folder.exists():
            _create(folder, domain, now)
        _renew_issuing(folder, domain, now)
        try:
            issuing = x509.load_pem_x509_certificate((folder / "issuing.pem").read_bytes())
            key = _key_in(folder / "issuing.key")
            bundle = (folder / "bundle.pem").read_text()
            x509.load_pem_x509_certificates(bundle.encode())
        except (OSError, ValueError) as error:
            fix = "restore the folder from a backup, or see docs/runbooks/certificates.md"
            raise Refusal(f"open the authority in {folder}", str(error), fix=fix, code="authority_broken") from error
        if now > issuing.not_valid_after_utc:
            fix = f"put root.key back into {folder} and start again"
            raise Refusal(
                f"open the authority in {folder}", "issuing.pem has expired", fix=fix, code="authority_broken"
            )
        return cls(folder, domain, issuing, key, bundle)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the bundle: what a join token carries, so that a machine knows the fleet before it trusts it."""
        return hashlib.sha256(self.bundle.encode()).hexdigest()

    def certify(self, csr: str, kind: MachineKind, name: str, generation: int, now: datetime) -> Issued:
        """`Refusal` for a request that is not exactly for that machine."""
        uri = machine_uri(self.domain, kind, name)
        key = read_request(csr, uri)
        certificate = sign_machine(key, uri, generation, self._issuing, self._key, now)
        return Issued((certificate.public_bytes(PEM) + self._issuing.public_bytes(PEM)).decode(), key_id_of(key))

    def key_id(self, csr: str, kind: MachineKind, name: str) -> str:
        return key_id_of(read_request(csr, machine_uri(self.domain, kind, name)))

    def former(self, chain: str) -> Former:
        """Of a certificate that may have expired. `Refusal` when it is not one that we made for a machine."""
        attempted = "renew a certificate that has expired"
        try:
            certificate = x509.load_pem_x509_certificate(chain[: 2 * CSR_BYTES_MAX].encode())
            certificate.verify_directly_issued_by(self._issuing)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
            (generation,) = certificate.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)
            found, key = machine_of(uri), certificate.public_key()
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
            raise Refusal(attempted, "it is not of this authority", fix=_JOIN, code="certificate_foreign") from error
        if found is None or found[0] != self.domain or not isinstance(key, ec.EllipticCurvePublicKey):
            raise Refusal(attempted, "it is not that of a machine", fix=_JOIN, code="certificate_foreign")
        number = int(str(generation.value))
        return Former(found[1], found[2], number, key_id_of(key), certificate.not_valid_after_utc)

    def server_certificate(self, names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
        """(key, chain) as PEM, for the controller's listener."""
        key = new_key()
        certificate = sign_server(key, names, self._issuing, self._key, now)
        return pem_of(key), certificate.public_bytes(PEM) + self._issuing.public_bytes(PEM)


_JOIN = "join anew: `trueup node token NAME` or `trueup edge token NAME`"


def key_id_of(key: ec.EllipticCurvePublicKey) -> str:
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def _create(folder: Path, domain: str, now: datetime) -> None:
    """Made beside it and renamed, so that there is all of it or nothing."""
    making = folder.with_name(f".{folder.name}.making")
    making.mkdir(parents=True, exist_ok=True, mode=0o700)
    root_key = new_key()
    root = sign_root(root_key, domain, now)
    write_atomically(making / "root.key", pem_of(root_key))
    write_atomically(making / "root.pem", root.public_bytes(PEM))
    write_atomically(making / "bundle.pem", root.public_bytes(PEM))
    _issue_issuing(making, domain, root, root_key, now)
    making.rename(folder)


def _renew_issuing(folder: Path, domain: str, now: datetime) -> None:
    """In the last third of its life, while the root's key is there."""
    try:
        issuing = x509.load_pem_x509_certificate((folder / "issuing.pem").read_bytes())
        if issuing.not_valid_after_utc - now > ISSUING_LIFETIME / 3:
            return
        root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
        _issue_issuing(folder, domain, root, _key_in(folder / "root.key"), now)
    except FileNotFoundError:
        return


def _issue_issuing(folder: Path, domain: str, root: x509.Certificate, root_key: Key, now: datetime) -> None:
    """The key stays, so that a crash between two files leaves a pair that fits."""
    try:
        key = _key_in(folder / "issuing.key")
    except FileNotFoundError:
        key = new_key()
        write_atomically(folder / "issuing.key", pem_of(key))
    write_atomically(folder / "issuing.pem", sign_issuing(key, domain, root, root_key, now).public_bytes(PEM))


def _key_in(path: Path) -> Key:
    key = serialization.load_pem_private_key(read_private(path), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} holds no P-256 key")  # noqa: TRY004  # of the file's content
    return key
