"""What a certificate of the platform looks like. No files here: keys in, certificates out.

root (10 years) -> issuing (1 year) -> a machine (1 hour) or a controller (30 days), all P-256. Every certificate is
good from a little before it is made, since clocks differ. A machine's has its name as the only alternative name, may
only be used as a client, and says its generation (`reconciler.core.projections.identities`) as the serial number of its
subject.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kit.errors import Refusal

ROOT_LIFETIME = timedelta(days=3650)
ISSUING_LIFETIME = timedelta(days=365)
SERVER_LIFETIME = timedelta(days=30)
MACHINE_LIFETIME = timedelta(hours=1)
SKEW = timedelta(minutes=5)
"""How far a clock may be behind the controller's."""
CSR_BYTES_MAX = 8192
NAME_CHARS_MAX = 64
"""Of a common name, says X.520."""

Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def sign_root(key: Key, domain: str, now: datetime) -> x509.Certificate:
    return _authority(key, _own_name("root", key, domain), None, key, 1, now, ROOT_LIFETIME)


def sign_issuing(
    key: Key, domain: str, root: x509.Certificate, root_key: Key, now: datetime, *, name: x509.Name | None = None
) -> x509.Certificate:
    """`name`: of the issuer whose key this is, when it is made anew."""
    return _authority(key, name or _own_name("issuer", key, domain), root, root_key, 0, now, ISSUING_LIFETIME)


def name_of(certificate: x509.Certificate) -> str:
    """Of a root or an issuer."""
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def domain_in(name: str) -> str:
    """The trust domain that a root's name says, for the name of the next."""
    return name.partition(" of ")[2].partition(" ")[0]


def _own_name(what: str, key: Key, domain: str) -> x509.Name:
    """One that no other key has: a certificate says who made it by that name."""
    encoded = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = f"trueup {what} {hashlib.sha256(encoded).hexdigest()[:12]} of {domain}"
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:NAME_CHARS_MAX])])


def sign_machine(
    public_key: ec.EllipticCurvePublicKey,
    uri: str,
    generation: int,
    issuer: x509.Certificate,
    issuer_key: Key,
    now: datetime,
) -> x509.Certificate:
    subject = [
        x509.NameAttribute(NameOID.COMMON_NAME, uri.rpartition("/")[2]),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, str(generation)),
    ]
    builder = _builder(x509.Name(subject), issuer.subject, public_key, now, MACHINE_LIFETIME)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    return _leaf(builder.add_extension(names, False), ExtendedKeyUsageOID.CLIENT_AUTH, issuer, issuer_key)


def sign_server(
    key: Key, names: Sequence[str], issuer: x509.Certificate, issuer_key: Key, now: datetime
) -> x509.Certificate:
    """`names`: host names and addresses; the first is the subject."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = _builder(subject, issuer.subject, key.public_key(), now, SERVER_LIFETIME)
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    return _leaf(builder.add_extension(alternatives, False), ExtendedKeyUsageOID.SERVER_AUTH, issuer, issuer_key)


def read_request(pem: str, uri: str) -> ec.EllipticCurvePublicKey:
    """The key that a request asks a certificate for. `Refusal`: it is none, is not signed with that key, or names
    anything but `uri`."""
    attempted = f"certify {uri}"
    if len(pem) > CSR_BYTES_MAX:
        raise Refusal(attempted, f"the request has more than {CSR_BYTES_MAX} bytes", code="csr_invalid")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key, good = request.public_key(), request.is_signature_valid
        extensions = list(request.extensions)
    except (ValueError, TypeError, InvalidSignature, x509.DuplicateExtension) as error:
        raise Refusal(attempted, f"that is no certificate request: {error}", code="csr_invalid") from error
    if not good or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refusal(attempted, "the request has no P-256 key that it is signed with", code="csr_invalid")
    asked = [
        each.value.get_values_for_type(x509.UniformResourceIdentifier)
        for each in extensions
        if isinstance(each.value, x509.SubjectAlternativeName) and len(list(each.value)) == 1
    ]
    if asked != [[uri]] or len(extensions) != 1:
        raise Refusal(
            attempted,
            "the request asks for another name",
            fix="start the agent under the name that its token is for",
            code="csr_mismatch",
        )
    return key


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority(
    key: Key,
    subject: x509.Name,
    issuer: x509.Certificate | None,
    issuer_key: Key,
    depth: int,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    builder = _builder(subject, issuer.subject if issuer else subject, key.public_key(), now, life)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=depth), True)
    builder = builder.add_extension(_usage(certificates=True), True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    return builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
    ).sign(issuer_key, hashes.SHA256())


def _leaf(
    builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier, issuer: x509.Certificate, issuer_key: Key
) -> x509.Certificate:
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(certificates=False), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    return builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
    ).sign(issuer_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - SKEW).not_valid_after(now + life)


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
