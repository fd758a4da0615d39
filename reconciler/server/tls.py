"""The TLS of the machines' listener: 1.3 only, a client's certificate checked against the platform's roots.

Made by `reconciler.bootstrap`, which runs `keep`. A client without a certificate gets in as far as a route lets it that
needs none: to join. No session is resumed, since a resumed one would skip the check of the client's certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from asyncio import sslproto
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from kit import logs
from kit.clock import Clock
from kit.errors import TrueupError
from kit.files import write_atomically
from reconciler.certificates.authority import Authority

AUTHORITY_LOOK_S = 2.0
LISTENER_RENEWAL_S = 86_400.0
READ_BYTES = 4 << 10
"""What asyncio keeps for each connection to read into, for as long as it is open: 256 KiB unless told otherwise, which
10,000 machines that say a few words a minute are not worth. One record of TLS."""
_log = logs.get("identity")


class MachinesTls:
    """`context`: for the listener, which keeps it for ever. Each handshake is handed over to the newest context, since
    roots can be added to one but not taken out. Open connections go on."""

    def __init__(self, authority: Authority, names: Sequence[str], state: Path, clock: Clock) -> None:
        """`names`: of this controller."""
        self._authority = authority
        self._names = names
        self._state = state
        self._clock = clock
        self._trouble = ""

    def open(self) -> ssl.SSLContext:
        sslproto.SSLProtocol.max_size = READ_BYTES
        self.context = self._newest = self._made()
        self.context.sni_callback = self._hand_over
        return self.context

    async def keep(self, stop: asyncio.Event) -> None:
        """Long before the listener's certificate ends it has another, and soon after the authority's folder changed."""
        renewed_s = self._clock.now_s()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AUTHORITY_LOOK_S):
                    await stop.wait()
            if await self._refreshed() or self._clock.now_s() - renewed_s > LISTENER_RENEWAL_S:
                renewed_s = self._clock.now_s()
                self._newest = await asyncio.to_thread(self._made)
                _log.info("listener certified", issuer=self._authority.issuer, root=self._authority.root)

    async def _refreshed(self) -> bool:
        """A folder that cannot be read changes nothing until it can."""
        try:
            changed = await asyncio.to_thread(self._authority.refresh, self._now())
        except TrueupError as error:
            if str(error) != self._trouble:
                _log.error("the authority goes on as it was", why=str(error), fix=error.fix)
            self._trouble = str(error)
            return False
        self._trouble = ""
        return changed

    def _made(self) -> ssl.SSLContext:
        context = _machines_context(self._authority.bundle)
        _certify(context, self._authority, self._names, self._state, self._now())
        return context

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in every handshake, also of a client that names nobody."""
        connection.context = self._newest

    def _now(self) -> datetime:
        return datetime.fromisoformat(self._clock.utc())


def _machines_context(bundle: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    context.load_verify_locations(cadata=bundle)
    return context


def _certify(context: ssl.SSLContext, authority: Authority, names: Sequence[str], state: Path, now: datetime) -> None:
    """`ssl` reads from a file only."""
    key, chain = authority.server_certificate(names, now)
    path = state / f".listener.{os.getpid()}.pem"
    write_atomically(path, key + chain)
    try:
        context.load_cert_chain(path)
    finally:
        path.unlink()
