"""Where connections go: by SNI, by port, and nowhere. Real haproxy, real TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from edge.dataplane.haproxy import HaproxyDataplane
from tests.integration.edge.conftest import StartBackend
from tests.integration.edge.parts import (
    DEADLINE_S,
    PROXY_V2_SIGNATURE,
    client_context,
    connected,
    free_port,
    haproxy,
    route,
    table,
    who_answers,
)


async def test_sni_leads_to_the_route_of_that_name_on_both_families(
    dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port = free_port()
    a, b = await backend("a", "a.example"), await backend("b", "b.example")
    await dataplane.apply(table(route("a.example", port, a), route("b.example", port, b)), 1)
    assert await who_answers(port, "a.example") == "a"
    assert await who_answers(port, "b.example", address="::1") == "b"
    assert await who_answers(port, "A.EXAMPLE") == "a", "names have no case"


async def test_the_any_address_takes_ipv4_and_ipv6(folder: Path, backend: StartBackend) -> None:
    port, a = free_port(), await backend("a", "a.example")
    dataplane = haproxy(folder, listen_addresses=("::",))
    try:
        await dataplane.apply(table(route("a.example", port, a)), 1)
        assert [await who_answers(port, "a.example", address=address) for address in ("127.0.0.1", "::1")] == ["a", "a"]
    finally:
        await dataplane.stop()


async def test_unknown_sni_no_sni_and_no_tls_are_closed(dataplane: HaproxyDataplane, backend: StartBackend) -> None:
    port, a = free_port(), await backend("a", "a.example")
    await dataplane.apply(table(route("a.example", port, a)), 1)
    assert await who_answers(port, "b.example") == ""
    assert await who_answers(port, "sub.a.example") == "", "names match exactly"
    with pytest.raises((ssl.SSLError, OSError)):
        context = client_context("a.example")
        context.check_hostname = False
        await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")
    assert await who_answers(port) == "", "plain text"
    assert a.connections == 0


async def test_a_name_on_another_port_is_another_route(dataplane: HaproxyDataplane, backend: StartBackend) -> None:
    first, second = free_port(), free_port()
    a, b = await backend("a", "a.example"), await backend("b", "b.example")
    await dataplane.apply(table(route("a.example", first, a), route("b.example", second, b)), 1)
    assert await who_answers(second, "a.example") == ""


@pytest.mark.parametrize("padding", [0, 2000])
async def test_a_client_hello_in_pieces_is_understood(
    dataplane: HaproxyDataplane, backend: StartBackend, padding: int
) -> None:
    """A post-quantum ClientHello has about 2 kB and comes in two segments; the SNI may be in the second."""
    port, a = free_port(), await backend("a", "a.example")
    await dataplane.apply(table(route("a.example", port, a)), 1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context("a.example")
    if padding:
        context.set_alpn_protocols([f"{n:03d}".ljust(200, "x") for n in range(padding // 200)])
    tls = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    assert len(hello) > padding
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in (hello[:40], hello[40 : len(hello) // 2], hello[len(hello) // 2 :]):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.1)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
    writer.write(outgoing.read())
    tls.write(b"hello\n")
    writer.write(outgoing.read())
    answer = b""
    async with asyncio.timeout(DEADLINE_S):
        while not answer:
            incoming.write(await reader.read(65536))
            try:
                answer = tls.read()
            except ssl.SSLWantReadError:
                continue
    writer.close()
    assert answer == b"a: hello\n"


async def test_a_client_that_says_half_a_hello_is_closed_in_bounded_time(folder: Path, backend: StartBackend) -> None:
    port, a = free_port(), await backend("a", "a.example")
    dataplane = haproxy(folder, inspect_delay_ms=300)
    try:
        await dataplane.apply(table(route("a.example", port, a)), 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes.fromhex("16030102000100"))
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        writer.close()
    finally:
        await dataplane.stop()


async def test_a_raw_port_belongs_to_its_route(dataplane: HaproxyDataplane, backend: StartBackend) -> None:
    raw, tls = free_port(), free_port()
    database, a = await backend("database"), await backend("a", "a.example")
    await dataplane.apply(table(route("", raw, database), route("a.example", tls, a)), 1)
    assert await who_answers(raw) == "database"
    assert await who_answers(tls, "a.example") == "a"


async def test_proxy_v2_comes_before_all_bytes_with_the_client_address(
    dataplane: HaproxyDataplane, backend: StartBackend
) -> None:
    port, a = free_port(), await backend("a", expect_proxy=True)
    await dataplane.apply(table(route("", port, a)), 1)
    async with connected(port) as client:
        assert await client.who() == "a"
        client_port = client.local_port
    proxied = [header for header in a.proxy_headers if header[12] == 0x21]  # PROXY, not the health check's LOCAL
    assert proxied and all(header.startswith(PROXY_V2_SIGNATURE) for header in a.proxy_headers)
    header = proxied[-1]
    assert header[13] == 0x11, "TCP over IPv4"
    assert header[16:20] == bytes([127, 0, 0, 1]) and int.from_bytes(header[24:26], "big") == client_port
    assert int.from_bytes(header[26:28], "big") == port


async def test_proxy_v2_comes_before_the_client_hello(dataplane: HaproxyDataplane, backend: StartBackend) -> None:
    port, a = free_port(), await backend("a", "a.example", expect_proxy=True)
    await dataplane.apply(table(route("a.example", port, a)), 1)
    assert await who_answers(port, "a.example") == "", "this backend hangs up after it has looked"
    assert a.after_proxy == [b"\x16\x03\x01"]


async def test_a_route_without_backends_fails_fast(dataplane: HaproxyDataplane, backend: StartBackend) -> None:
    port = free_port()
    await dataplane.apply(table(route("a.example", port)), 1)
    begun = asyncio.get_running_loop().time()
    assert await who_answers(port, "a.example") == ""
    assert asyncio.get_running_loop().time() - begun < 1.0
