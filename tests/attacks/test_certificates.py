"""GUARANTEES.md, attacks on agents: certificates and requests that only look like a machine's, at a real listener.

Some are made with the authority's own key, as if it had been tricked: the controller still takes a name in one spelling
only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kit.joining import join_fleet
from kit.machine_identity import MachineIdentity, new_key, trusting
from kit.machine_names import CONTROLLER_HOST
from reconciler.certificates.folder import AuthorityFolder
from tests.attacks.machines import HOUR, Door, door
from tests.attacks.test_machines import PLAN, TLS_REFUSED, turned_away
from tests.unit.server.world import enrol_node

GOOD = "spiffe://fleet.test/node/node-a"
PEM = serialization.Encoding.PEM


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def certified(
    fleet: Door, names: Sequence[x509.GeneralName], *, generation: str | None = "1", common_name: str = "node-a"
) -> ssl.SSLContext:
    """The context of somebody to whom the authority has given a certificate with these names."""
    issuer, key, now = AuthorityFolder(fleet.authority.folder).issuer(), new_key(), datetime.now(UTC)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if generation is not None:
        subject.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, generation))
    builder = x509.CertificateBuilder().subject_name(x509.Name(subject)).issuer_name(issuer.certificate.subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=1)).not_valid_after(now + HOUR)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
    maker = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = builder.add_extension(maker, False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    made = builder.sign(issuer.key, hashes.SHA256())
    return with_certificate(fleet, key, made.public_bytes(PEM) + issuer.certificate.public_bytes(PEM))


def with_certificate(fleet: Door, key: ec.EllipticCurvePrivateKey, chain: bytes) -> ssl.SSLContext:
    path = fleet.folder / "crooked.pem"
    path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + chain)
    context = trusting(fleet.authority.bundle)
    context.load_cert_chain(path)
    return context


CROOKED: dict[str, list[x509.GeneralName]] = {
    "two names": [uri(GOOD), uri("spiffe://fleet.test/node/node-b")],
    "the same twice": [uri(GOOD), uri(GOOD)],
    "a host name too": [uri(GOOD), x509.DNSName(CONTROLLER_HOST)],
    "only a host name": [x509.DNSName("node-a")],
    "none": [],
    "another domain": [uri("spiffe://other.test/node/node-a")],
    "a domain below": [uri("spiffe://a.fleet.test/node/node-a")],
    "no domain": [uri("spiffe:///node/node-a")],
    "a port": [uri("spiffe://fleet.test:443/node/node-a")],
    "somebody at the domain": [uri("spiffe://x@fleet.test/node/node-a")],
    "upper case": [uri("spiffe://fleet.test/node/NODE-A")],
    "upper case domain": [uri("spiffe://FLEET.test/node/node-a")],
    "upper case scheme": [uri("SPIFFE://fleet.test/node/node-a")],
    "percent": [uri("spiffe://fleet.test/node/node%2Da")],
    "slash behind": [uri("spiffe://fleet.test/node/node-a/")],
    "two slashes": [uri("spiffe://fleet.test/node//node-a")],
    "upwards": [uri("spiffe://fleet.test/node/node-b/../node-a")],
    "a dot": [uri("spiffe://fleet.test/node/./node-a")],
    "a question": [uri("spiffe://fleet.test/node/node-a?x=1")],
    "a fragment": [uri("spiffe://fleet.test/node/node-a#x")],
    "a line more": [uri("spiffe://fleet.test/node/node-a\n")],
    "another kind": [uri("spiffe://fleet.test/operator/node-a")],
    "no name": [uri("spiffe://fleet.test/node/")],
    "https": [uri("https://fleet.test/node/node-a")],
}


@pytest.mark.parametrize("what", CROOKED)
async def test_a_name_counts_in_one_spelling_only(tmp_path: Path, what: str) -> None:
    async with door(tmp_path) as fleet:
        await fleet.joined("node", "node-a")
        await enrol_node(fleet.world.log, "node-a")
        assert (await fleet.ask("GET", PLAN, None, certified(fleet, [uri(GOOD)])))[0] == 200, "as it should be"
        assert "no machine of this fleet" in await turned_away(fleet, certified(fleet, CROOKED[what]))


@pytest.mark.parametrize("generation", [None, "-1", "1.0", "0x1", " 1", "one"])
async def test_a_generation_is_a_number(tmp_path: Path, generation: str | None) -> None:
    async with door(tmp_path) as fleet:
        await fleet.joined("node", "node-a")
        assert "no machine of this fleet" in await turned_away(
            fleet, certified(fleet, [uri(GOOD)], generation=generation)
        )


async def test_a_name_of_the_other_kind_is_another_machine(tmp_path: Path) -> None:
    """An edge that has the node's name reaches nothing of the node, and the other way round."""
    async with door(tmp_path) as fleet:
        node, edge = await fleet.joined("node", "twin"), await fleet.joined("edge", "twin")
        await enrol_node(fleet.world.log, "twin")
        for path in ("plan", "instances/i-1/secret"):
            assert (await fleet.ask("GET", f"/v1/nodes/twin/{path}", edge))[0] == 403
        for path in ("heartbeat", "reports", "enrol", "renew"):
            assert (await fleet.ask("POST", f"/v1/nodes/twin/{path}", edge, json={}))[0] == 403
        assert (await fleet.ask("GET", "/v1/edges/twin/plan", node))[0] == 403
        for path in ("reports", "renew"):
            assert (await fleet.ask("POST", f"/v1/edges/twin/{path}", node, json={}))[0] == 403
        assert fleet.world.calls == []
        await fleet.operator("POST", "/v1/edges/twin/revoke", json={"reason": "gone"})
        assert (await fleet.ask("GET", "/v1/nodes/twin/plan", node))[0] == 200


