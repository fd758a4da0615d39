"""The TLS of the machines' listener: 1.3 only, a client's certificate checked against the platform's roots.

Made by `reconciler.bootstrap`. A client without a certificate gets in as far as a route lets it that needs none: to
join. No session is resumed, since a resumed one would skip the check of the client's certificate.
"""

from __future__ import annotations

import os
import ssl
from asyncio import sslproto
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from kit.files import write_atomically
from reconciler.certificates.authority import Authority

READ_BYTES = 4 << 10
"""What asyncio keeps for each connection to read into, for as long as it is open: 256 KiB unless told otherwise, which
10,000 machines that say a few words a minute are not worth. One record of TLS."""


def machines_context(authority: Authority) -> ssl.SSLContext:
    """Without a certificate of its own yet: see `certify_listener`."""
    sslproto.SSLProtocol.max_size = READ_BYTES
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    context.load_verify_locations(cadata=authority.bundle)
    return context


def certify_listener(
    context: ssl.SSLContext, authority: Authority, names: Sequence[str], state: Path, now: datetime
) -> None:
    """A new key and certificate; also while it listens: the next handshake has them. `ssl` reads from a file only."""
    key, chain = authority.server_certificate(names, now)
    path = state / f".listener.{os.getpid()}.pem"
    write_atomically(path, key + chain)
    try:
        context.load_cert_chain(path)
    finally:
        path.unlink()
