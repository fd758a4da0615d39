"""The dataplane that is haproxy. Called by `edge.loop`; keeps its promises by one order of steps:

observe -> place on slots -> converge to actions -> write files -> switch the link -> act on the running process.

The files are complete before the process is touched, so that whatever ends in between (this program, haproxy, the host)
the next start of either lands in the new table. When the process cannot be changed in place it is reloaded; when the
reload is refused the link goes back and haproxy serves what it served.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path

from edge.core.config import MAP_FILE, Options, render, server_arguments
from edge.core.converge import Actions, Observed, ServerRef, Wanted, converge, gone_from_plan
from edge.core.layout import Layout, place
from edge.core.table import RouteTable
from edge.dataplane import answers
from edge.dataplane.contract import Serving
from edge.dataplane.process import Process
from edge.dataplane.runtime import PAYLOAD_BYTES_MAX, Conversation, conversation
from edge.dataplane.versions import Version, Versions
from kit import logs
from kit.clock import Clock
from kit.errors import Transient, TrueupError

ORPHANS_TIMEOUT_S = 3.0  # workers of a master that died end by themselves within this
_log = logs.get("dataplane")


class HaproxyDataplane:
    """One haproxy, whose state is the folder `folder`. A new object on the same folder adopts what runs."""

    def __init__(self, folder: Path, options: Options, clock: Clock, *, drain_bound_s: float = 600.0) -> None:
        self._options = options
        self._clock = clock
        self._drain_bound_s = drain_bound_s
        self._process = Process(folder)
        self._versions = Versions(folder)
        self._wanted: Wanted | None = None
        self._generation = 0
        self._draining: dict[ServerRef, float] = {}  # since when, by the clock
        self._lock = asyncio.Lock()

    async def apply(self, table: RouteTable, generation: int) -> None:
        async with self._lock:
            observed = await self._observe()
            wanted = Wanted(table, self._place(table, observed), self._options)
            if observed is None or wanted != self._wanted or not converge(wanted, observed).nothing:
                version = self._versions.write(render(table, wanted.layout, self._options), wanted.layout)
                await self._change(version, wanted, observed, generation)
            self._wanted, self._generation = wanted, generation

    async def observe(self) -> Serving | None:
        async with self._lock:
            observed = await self._observe()
        if observed is None:
            return None
        ready = {server.ref.name for server in observed.servers if server.ready}
        draining = frozenset(server.ref.name for server in observed.servers) - ready
        return Serving(self._generation, dict(sorted(observed.listeners.items())), observed.served, draining)

    async def blocked_ports(self, ports: Iterable[int]) -> Mapping[int, str]:
        async with self._lock:
            observed = await self._observe()
        unknown = sorted(set(ports) - set(observed.listeners if observed else ()))
        deadline_s = self._clock.now_s() + (0 if observed else ORPHANS_TIMEOUT_S)
        while True:
            blocked = {port: why for port in unknown if (why := self._cannot_bind(port))}
            if not blocked or self._clock.now_s() >= deadline_s:
                return blocked
            await self._clock.sleep(0.1)

    async def tend(self) -> None:
        async with self._lock:
            self._process.trim_log()
            if await self._process.running() is None:
                if self._versions.current() is not None:
                    _log.warning("haproxy does not run, starting it with the last applied table")
                    await self._process.start()
                    self._draining.clear()
            elif self._draining:
                await self._remove_drained()

    async def stop(self) -> None:
        async with self._lock:
            await self._process.stop()

    def _place(self, table: RouteTable, observed: Observed | None) -> Layout:
        previous = self._versions.current_layout()
        if previous is None:
            previous = Layout(slots=observed.slots) if observed and observed.slots else Layout()
        return place(previous, table, observed.busy if observed else frozenset())

    async def _observe(self) -> Observed | None:
        if await self._process.running() is None:
            return None
        async with conversation(self._process.worker_socket) as talk:
            settings = answers.read_settings(await talk.ask("show info"))
            if not settings:
                return Observed(settings="", listeners={}, slots=0)
            stat = await talk.ask("show stat -1 3 -1")
            sessions = answers.read_slots(stat)
            return Observed(
                settings=settings,
                listeners=answers.read_listeners(stat),
                slots=len(sessions),
                servers=tuple(answers.read_servers(await talk.ask("show servers state"))),
                entries=answers.read_map(await talk.ask(f"show map {MAP_FILE}")),
                sessions=sessions,
            )

    async def _change(self, version: Version, wanted: Wanted, observed: Observed | None, generation: int) -> None:
        previous = self._versions.current()
        if observed is None:
            await self._process.check(version.folder)
            await self._load(version, previous, start=True)
            return
        actions = converge(wanted, observed)
        if actions.reload:
            _log.info("haproxy must reload", why="; ".join(actions.reload)[:500], generation=generation)
            await self._process.check(version.folder)
            await self._load(version, previous, start=False)
            return
        self._versions.use(version)
        try:
            await self._perform(actions)
        except Transient as error:
            _log.warning("haproxy could not be changed in place, reloading", why=str(error))
            await self._load(version, previous, start=False)
            return
        self._note_draining(gone_from_plan(wanted, observed))

    async def _load(self, version: Version, previous: Version | None, *, start: bool) -> None:
        """A start or a reload with `version`, or back to `previous`."""
        self._versions.use(version)
        try:
            await (self._process.start() if start else self._process.reload())
        except TrueupError:
            if previous is not None:
                self._versions.use(previous)
            raise
        self._draining.clear()

    async def _perform(self, actions: Actions) -> None:
        async with conversation(self._process.worker_socket) as talk:
            for ref, server in actions.add:
                await talk.tell(f"add server {ref.path} {server_arguments(server)}")
                await talk.tell(f"enable health {ref.path}")
                await talk.tell(f"enable server {ref.path}")
            for ref in actions.enable:
                await talk.tell(f"enable health {ref.path}")
                await talk.tell(f"set server {ref.path} state ready")
            if actions.set_entries is not None:
                await _swap_map(talk, actions.set_entries)
            for ref in actions.drain:
                await talk.tell(f"set server {ref.path} state drain")

    def _note_draining(self, gone: frozenset[ServerRef]) -> None:
        now_s = self._clock.now_s()
        self._draining = {ref: self._draining.get(ref, now_s) for ref in gone}

    async def _remove_drained(self) -> None:
        """Removes drained servers without connections; cuts the connections of those past the bound."""
        async with conversation(self._process.worker_socket) as talk:
            sessions = answers.read_sessions(await talk.ask("show stat -1 4 -1"))
            for ref, since_s in sorted(self._draining.items()):
                if ref in sessions and sessions[ref] and self._clock.now_s() - since_s >= self._drain_bound_s:
                    _log.warning("drain bound passed, cutting connections", server=ref.path, open=sessions[ref])
                    await talk.tell(f"shutdown sessions server {ref.path}")
                elif not sessions.get(ref) and await _remove(talk, ref, known=ref in sessions):
                    del self._draining[ref]

    def _cannot_bind(self, port: int) -> str:
        for address in self._options.listen_addresses:
            parsed = ip_address(address)
            with socket.socket(socket.AF_INET6 if parsed.version == 6 else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if parsed.version == 6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not parsed.is_unspecified)
                try:
                    probe.bind((address, port))
                except OSError as error:
                    return f"this edge cannot listen on {address} port {port}: {error.strerror}"
        return ""


async def _remove(talk: Conversation, ref: ServerRef, *, known: bool) -> bool:
    """Whether it is gone. haproxy itself refuses while anything is open."""
    if not known:
        return True
    await talk.tell(f"set server {ref.path} state maint")
    answer = await talk.ask(f"del server {ref.path}")
    return answer.startswith("Server deleted")


async def _swap_map(talk: Conversation, entries: Mapping[str, str]) -> None:
    """All entries at once: a new version is filled, then made the current one."""
    version = answers.read_map_version(await talk.ask(f"prepare map {MAP_FILE}"))
    for payload in _payloads(f"{key} {slot}\n" for key, slot in entries.items()):
        await talk.tell(f"add map @{version} {MAP_FILE}", payload)
    await talk.tell(f"commit map @{version} {MAP_FILE}")


def _payloads(lines: Iterable[str]) -> list[str]:
    """Lines joined into pieces that fit into one command."""
    pieces: list[list[str]] = [[]]
    size = 0
    for line in lines:
        if size + len(line) > PAYLOAD_BYTES_MAX:
            pieces.append([])
            size = 0
        pieces[-1].append(line)
        size += len(line)
    return ["".join(piece) for piece in pieces if piece]