async def test_a_machine_does_not_pass_for_a_controller(tmp_path: Path) -> None:
    """Neither by its name nor, if that were not looked at, by what its certificate is for."""
    async with door(tmp_path) as fleet:
        machine, victim = await fleet.joined("node", "node-a"), await fleet.joined("node", "node-b")
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(tmp_path / "node-node-a" / "machine.pem")
        assert machine.exists
        listener = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=serving)
        port = listener.sockets[0].getsockname()[1]
        careless = victim.context()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=careless, server_hostname=CONTROLLER_HOST)
        careless.check_hostname = False
        with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
            await asyncio.open_connection("127.0.0.1", port, ssl=careless)
        listener.close()


async def test_a_controllers_certificate_is_no_machines(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        key, chain = fleet.authority.server_certificate([CONTROLLER_HOST], datetime.now(UTC))
        (tmp_path / "server.pem").write_bytes(key + chain)
        context = trusting(fleet.authority.bundle)
        context.load_cert_chain(tmp_path / "server.pem")
        assert await turned_away(fleet, context) == "tls"


async def test_a_machines_key_makes_no_certificates(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        mine, key = x509.load_pem_x509_certificates(machine.certificate().encode()), new_key()
        builder = x509.CertificateBuilder().subject_name(mine[0].subject).issuer_name(mine[0].subject)
        builder = builder.public_key(key.public_key()).serial_number(1).not_valid_before(mine[0].not_valid_before_utc)
        builder = builder.not_valid_after(mine[0].not_valid_after_utc)
        names = x509.SubjectAlternativeName([uri("spiffe://fleet.test/node/node-b")])
        made = builder.add_extension(names, False).sign(machine.key(), hashes.SHA256())
        chain = b"".join(each.public_bytes(PEM) for each in (made, *mine))
        assert await turned_away(fleet, with_certificate(fleet, key, chain)) == "tls"
        asked = {"certificate": chain.decode(), "csr": fleet.machine("node", "node-b").request(key, "fleet.test")}
        status, document = await fleet.ask("POST", "/v1/join", None, json=asked)
        assert (status, document["code"]) == (403, "certificate_foreign")


def request(key: Any, *extensions: x509.ExtensionType) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for each in extensions:
        builder = builder.add_extension(each, False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(PEM).decode()


NAMED = x509.SubjectAlternativeName([uri(GOOD)])
REQUESTS: dict[str, Callable[[], str]] = {
    "an authority": lambda: request(new_key(), NAMED, x509.BasicConstraints(ca=True, path_length=None)),
    "a server": lambda: request(new_key(), NAMED, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
    "an edge": lambda: request(new_key(), x509.SubjectAlternativeName([uri("spiffe://fleet.test/edge/node-a")])),
    "spelled otherwise": lambda: request(
        new_key(), x509.SubjectAlternativeName([uri("spiffe://fleet.test/node/node%2Da")])
    ),
    "a short RSA key": lambda: request(rsa.generate_private_key(65537, 1024), NAMED),
    "another curve": lambda: request(ec.generate_private_key(ec.SECP384R1()), NAMED),
    "Ed25519": lambda: request(ed25519.Ed25519PrivateKey.generate(), NAMED),
    "signed with another key": lambda: swapped_key(),
    "a mebibyte": lambda: request(new_key(), NAMED) + "x" * (1 << 20),
    "many": lambda: request(new_key(), NAMED) * 20,
    "no base64": lambda: "-----BEGIN CERTIFICATE REQUEST-----\n*\n-----END CERTIFICATE REQUEST-----\n",
    "a certificate": lambda: "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    "not of ASCII": lambda: "\u2028\x00\ud7ff",
}


def swapped_key() -> str:
    """The request of one key with the public key of another in it."""
    one, other = (new_key().public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo) for _ in range(2))  # fmt: skip
    key = new_key()
    mine = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem = x509.load_pem_x509_csr(request(key, NAMED).encode())
    assert one != other
    der = pem.public_bytes(serialization.Encoding.DER).replace(mine, other)
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "CERTIFICATE REQUEST")


@pytest.mark.parametrize("what", REQUESTS)
async def test_a_crooked_request_gets_no_certificate_and_spends_no_token(tmp_path: Path, what: str) -> None:
    async with door(tmp_path) as fleet:
        token = await fleet.token("node", "node-a")
        status, document = await fleet.ask("POST", "/v1/join", None, json={"token": token, "csr": REQUESTS[what]()})
        codes = {"csr_mismatch": 403, "csr_invalid": 400, "body_too_large": 413}
        assert status == codes[document["code"]], document
        assert fleet.events("joined") == fleet.events("token_misused") == []
        machine = fleet.machine("node", "node-a")
        await join_fleet(machine, fleet.url, token)
        await enrol_node(fleet.world.log, "node-a")
        path = "/v1/nodes/node-a/renew"
        status, document = await fleet.ask("POST", path, machine, json={"csr": REQUESTS[what]()})
        assert status == codes[document["code"]], document


async def test_a_renewal_is_for_the_name_and_generation_of_the_present_certificate(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine, other = await fleet.joined("node", "node-a"), await fleet.joined("node", "node-b")
        foreign = other.request(new_key(), "fleet.test")
        status, document = await fleet.ask("POST", "/v1/nodes/node-a/renew", machine, json={"csr": foreign})
        assert (status, document["code"]) == (403, "csr_mismatch")
        again = await fleet.joined("node", "node-a", "again")
        own = machine.request(new_key(), "fleet.test")
        assert (await fleet.ask("POST", "/v1/nodes/node-a/renew", machine, json={"csr": own}))[0] == 401
        status, answer = await fleet.ask(
            "POST", "/v1/nodes/node-a/renew", again, json={"csr": again.request(new_key(), "fleet.test")}
        )
        made = x509.load_pem_x509_certificates(answer["certificate"].encode())[0]
        assert (status, made.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)[0].value) == (200, "2")


async def test_a_stolen_certificate_is_worth_nothing_without_its_key(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        with pytest.raises(ssl.SSLError, match=r"(?i)key.values.mismatch"):
            with_certificate(fleet, new_key(), machine.certificate().encode())
        thief = MachineIdentity(tmp_path / "thief", "node", "node-a")
        back = {"certificate": machine.certificate(), "csr": thief.request(new_key(), "fleet.test")}
        assert (await fleet.ask("POST", "/v1/join", None, json=back))[0] == 403
        with pytest.raises((*TLS_REFUSED, aiohttp.ClientError)):
            await fleet.ask("GET", PLAN, None, ssl.create_default_context())
