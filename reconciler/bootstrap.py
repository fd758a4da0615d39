"""The only place where the controller's real parts are wired together.

Called by `reconciler.__main__` for `trueup controller`. In this order: the lock of the state folder, the keys, the
store (waited for at most `start_timeout_s`), the loops, the server; stopped in the reverse order, each with a bound. A
loop never ends by itself: one that does is a bug, and stops the program so that its supervisor starts it anew.

Several controllers may share one database, each with a state folder of its own. All of them serve reads, streams and
agents and keep the views; a loop that decides runs where its lease is held (`reconciler.leadership`). Exit codes: 0
after a stop, 1 for a refusal or a bug, 2 for wrong settings, 6 for what may go by itself (Postgres away, disk full).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kit import logs, open_files, pauses
from kit.backoff import Backoff
from kit.clock import Clock, SystemClock
from kit.errors import Bug, Transient
from kit.files import write_atomically
from kit.machine_names import CONTROLLER_HOST
from reconciler import keys
from reconciler.certificates.authority import Authority
from reconciler.core.commands import Fence
from reconciler.core.views import PROJECTIONS
from reconciler.followed_sources import FollowedSource, FollowedSources, Surroundings
from reconciler.handlers import Handlers
from reconciler.ids import UlidIds
from reconciler.leadership import Leadership
from reconciler.oidc.issuers import Issuers
from reconciler.sealer import Sealer
from reconciler.secret_delivery import SecretDelivery
from reconciler.server.app import HttpServer, build_app
from reconciler.server.auth import make_token
from reconciler.server.deps import Deps
from reconciler.server.deps import Handlers as Writes
from reconciler.server.tls import MachinesTls
from reconciler.settings import ControllerSettings
from reconciler.state_lock import state_lock
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, open_store
from reconciler.tasks.expiry import Expiry
from reconciler.tasks.head_export import HeadExport
from reconciler.tasks.nodes import NodeWatch
from reconciler.tasks.projector import Projector
from reconciler.tasks.scheduler import Scheduler

Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
START_BACKOFF = Backoff(first_s=0.2, cap_s=5.0)
DRAIN_SHARE = 0.8
"""Of the time that a stop may take: for the loops to end by themselves, so that their leases can still be released."""
_log = logs.get("controller")


async def run(settings: ControllerSettings, stop: asyncio.Event) -> None:
    """Until `stop` is set. Raises `Refusal` or `Transient` when it cannot start."""
    pauses.keep_short()
    open_files.allow(settings.http_connections_max)
    with _disk_full_is_transient(settings.state):
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with state_lock(settings.state):
            path = keys.shared_file(settings.platform_key_file, settings.state / keys.PLATFORM_KEY, "platform")
            token_key = keys.token_key(settings.state, settings.token_key_file)
            folder = settings.ca_folder or settings.state / keys.AUTHORITY
            authority = Authority.open_or_create(folder, settings.trust_domain, datetime.now(UTC))
            sealer = await asyncio.to_thread(Sealer.open_or_create, path)
            try:
                await _run(settings, sealer, token_key, authority, stop)
            finally:
                sealer.close()


async def _run(
    settings: ControllerSettings, sealer: Sealer, token_key: bytes, authority: Authority, stop: asyncio.Event
) -> None:
    clock, rng = SystemClock(), random.Random()  # noqa: S311  # jitter
    store = await _store_once_it_is_there(settings, stop, clock, rng)
    if store is None:
        return
    try:
        controller = Controller(settings, store, sealer, token_key, authority, clock, rng)
        app, door = build_app(controller.deps()), controller.machines_door()
        host, port, limits = settings.listen_host, settings.listen_port, settings.http_limits
        async with controller.loops() as watch, HttpServer(app, host, port, limits, machines=door) as server:
            await asyncio.to_thread(_tell_recipients, settings, sealer)
            controller.publish(server.url, server.machines_url)
            _log.info("ready", url=server.url, sources=len(settings.followed))
            await asyncio.wait((asyncio.ensure_future(stop.wait()), watch), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
            _log.info("stopping")
    finally:
        await store.close()
    _log.info("stopped")


async def _store_once_it_is_there(
    settings: ControllerSettings, stop: asyncio.Event, clock: Clock, rng: random.Random
) -> Store | None:
    """Postgres may come up later than this program. None: told to stop first."""
    store_settings = StoreSettings(state_dir=settings.state, database_url=settings.database_url)
    holder = settings.controller_name or f"{socket.gethostname()}/{os.getpid()}"
    deadline_s, failures = clock.now_s() + settings.start_timeout_s, 0
    while not stop.is_set():
        try:
            return await open_store(store_settings, clock=clock, holder=holder)
        except Transient as error:
            failures += 1
            delay_s = START_BACKOFF.delay_s(failures, rng)
            if error.code == "disk_full" or clock.now_s() + delay_s > deadline_s:
                raise
            _log.warning("the store does not open, trying again", next_try_s=round(delay_s, 1), why=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await stop.wait()
    return None


@contextlib.contextmanager
def _disk_full_is_transient(state: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise Transient(
            f"write into the state folder {state}", str(error), fix="free disk space there", code="disk_full"
        ) from error


class Controller:
    """The parts of one controller process."""

    def __init__(
        self,
        settings: ControllerSettings,
        store: Store,
        sealer: Sealer,
        token_key: bytes,
        authority: Authority,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        ids = UlidIds()
        self._settings = settings
        self._store = store
        self._clock = clock
        self._rng = rng
        self._key = token_key
        self._authority = authority
        names = dict.fromkeys((CONTROLLER_HOST, socket.gethostname().lower(), *settings.server_names))
        self._tls = MachinesTls(authority, tuple(names), settings.state, clock)
        self._machines_url = settings.machines_url
        self._handlers = Handlers(store.log, store.views, ids, clock)
        self._projector = Projector(store.log, store.writer, sorted(PROJECTIONS), clock, rng)
        self._scheduler = Scheduler(store.log, store.views, self._handlers, ids, clock, rng)
        self._nodes = NodeWatch(
            self._handlers,
            store.views,
            store.heartbeats,
            clock,
            rng,
            offline_after_s=settings.node_offline_after_s,
        )
        self._expiry = Expiry(self._handlers, store.views, clock, rng)
        around = Surroundings(
            settings.state, sealer, store.log, store.views, self._handlers, store.leases, token_key, clock, rng
        )
        self._sources = FollowedSources(settings.followed, around)
        self._heads = self._head_export()
        self._sealer = sealer
        self._delivery = SecretDelivery(sealer, self._sources.clones, self._sources.refresh, self._sources.standing)

    @contextlib.asynccontextmanager
    async def loops(self) -> AsyncIterator[asyncio.Task[None]]:
        """Runs the loops; gives a task that ends, with an error, if one of them does."""
        stop = asyncio.Event()
        loops: dict[str, Loop] = {
            "projector": self._projector.run,
            "scheduler": self._led("scheduler", self._scheduler.run),
            "nodes": self._led("nodes", self._nodes.run),
            "acts": self._led("acts", self._expiry.run),
            "listener": self._tls.keep,
        }
        for each in self._sources:
            loops |= self._followed(each)
        if (heads := self._heads) is not None:
            loops["heads"] = self._led("heads", heads.run, trouble=lambda: heads.trouble)
        tasks = {asyncio.create_task(loop(stop), name=name) for name, loop in loops.items()}
        watch = asyncio.create_task(_first_to_end(tasks))
        try:
            yield watch
        finally:
            stop.set()
            watch.cancel()
            await asyncio.wait(tasks, timeout=self._settings.drain_timeout_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(watch, *tasks, return_exceptions=True)
            self._delivery.close()
            await self._sources.close()

    def _followed(self, each: FollowedSource) -> dict[str, Loop]:
        """A source's loops by their leases."""
        pulls, statuses = each.forge.pulls, each.forge.statuses
        loops = {
            f"git/{each.name}": self._led(
                f"git/{each.name}", each.lead, standby=each.sync.follow, trouble=lambda: each.trouble
            ),
            f"notes/{each.name}": self._noting(each),
        }
        if pulls is not None:
            loops[f"pulls/{each.name}"] = self._led(f"pulls/{each.name}", pulls.run, trouble=lambda: pulls.trouble)
        if statuses is not None:
            lease = f"statuses/{each.name}"
            loops[lease] = self._led(lease, statuses.run, trouble=lambda: statuses.trouble)
        return loops

    def _led(
        self,
        lease: str,
        lead: Callable[[asyncio.Event, Fence], Coroutine[Any, Any, None]],
        *,
        standby: Loop | None = None,
        trouble: Callable[[], str] = str,
    ) -> Loop:
        return Leadership(
            lease=lease,
            leases=self._store.leases,
            lead=lead,
            clock=self._clock,
            rng=self._rng,
            ttl_s=self._settings.lease_ttl_s,
            drain_s=self._settings.drain_timeout_s * DRAIN_SHARE,
            standby=standby,
            trouble=trouble,
        ).run

    def _noting(self, each: FollowedSource) -> Loop:
        """Every controller notes in its own clone; one of them pushes."""
        notes = each.notes
        if notes.pushed is None:
            return notes.run
        return self._led(f"notes/{each.name}", notes.lead, standby=notes.run, trouble=lambda: notes.trouble)

    def _head_export(self) -> HeadExport | None:
        path, interval_s = self._settings.head_export, self._settings.head_export_interval_s
        if path is None:
            return None
        key_file = self._settings.head_key_file or self._settings.state / keys.HEAD_KEY
        return HeadExport(self._store.head_exporter(path, key_file).export, self._rng, interval_s=interval_s)

    def deps(self) -> Deps:
        return Deps(
            log=self._store.log,
            views=self._store.views,
            handlers=Writes(
                enrol_node=self._nodes.enrol,
                record_heartbeat=self._nodes.heard,
                record_node_report=self._handlers.record_node_report,
                record_edge_report=self._handlers.record_edge_report,
                act=self._handlers.act,
                remove_source=self._sources.remove,
                record_delivery=self._handlers.record_delivery,
            ),
            checkpoints=self._store.views.checkpoints,
            secret_for=self._delivery.seal_for,
            quarantined=self._store.views.quarantined,
            look=self._sources.look,
            authority=self._authority,
            identities=self._handlers,
            certificates=self._store.certificates,
            machines_url=lambda: self._machines_url,
            machine_tokens=self._settings.machine_tokens,
            issuers=Issuers(self._settings.oidc, self._settings.oidc_rules, self._clock),
            projects=lambda: {each.name: (each.org, each.project) for each in self._settings.followed},
            webhook_secrets=self._sources.webhook_secrets,
            token_key=self._key,
            source_troubles=self._sources.troubles,
            notes_troubles=self._sources.notes_troubles,
            source_fetch_ages_s=self._sources.fetch_ages_s,
            commits_behind=self._sources.behind,
            heartbeat_ages_s=self._store.heartbeats.ages_s,
            leases=self._store.leases.rows,
            lags_s=self._store.views.lags_s,
            plan=self._sources.plans(),
            history=self._sources.histories(),
            recipient_of=self._sealer.recipient_of,
            clock=self._clock,
            limits=self._settings.http_limits,
        )

    def machines_door(self) -> tuple[str, int, ssl.SSLContext]:
        return self._settings.machines_host, self._settings.machines_port, self._tls.open()

    def publish(self, url: str, machines_url: str) -> None:
        """What the command line on this host needs to reach this controller, and machines elsewhere."""
        self._machines_url = self._machines_url or machines_url
        write_atomically(self._settings.state / keys.MACHINES_URL, self._machines_url.encode(), mode=0o644)
        self._publish_machine_tokens(self._settings.state / keys.MACHINE_TOKENS)
        token = make_token(self._key, "operator", "local")
        write_atomically(self._settings.state / keys.OPERATOR_TOKEN, token.encode())
        write_atomically(self._settings.state / keys.CONTROLLER_URL, url.encode(), mode=0o644)

    def _publish_machine_tokens(self, mark: Path) -> None:
        if not self._settings.machine_tokens:
            mark.unlink(missing_ok=True)
            return
        write_atomically(mark, b"on\n", mode=0o644)
        fix = "join every machine (docs/SECURITY.md), then take it out of the settings"
        _log.warning("machine_tokens is on: bearer tokens of machines are accepted", fix=fix)


def _tell_recipients(settings: ControllerSettings, sealer: Sealer) -> None:
    for each in settings.followed:
        recipient = sealer.recipient_of(each.org, each.project)
        _log.info("recipient", source=each.name, project=f"{each.org}/{each.project}", recipient=recipient)
    lax = [each for each in settings.followed if each.platform_recipient]
    if len({(each.org, each.project) for each in lax}) > 1:
        why = "who may write one of them can open what another one sealed to the platform's former recipient"
        fix = "rewrap their secrets, and take platform_recipient out (docs/runbooks/secret-keys.md)"
        _log.warning("several projects accept one key", sources=[each.name for each in lax], why=why, fix=fix)


async def _first_to_end(tasks: set[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    task = done.pop()
    raise Bug(
        f"run the loop {task.get_name()}", f"it ended: {task.exception() or 'without a reason'}"
    ) from task.exception()
