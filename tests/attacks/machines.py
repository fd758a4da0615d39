"""A fleet's door with real TLS: machines that join at it, and the certificates that an attacker would like to have."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import serialization

from kit.control_plane import ControlPlane
from kit.joining import join_fleet
from kit.machine_identity import MachineIdentity, new_key, trusting
from kit.machine_names import CONTROLLER_HOST, MachineKind
from reconciler.certificates.authority import Authority
from tests.unit.server.world import World, serving, token_of

OPERATOR = token_of("operator", "ops")


@dataclass
class Door:
    world: World
    authority: Authority
    folder: Path

    @property
    def url(self) -> str:
        return str(self.world.server.machines_url)

    async def operator(self, method: str, path: str, **more: Any) -> Any:
        status, document, _ = await self.world.call(method, path, OPERATOR, **more)
        assert status == 200, document
        return document

    async def token(self, kind: MachineKind, name: str) -> str:
        return str((await self.operator("POST", f"/v1/{kind}s/{name}/token"))["token"])

    def machine(self, kind: MachineKind, name: str, place: str = "") -> MachineIdentity:
        return MachineIdentity(self.folder / (place or f"{kind}-{name}"), kind, name)

    async def joined(self, kind: MachineKind, name: str, place: str = "") -> MachineIdentity:
        machine = self.machine(kind, name, place)
        await join_fleet(machine, self.url, await self.token(kind, name))
        return machine

    async def ask(
        self, method: str, path: str, machine: MachineIdentity | None, tls: ssl.SSLContext | None = None, **more: Any
    ) -> tuple[int, Any]:
        """Over a new connection. Raises what TLS raises."""
        tls = tls or (machine.context() if machine else trusting(self.authority.bundle))
        async with aiohttp.ClientSession() as session:
            async with session.request(
                method, self.url + path, ssl=tls, server_hostname=CONTROLLER_HOST, **more
            ) as answer:
                return answer.status, await answer.json(content_type=None)

    def forged(
        self,
        authority: Authority,
        kind: MachineKind,
        name: str,
        *,
        generation: int = 1,
        at: datetime | None = None,
    ) -> ssl.SSLContext:
        """The context of somebody with a certificate of `authority`, made at `at`."""
        key, asker = new_key(), self.machine(kind, name, "forger")
        chain = authority.certify(
            asker.request(key, authority.domain), kind, name, generation, at or datetime.now(UTC)
        ).chain
        path = self.folder / f"forged-{kind}-{name}.pem"
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(pem + chain.encode())
        context = trusting(self.authority.bundle)
        context.load_cert_chain(path)
        return context

    def control_plane(self, machine: MachineIdentity) -> ControlPlane:
        return ControlPlane(self.url, identity=machine)

    def events(self, kind: str) -> list[Any]:
        return [event.payload for event in self.world.log.events if event.event_type == f"identity.{kind}"]


@asynccontextmanager
async def door(folder: Path, *, machine_tokens: bool = False) -> AsyncIterator[Door]:
    authority = Authority.open_or_create(folder / "ca", "fleet.test", datetime.now(UTC))
    async with serving(authority=authority, machine_tokens=machine_tokens) as world:
        yield Door(world, authority, folder)


HOUR = timedelta(hours=1)
