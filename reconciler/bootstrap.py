"""The only place where the controller's real parts are wired together.

Called by `reconciler.__main__` for `trueup controller`. Starts the store, then the loops, then the server; stops them
in the reverse order. A loop never ends by itself: one that does is a bug, and stops the program so that its supervisor
starts it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock, SystemClock
from kit.errors import Bug, Transient
from kit.files import write_atomically
from reconciler import keys
from reconciler.core.revisions import Source
from reconciler.core.views import PROJECTIONS
from reconciler.git.clone import BareClone
from reconciler.handlers import Handlers
from reconciler.ids import UlidIds
from reconciler.secret_delivery import SecretDelivery
from reconciler.server.app import HttpServer, build_app
from reconciler.server.auth import make_token
from reconciler.server.deps import Deps
from reconciler.server.deps import Handlers as Writes
from reconciler.settings import ControllerSettings
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from reconciler.tasks.git_sync import GitSync
from reconciler.tasks.nodes import NodeWatch
from reconciler.tasks.projector import Projector
from reconciler.tasks.scheduler import Scheduler
from reconciler.vault import Vault

Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
REGISTER_BACKOFF = Backoff(first_s=0.5, cap_s=15.0)
_log = logs.get("controller")


async def run(settings: ControllerSettings, stop: asyncio.Event) -> None:
    """Until `stop` is set. Raises `Refusal` or `Transient` when it cannot start."""
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    vault = Vault.open_or_create(settings.state / keys.PLATFORM_KEY)
    store_settings = StoreSettings(state_dir=settings.state, database_url=settings.database_url)
    async with opened_store(store_settings) as store:
        controller = Controller(settings, store, vault, SystemClock(), random.Random())  # noqa: S311  # jitter
        async with (
            controller.loops() as watch,
            HttpServer(build_app(controller.deps()), settings.listen_host, settings.listen_port) as server,
        ):
            controller.publish(server.url)
            _log.info("ready", url=server.url, recipient=vault.recipient, repository=settings.repository)
            await asyncio.wait((asyncio.ensure_future(stop.wait()), watch), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
        _log.info("stopped")


class Controller:
    """The parts of one controller process."""

    def __init__(
        self, settings: ControllerSettings, store: Store, vault: Vault, clock: Clock, rng: random.Random
    ) -> None:
        ids = UlidIds()
        self._settings = settings
        self._store = store
        self._clock = clock
        self._rng = rng
        self._key = keys.token_key(settings.state)
        self._source = Source(
            source_id=settings.source,
            org=settings.org,
            project=settings.project,
            url=settings.repository,
            branch=settings.branch,
            path=settings.path,
            accepted_rewrite=settings.accepted_rewrite,
        )
        clone = BareClone(settings.state, self._source)
        self._handlers = Handlers(store.log, store.views, ids, clock)
        self._delivery = SecretDelivery(vault, {self._source.source_id: clone})
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
        self._git = GitSync(
            source=self._source,
            clone=clone,
            resolve=vault.resolve,
            log=store.log,
            views=store.views,
            submit=self._handlers.submit_revision,
            refuse=self._handlers.refuse_revision,
            clock=clock,
            rng=rng,
            interval_s=settings.poll_interval_s,
        )

    @contextlib.asynccontextmanager
    async def loops(self) -> AsyncIterator[asyncio.Task[None]]:
        """Runs the loops; gives a task that ends, with an error, if one of them does."""
        stop = asyncio.Event()
        loops: dict[str, Loop] = {
            "projector": self._projector.run,
            "git sync": self._sync,
            "scheduler": self._scheduler.run,
            "nodes": self._nodes.run,
        }
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

    async def _sync(self, stop: asyncio.Event) -> None:
        """A source that cannot be registered now is tried again; what it holds is read after that."""
        failures = 0
        while not stop.is_set():
            try:
                await self._handlers.register_source(self._source)
                await self._git.run(stop)
            except Transient as error:
                failures += 1
                _log.warning("source not registered", source=self._source.source_id, why=str(error))
                await self._clock.sleep(REGISTER_BACKOFF.delay_s(failures, self._rng))

    def deps(self) -> Deps:
        return Deps(
            log=self._store.log,
            views=self._store.views,
            handlers=Writes(
                enrol_node=self._nodes.enrol,
                record_heartbeat=self._nodes.heard,
                record_node_report=self._handlers.record_node_report,
                record_edge_report=self._handlers.record_edge_report,
            ),
            checkpoints=self._store.views.checkpoints,
            secret_for=self._delivery.seal_for,
            quarantined=self._store.views.quarantined,
            look=self._look,
            token_key=self._key,
            source_troubles=self._troubles,
            clock=self._clock,
        )

    def _troubles(self) -> dict[str, str]:
        return {self._source.source_id: self._git.trouble} if self._git.trouble else {}

    async def _look(self, source: str) -> bool:
        if source != self._source.source_id:
            return False
        self._git.look()
        return True

    def publish(self, url: str) -> None:
        """What the command line on this host needs to reach this controller."""
        token = make_token(self._key, "operator", "local")
        write_atomically(self._settings.state / keys.OPERATOR_TOKEN, token.encode())
        write_atomically(self._settings.state / keys.CONTROLLER_URL, url.encode(), mode=0o644)


async def _first_to_end(tasks: set[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    task = done.pop()
    raise Bug(
        f"run the loop {task.get_name()}", f"it ended: {task.exception() or 'without a reason'}"
    ) from task.exception()
