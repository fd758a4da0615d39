"""GUARANTEES.md, attacks on agents: everything that somebody with half of an identity would try, at a real listener."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kit.errors import Refusal, TrueupError
from kit.join_token import parse_join_token
from kit.joining import join_fleet
from kit.machine_identity import MachineIdentity, new_key, trusting
from kit.machine_names import CONTROLLER_HOST
from reconciler.certificates.authority import Authority
from reconciler.server.app import STANDING
from tests.attacks.machines import HOUR, Door, door
from tests.unit.server.world import enrol_node, enrolment, token_of

TLS_REFUSED = (aiohttp.ClientError, ssl.SSLError, ConnectionError)
OTHER_NAMES = ("spiffe://fleet.test/node/node-b", "spiffe://fleet.test/edge/node-a", "spiffe://x.test/node/node-a")
PLAN = "/v1/nodes/node-a/plan"


async def turned_away(door: Door, tls: ssl.SSLContext) -> str:
    """Why: TLS itself, or a 401 or 403."""
    try:
        status, document = await door.ask("GET", PLAN, None, tls)
    except TLS_REFUSED:
        return "tls"
    assert status in (401, 403), document
    return str(document["detail"])


async def test_a_machine_joins_and_is_who_its_token_says(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        await enrol_node(fleet.world.log, "node-a")
        assert (await fleet.ask("GET", PLAN, machine))[0] == 200
        assert (await fleet.ask("POST", "/v1/nodes/node-a/heartbeat", machine))[0] == 200
        edge = await fleet.joined("edge", "edge-a")
        assert (await fleet.ask("GET", "/v1/edges/edge-a/plan", edge))[0] == 200
        assert [each["generation"] for each in fleet.events("joined")] == [1, 1]
        files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "node-node-a").iterdir()}
        assert files == {"machine.pem": 0o600, "bundle.pem": 0o644, "joined": 0o600}


async def test_a_token_that_was_used_is_refused_and_is_an_alarm(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        token = await fleet.token("node", "node-a")
        await join_fleet(fleet.machine("node", "node-a"), fleet.url, token)
        with pytest.raises(Refusal, match="works once"):
            await join_fleet(fleet.machine("node", "node-a", "thief"), fleet.url, token)
        assert [each["reason_code"] for each in fleet.events("token_misused")] == ["token_used"]
        assert not fleet.machine("node", "node-a", "thief").exists
        status = await fleet.operator("GET", "/v1/status")
        (alarm,) = status["alarms"]
        assert alarm["identity_id"] == "node/node-a"
        assert "127.0.0.1" in alarm["problems"][0]["message"]
        assert status["problems"] >= 1
        await fleet.token("node", "node-a")
        assert (await fleet.operator("GET", "/v1/status"))["alarms"] == [], "a new token says that it was seen"


async def test_of_many_that_come_at_once_with_one_token_one_joins(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        token = await fleet.token("node", "node-a")
        machines = [fleet.machine("node", "node-a", f"m{number}") for number in range(5)]
        results = await asyncio.gather(
            *(join_fleet(each, fleet.url, token) for each in machines), return_exceptions=True
        )
        assert sum(result is None for result in results) == 1
        assert len(fleet.events("joined")) == 1
        assert len(fleet.events("token_misused")) == 4


async def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_key(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        token, machine = await fleet.token("node", "node-a"), fleet.machine("node", "node-a")
        document = {"token": token, "csr": machine.request(machine.joining_key(), "fleet.test")}
        assert (await fleet.ask("POST", "/v1/join", None, json=document))[0] == 200
        await join_fleet(machine, fleet.url, token)
        assert machine.exists
        assert (len(fleet.events("joined")), fleet.events("token_misused")) == (1, [])


async def test_misuse_fills_no_disk(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        token = await fleet.token("node", "node-a")
        await join_fleet(fleet.machine("node", "node-a"), fleet.url, token)
        for number in range(15):
            with pytest.raises(Refusal):
                await join_fleet(fleet.machine("node", "node-a", f"t{number}"), fleet.url, token)
        assert len(fleet.events("token_misused")) == 10


@pytest.mark.parametrize("what", ["secret", "name", "kind", "id", "late", "replaced"])
async def test_a_token_is_good_for_one_name_and_ten_minutes(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with door(tmp_path) as fleet:
        token = parse_join_token(await fleet.token("node", "node-a"))
        other = await fleet.token("node", "node-b")
        kind, name, text = token.kind, token.name, str(token)
        match what:
            case "secret":
                text = text.replace(token.secret, "A" * 43)
            case "name":
                name, text = "node-b", text.replace("node-a", "node-b")
            case "kind":
                kind, text = "edge", text.replace("join:node:", "join:edge:")
            case "id":
                text = text.replace(token.token_id, parse_join_token(other).token_id)
            case "late":
                later = (datetime.now(UTC) + HOUR / 5).isoformat()
                monkeypatch.setattr("kit.clock.SystemClock.utc", lambda _: later)
            case "replaced":
                await fleet.token("node", "node-a")
        machine = MachineIdentity(tmp_path / "thief", kind, name)
        with pytest.raises(Refusal, match="join token is not good"):
            await join_fleet(machine, fleet.url, text)
        assert fleet.events("joined") == []
        assert len(fleet.events("token_misused")) == (what in ("late", "replaced"))


@pytest.mark.parametrize("uri", [*OTHER_NAMES, "two", "dns", "none", "altered", "rsa"])
async def test_a_request_for_another_name_gets_no_certificate_and_spends_no_token(tmp_path: Path, uri: str) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    right = x509.UniformResourceIdentifier("spiffe://fleet.test/node/node-a")
    crooked: dict[str, list[x509.GeneralName]] = {
        "two": [right, x509.UniformResourceIdentifier("spiffe://fleet.test/node/node-b")],
        "dns": [right, x509.DNSName(CONTROLLER_HOST)],
        "none": [],
        "altered": [right],
        "rsa": [right],
    }
    names = crooked.get(uri) or [x509.UniformResourceIdentifier(uri)]
    key: Any = rsa.generate_private_key(65537, 2048) if uri == "rsa" else new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uri != "none":
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    if uri == "altered":
        der = der[:-1] + bytes([der[-1] ^ 1])
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE REQUEST-----\n"
    async with door(tmp_path) as fleet:
        token = await fleet.token("node", "node-a")
        status, document = await fleet.ask("POST", "/v1/join", None, json={"token": token, "csr": pem})
        assert (status, document["code"]) in ((403, "csr_mismatch"), (400, "csr_invalid"))
        await join_fleet(fleet.machine("node", "node-a"), fleet.url, token)


async def test_certificates_out_of_their_time_or_of_others_are_turned_away(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    async with door(tmp_path) as fleet:
        await fleet.joined("node", "node-a")
        await enrol_node(fleet.world.log, "node-a")
        good = fleet.forged(fleet.authority, "node", "node-a", at=now)
        assert (await fleet.ask("GET", PLAN, None, good))[0] == 200, "the forger works"
        assert await turned_away(fleet, fleet.forged(fleet.authority, "node", "node-a", at=now - 2 * HOUR)) == "tls"
        assert await turned_away(fleet, fleet.forged(fleet.authority, "node", "node-a", at=now + HOUR)) == "tls"
        other = Authority.open_or_create(tmp_path / "other", "fleet.test", now)
        assert await turned_away(fleet, fleet.forged(other, "node", "node-a")) == "tls"
        fleet.authority.domain = "elsewhere.test"
        elsewhere = fleet.forged(fleet.authority, "node", "node-a")
        assert "no machine of this fleet" in await turned_away(fleet, elsewhere)


async def test_tls_below_1_3_is_turned_away(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.load_verify_locations(cadata=fleet.authority.bundle)
        with pytest.raises(TLS_REFUSED):
            await fleet.ask("GET", "/healthz", None, old)
        assert (await fleet.ask("GET", "/healthz", None))[0] == 200


async def test_without_a_certificate_there_is_nothing_but_the_door(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        for path in (PLAN, "/v1/stream", "/v1/status", "/v1/events"):
            assert (await fleet.ask("GET", path, None))[0] == 401
        bearer = {"Authorization": f"Bearer {token_of('node', 'node-a')}"}
        assert (await fleet.ask("GET", PLAN, None, headers=bearer))[0] == 401, "a bearer token is no certificate"
        assert (await fleet.world.call("GET", PLAN, token_of("node", "node-a")))[0] == 401
        status, problem = await fleet.ask("POST", "/v1/join", None, json={"csr": ""})
        assert (status, problem["code"]) == (400, "invalid_argument"), "neither a token nor a certificate"


async def test_a_machine_reads_and_reports_for_itself_only_and_plays_no_other_role(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine, edge = await fleet.joined("node", "node-a"), await fleet.joined("edge", "node-b")
        for name in ("node-a", "node-b"):
            await enrol_node(fleet.world.log, name)
        for each in (machine, edge):
            for path in ("/v1/nodes/node-b/plan", "/v1/nodes/node-b/instances/i-1/secret", "/v1/edges/edge-b/plan"):
                assert (await fleet.ask("GET", path, each))[0] == 403
            for path in ("/v1/status", "/v1/events", "/v1/views/nodes"):
                assert (await fleet.ask("GET", path, each))[0] == 403
            for path in ("enrol", "heartbeat", "reports", "renew", "token", "revoke", "drain"):
                assert (await fleet.ask("POST", f"/v1/nodes/node-b/{path}", each, json={}))[0] == 403
        about = enrolment("node-b")
        status, document = await fleet.ask("POST", "/v1/nodes/node-a/enrol", machine, json=about)
        assert (status, document["code"]) == (403, "node_mismatch")
        both = {"Authorization": f"Bearer {token_of('operator', 'ops')}"}
        assert (await fleet.ask("GET", "/v1/status", machine, headers=both))[0] == 401


async def test_the_stream_is_that_of_the_certificate_whatever_the_query_says(tmp_path: Path) -> None:
    from tests.twin import append
    from tests.unit.server.world import heard

    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        cursor = f"log-1.{len(fleet.world.log.events)}"
        await append(fleet.world.log, "c-1", heard("node-b", 1))
        await append(fleet.world.log, "c-2", heard("node-a", 2))
        path = f"/v1/stream?wait=5&cursor={cursor}&node=node-b"
        async with aiohttp.ClientSession() as session:
            async with session.get(fleet.url + path, ssl=machine.context(), server_hostname=CONTROLLER_HOST) as answer:
                lines = (
                    [json.loads(line) for line in (await answer.text()).splitlines()] if answer.status == 200 else []
                )
        nodes = {line["event"]["payload"]["node_id"] for line in lines if line["type"] == "change"}
        assert nodes <= {"node-a"}


async def test_a_revoked_machine_loses_its_open_stream_and_everything_else(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        await enrol_node(fleet.world.log, "node-a")
        other = await fleet.joined("node", "node-b")
        async with fleet.control_plane(machine) as mine, fleet.control_plane(other) as theirs:
            async with (
                mine.lines("/v1/stream", idle_timeout_s=30) as stream,
                theirs.lines("/v1/stream", idle_timeout_s=30) as untouched,
            ):
                assert (await anext(stream))["type"] == "hello"
                assert (await anext(untouched))["type"] == "hello"
                await fleet.operator("POST", "/v1/nodes/node-a/revoke", json={"reason": "the host was stolen"})
                async with asyncio.timeout(5):
                    with pytest.raises((TrueupError, StopAsyncIteration, aiohttp.ClientError)):
                        while True:
                            await anext(stream)
                assert fleet.world.streams.open_count == 1, "the other machine's goes on"
        assert "the host was stolen" in await turned_away(fleet, machine.context())
        csr = machine.request(new_key(), "fleet.test")
        assert (await fleet.ask("POST", "/v1/nodes/node-a/renew", machine, json={"csr": csr}))[0] == 401
        back = {"certificate": machine.certificate(), "csr": machine.request(machine.key(), "fleet.test")}
        assert (await fleet.ask("POST", "/v1/join", None, json=back))[0] == 403
        again = await fleet.joined("node", "node-a", "again")
        assert (await fleet.ask("GET", PLAN, again))[0] == 200
        await fleet.world.app[STANDING].look()
        assert "another machine has joined" in await turned_away(fleet, machine.context())


async def test_a_revocation_through_another_controller_ends_the_stream_here(tmp_path: Path) -> None:
    from reconciler.core.events import NewEvent
    from tests.twin import append

    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        async with fleet.control_plane(machine) as mine:
            async with mine.lines("/v1/stream", idle_timeout_s=30) as stream:
                assert (await anext(stream))["type"] == "hello"
                told = {"identity_id": "node/node-a", "reason": "stolen"}
                await append(fleet.world.log, "c-1", NewEvent("identity", "node/node-a", "identity.revoked", told))
                async with asyncio.timeout(5):
                    with pytest.raises((TrueupError, StopAsyncIteration, aiohttp.ClientError)):
                        while True:
                            await anext(stream)


async def test_an_expired_certificate_is_renewed_with_its_own_key_only(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        machine = await fleet.joined("node", "node-a")
        key = machine.key()
        old = fleet.authority.certify(
            machine.request(key, "fleet.test"), "node", "node-a", 1, datetime.now(UTC) - 3 * HOUR
        )
        asked = {"certificate": old.chain, "csr": machine.request(key, "fleet.test")}
        status, answer = await fleet.ask("POST", "/v1/join", None, json=asked)
        assert status == 200, answer
        for change in (
            {"csr": machine.request(new_key(), "fleet.test")},
            {"csr": fleet.machine("node", "node-b").request(key, "fleet.test")},
            {"certificate": fleet.authority.bundle},
        ):
            assert (await fleet.ask("POST", "/v1/join", None, json={**asked, **change}))[0] == 403
        ancient = fleet.authority.certify(machine.request(key, "fleet.test"), "node", "node-a", 1,
                                          datetime.now(UTC) - 200 * HOUR)  # fmt: skip
        assert (await fleet.ask("POST", "/v1/join", None, json={**asked, "certificate": ancient.chain}))[0] == 403


async def test_a_false_controller_learns_no_token(tmp_path: Path) -> None:
    """Its roots are not those that the token names; so the token is never sent."""
    async with door(tmp_path / "true") as fleet, door(tmp_path / "false") as false:
        token = await fleet.token("node", "node-a")
        with pytest.raises(Refusal, match="roots are not those"):
            await join_fleet(fleet.machine("node", "node-a"), false.url, token)
        machine = await fleet.joined("node", "node-b")
        with pytest.raises(TLS_REFUSED):
            await false.ask("GET", "/healthz", machine)


async def test_the_log_holds_no_token_and_the_answer_is_not_kept(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        token = parse_join_token(await fleet.token("node", "node-a"))
        await join_fleet(fleet.machine("node", "node-a"), fleet.url, str(token))
        kept = json.dumps([event.payload for event in fleet.world.log.events])
        assert token.secret not in kept
        assert token.secret not in repr(token)
        assert trusting(fleet.authority.bundle).minimum_version is ssl.TLSVersion.TLSv1_3
