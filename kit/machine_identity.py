"""A machine's key and certificate, in a folder of its own: machine.pem (key, certificate, issuer; mode 600), bundle.pem
(the roots that it trusts), joined (the id of the join token that it came with), joining.key (only while it joins).

Made by the bootstraps of agent and edge, used by `kit.control_plane` for every connection, renewed by `kit.joining`.
The key never leaves the folder. Key and certificate are one file, so that they change together.
"""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kit.errors import Refusal
from kit.files import read_private, write_atomically
from kit.machine_names import MachineKind, machine_of, machine_uri

_PEM = serialization.Encoding.PEM
_END_OF_KEY = b"-----END PRIVATE KEY-----\n"


class MachineIdentity:
    def __init__(self, folder: Path, kind: MachineKind, name: str) -> None:
        self.kind: MachineKind = kind
        self.name = name
        self._folder = folder
        self._context: ssl.SSLContext | None = None

    @property
    def exists(self) -> bool:
        return (self._folder / "machine.pem").exists()

    @property
    def joined_with(self) -> str:
        """The id of the join token; empty before."""
        path = self._folder / "joined"
        return path.read_text().strip() if path.exists() else ""

    def context(self) -> ssl.SSLContext:
        """The same one until the certificate is renewed: then a new one, for new connections. Open ones go on."""
        if self._context is None:
            context = trusting(self.bundle())
            try:
                context.load_cert_chain(self._folder / "machine.pem")
            except (OSError, ssl.SSLError) as error:
                fix = f"remove {self._folder} and join anew: `trueup {self.kind} token {self.name}`"
                raise Refusal(
                    f"use the certificate in {self._folder}", str(error), fix=fix, code="not_joined"
                ) from error
            self._context = context
        return self._context

    def bundle(self) -> str:
        try:
            return (self._folder / "bundle.pem").read_text()
        except OSError as error:
            fix = f"`trueup {self.kind} token {self.name}` prints the token to join with"
            raise Refusal(
                f"trust the controller of {self.kind} {self.name}", str(error), fix=fix, code="not_joined"
            ) from error

    def lifetime(self) -> tuple[datetime, datetime]:
        certificate = x509.load_pem_x509_certificate(self.certificate().encode())
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc

    def certificate(self) -> str:
        """The chain, without the key."""
        return self._pem().partition(_END_OF_KEY)[2].decode()

    def request(self, key: ec.EllipticCurvePrivateKey, domain: str) -> str:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(machine_uri(domain, self.kind, self.name))])
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, False)
        return builder.sign(key, hashes.SHA256()).public_bytes(_PEM).decode()

    def domain(self) -> str:
        """Of the present certificate's name."""
        certificate = x509.load_pem_x509_certificate(self.certificate().encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = machine_of(names.get_values_for_type(x509.UniformResourceIdentifier)[0])
        assert found is not None, "the controller made it"
        return found[0]

    def key(self) -> ec.EllipticCurvePrivateKey:
        return _read_key(self._pem())

    def joining_key(self) -> ec.EllipticCurvePrivateKey:
        """Kept until the certificate is there, so that a lost answer can be asked for again with the same key."""
        path = self._folder / "joining.key"
        try:
            return _read_key(read_private(path))
        except FileNotFoundError:
            key = new_key()
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(path, _pem_of(key))
            return key

    def keep(self, key: ec.EllipticCurvePrivateKey, certificate: str, bundle: str, *, token_id: str = "") -> None:
        """`token_id`: of the join token, when it joined. Nothing is kept that would not work."""
        held = x509.load_pem_x509_certificate(certificate.encode()).public_key()
        ssl.create_default_context(cadata=bundle)
        if held != key.public_key():
            raise Refusal("keep a certificate", "it is of another key", code="certificate_foreign")
        write_atomically(self._folder / "bundle.pem", bundle.encode(), mode=0o644)
        write_atomically(self._folder / "machine.pem", _pem_of(key) + certificate.encode())
        if token_id:
            write_atomically(self._folder / "joined", token_id.encode())
            (self._folder / "joining.key").unlink(missing_ok=True)
        self._context = None

    def _pem(self) -> bytes:
        return read_private(self._folder / "machine.pem")


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def trusting(bundle: str) -> ssl.SSLContext:
    """TLS 1.3 to a controller whose certificate leads to one of these roots."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=bundle)
    return context


def trusting_nobody() -> ssl.SSLContext:
    """For the one question whose answer is checked against the join token."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.partition(_END_OF_KEY)[0] + _END_OF_KEY, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "made above"
    return key
