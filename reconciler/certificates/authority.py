"""The authority as a controller uses it: certificates for machines and for its own listener.

Opened by `reconciler.bootstrap`, asked by `reconciler.server.machines`. The files are described in `folder`; `refresh`
takes over what `trueup ca` (`rotation`), or another controller, has changed there, so that no controller has to be
restarted for it. An issuer that comes to its end is made anew, with the same key, while the root's key is there.
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
from kit.machine_names import MachineKind, machine_of, machine_uri
from reconciler.certificates.folder import PEM, AuthorityFolder, told_as_refusal
from reconciler.certificates.reading import create, maker, read, renew_issuer
from reconciler.certificates.signing import (
    CSR_BYTES_MAX,
    MACHINE_LIFETIME,
    name_of,
    new_key,
    pem_of,
    read_request,
    sign_machine,
    sign_server,
)


@dataclass(frozen=True, slots=True)
class Issued:
    """`chain`: the machine's certificate and the issuing one, as PEM. `key_id`: SHA-256 of the machine's public key.
    `issuer`, `root`: the names of who made it."""

    chain: str
    key_id: str
    issuer: str
    root: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Former:
    """Whom a certificate of ours was made for, however long ago."""

    kind: MachineKind
    name: str
    generation: int
    key_id: str
    not_after: datetime


class Authority:
    """`domain`: the trust domain, as it stands in every machine's name. `bundle`: the roots as PEM."""

    def __init__(self, folder: Path, domain: str) -> None:
        self.folder = folder
        self.domain = domain
        self._files = AuthorityFolder(folder)
        self._stamp = self._files.stamp
        self._read = read(self._files)

    @classmethod
    def open_or_create(cls, folder: Path, domain: str, now: datetime) -> Authority:
        """A folder that holds half of it is a `Refusal`: a new root would shut out every machine there is."""
        if not folder.exists():
            create(folder, domain, now)
        renew_issuer(AuthorityFolder(folder), now)
        with told_as_refusal(folder):
            made = cls(folder, domain)
        if now > made._read.issuer.certificate.not_valid_after_utc:
            fix = f"put root.key back into {folder} and start again"
            raise Refusal(
                f"open the authority in {folder}", "issuing.pem has expired", fix=fix, code="authority_broken"
            )
        return made

    def refresh(self, now: datetime) -> bool:
        """Whether anything here is new. `Refusal` when the files cannot be used: then what was read last goes on."""
        renew_issuer(self._files, now)
        stamp = self._files.stamp
        if stamp == self._stamp:
            return False
        with told_as_refusal(self.folder):
            self._read = read(self._files)
        self._stamp = stamp
        return True

    @property
    def bundle(self) -> str:
        return self._read.bundle

    @property
    def issuer(self) -> str:
        """The name of the one that makes certificates now."""
        return self._read.issuer.name

    @property
    def root(self) -> str:
        """The name of the root that made the issuer."""
        return self._read.root

    @property
    def retired(self) -> frozenset[str]:
        """The names of issuers that count no more."""
        return self._read.retired

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the bundle: what a join token carries, so that a machine knows the fleet before it trusts it."""
        return hashlib.sha256(self.bundle.encode()).hexdigest()

    def certify(self, csr: str, kind: MachineKind, name: str, generation: int, now: datetime) -> Issued:
        """`Refusal` for a request that is not exactly for that machine."""
        uri, held = machine_uri(self.domain, kind, name), self._read
        issuer = held.issuer
        key = read_request(csr, uri)
        certificate = sign_machine(key, uri, generation, issuer.certificate, issuer.key, now)
        chain = (certificate.public_bytes(PEM) + issuer.certificate.public_bytes(PEM)).decode()
        return Issued(chain, key_id_of(key), issuer.name, held.root, certificate.not_valid_after_utc)

    def key_id(self, csr: str, kind: MachineKind, name: str) -> str:
        return key_id_of(read_request(csr, machine_uri(self.domain, kind, name)))

    def former(self, chain: str) -> Former:
        """Of a certificate that may have expired. `Refusal` when it is not one that we made for a machine."""
        attempted = "renew a certificate that has expired"
        try:
            certificates = x509.load_pem_x509_certificates(chain[: 2 * CSR_BYTES_MAX].encode())
            certificate, issuer = (*certificates, self._read.issuer.certificate)[:2]
            self._check_maker(certificate, issuer)
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

    def _check_maker(self, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
        """`ValueError` or `InvalidSignature` unless an issuer of ours made it while it could. It may have been replaced
        since."""
        held = self._read
        certificate.verify_directly_issued_by(issuer)
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise ValueError("a machine makes no certificates")
        if name_of(issuer) in held.retired or maker(issuer, held.roots) is None:
            raise ValueError("its issuer does not count")
        if certificate.not_valid_after_utc > issuer.not_valid_after_utc + MACHINE_LIFETIME:
            raise ValueError("its issuer had ended before")

    def server_certificate(self, names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
        """(key, chain) as PEM, for the controller's listener."""
        key, issuer = new_key(), self._read.issuer
        certificate = sign_server(key, names, issuer.certificate, issuer.key, now)
        return pem_of(key), certificate.public_bytes(PEM) + issuer.certificate.public_bytes(PEM)


_JOIN = "join anew: `trueup node token NAME` or `trueup edge token NAME`"


def key_id_of(key: ec.EllipticCurvePublicKey) -> str:
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()
