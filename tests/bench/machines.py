"""The streams of machines as they really are: 5,000 connections of TLS 1.3, each with a certificate of its own.

`fanout` and `herd` measure the stream without TLS; this is what comes on top of it, with the same readers. `herd_s`:
all of them connect at once, with nothing to resume, until the last has been let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from kit.machine_identity import MachineIdentity, new_key
from kit.machine_names import MachineKind
from reconciler.certificates.authority import Authority
from tests.bench.fanout import broadcast, filtered
from tests.bench.streaming import READERS, fleet, opened, order, stream_process

TITLE = "machines: 5,000 readers of one stream process over mutual TLS"


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    async with opened() as (store, folder):
        authority = Authority.open_or_create(folder / "ca", "fleet.test", datetime.now(UTC))
        nodes, edges = (_certificates(authority, folder, kind) for kind in ("node", "edge"))
        progress(f"{READERS * 2} certificates")
        async with stream_process(store, folder, "--ca", str(authority.folder)) as (server, url):
            head = await store.log.head()
            started, cpu_s, before_kib = time.monotonic(), server.cpu_s, server.rss_kib
            wanted = order(url, folder, "edge", READERS, head.log_id, head.last_event_id, certificates=edges)
            async with fleet(wanted) as readers:
                herd_s, cpu_s = time.monotonic() - started, server.cpu_s - cpu_s
                kib_per_reader = (server.rss_kib - before_kib) / READERS
                progress(f"{READERS} are let in after {herd_s:.1f} s, {kib_per_reader:.1f} KiB each")
                await readers.stop()
            slowly = await filtered(store, folder, server, url, progress, nodes)
            quickly = await broadcast(store, folder, url, progress, edges)
    handshake_cpu_ms = round(cpu_s / READERS * 1000, 2)
    return {
        **slowly,
        **quickly,
        "kib_per_reader": round(kib_per_reader, 1),
        "herd_s": round(herd_s, 1),
        "handshake_cpu_ms": handshake_cpu_ms,
    }


def _certificates(authority: Authority, folder: Path, kind: MachineKind) -> str:
    """A folder with those of KIND-0, KIND-1 and so on."""
    place = folder / f"certificates-{kind}"
    place.mkdir()
    (place / "roots.pem").write_text(authority.bundle)
    key = new_key()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for number in range(READERS):
        name = f"{kind}-{number}"
        asked = MachineIdentity(place, kind, name).request(key, authority.domain)
        chain = authority.certify(asked, kind, name, 1, datetime.now(UTC)).chain
        (place / f"{number}.pem").write_bytes(pem + chain.encode())
    return str(place)
