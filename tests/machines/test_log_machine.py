"""The log beside a model of it (L1 to L4, P1): append, conflict, retry, several at once, lost connections, Postgres
killed, reopen, two leaders, views rebuilt; a failure prints a short program.

Two stores stand on one Postgres, as two controllers do. TRUEUP_MACHINE_EXAMPLES and _STEPS are the knobs for long runs;
TRUEUP_MACHINE_SHRINK=no is for who only wants to know whether it fails.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from kit.errors import Transient
from reconciler.core.commands import Append, AppendResult, Claim, Fence
from reconciler.core.replay import replay
from reconciler.core.views import PROJECTIONS
from reconciler.store import postmaster
from reconciler.store.pool import connect
from reconciler.store.roles import APP_ROLE, DATABASE
from reconciler.store.server import SUPERUSER, EmbeddedServer
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, open_store
from reconciler.store.verify import verify
from tests.integration.store.building import command
from tests.machines.model import Model, told
from tests.unit.projections.samples import new_event

EXAMPLES = int(os.environ.get("TRUEUP_MACHINE_EXAMPLES", "4"))
STEPS = int(os.environ.get("TRUEUP_MACHINE_STEPS", "12"))
PHASES = (Phase.generate, Phase.shrink) if os.environ.get("TRUEUP_MACHINE_SHRINK") != "no" else (Phase.generate,)

LEASE = "machine"
NODES = st.sampled_from(["a", "b", "c"])
WHO = st.sampled_from([0, 1])
EVENTS = st.builds(
    lambda node, cpu: new_event("node.enrolled", node_id=node, cpu=cpu), NODES, st.sampled_from([1.0, 2.0])
)
"""What may come at any time: the log takes whatever its caller has decided, but the views hold to the lifecycles."""
CLAIMS = st.lists(
    st.builds(Claim, st.just("hostname"), st.sampled_from(["h:1", "h:2"]), st.sampled_from(["x", "y"])), max_size=1
)
KILL = f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
AND pid <> pg_backend_pid() AND usename = '{APP_ROLE}'"""  # a fixed name


@st.composite
def commands(draw: st.DrawFn) -> Append:
    events = draw(st.lists(EVENTS, max_size=3))
    expected = draw(st.dictionaries(NODES.map(lambda node: ("node", node)), st.integers(0, 4), max_size=1))
    body_hash = draw(st.sampled_from(["one", "two"]))
    return command(*events, expected=expected, body_hash=body_hash, take=draw(CLAIMS), free=draw(CLAIMS))


@st.composite
def batches(draw: st.DrawFn) -> list[Append]:
    """Now and then with the same command twice."""
    batch = draw(st.lists(commands(), min_size=1, max_size=3))
    return [*batch, batch[0]] if draw(st.integers(0, 4)) == 0 else batch


BATCHES = batches()


def machine(server: EmbeddedServer) -> type[RuleBasedStateMachine]:
    store_settings = StoreSettings(server.data.parent)

    class LogMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.stores: list[Store] = [self.do(open_store(store_settings, holder=name)) for name in ("a", "b")]
            self.terms: list[int] = [0, 0]  # the newest epoch that each of the two has held
            self.sent: list[Append] = []
            self.do(self.read_into_model())

        def do(self, coroutine: Any) -> Any:
            return self.loop.run_until_complete(asyncio.wait_for(coroutine, 60))

        async def as_superuser(self, act: Callable[[Any], Awaitable[Any]]) -> Any:
            connection = await connect(server.url(SUPERUSER, DATABASE))
            try:
                return await act(connection)
            finally:
                await connection.close()

        async def read_into_model(self) -> None:
            """What the examples before this one left there."""
            log = self.stores[0].log
            self.model = Model((await log.head()).last_event_id)
            for event in await log.read(0, limit=10_000):
                self.model.versions[event.aggregate_type, event.aggregate_id] = event.aggregate_seq
            claims = await self.as_superuser(lambda c: c.fetch("SELECT kind, key, owner FROM claims"))
            self.model.claims = {(kind, key): owner for kind, key, owner in claims}
            leases = await self.as_superuser(lambda c: c.fetch("SELECT name, epoch FROM leases"))
            self.model.epochs = dict(leases)

        def appended(self, who: int, batch: list[Append], *, atomic: bool = True) -> None:
            self.sent += batch
            results = self.do(self.stores[who].log.append(batch, atomic=atomic))
            assert told(results) == self.model.append(batch, atomic=atomic)

        @rule(who=WHO, batch=BATCHES, atomic=st.booleans())
        def append(self, who: int, batch: list[Append], atomic: bool) -> None:
            self.appended(who, batch, atomic=atomic)

        @rule(who=WHO, data=st.data(), other=st.booleans())
        def retry(self, who: int, data: st.DataObject, other: bool) -> None:
            if self.sent:
                again = data.draw(st.sampled_from(self.sent))
                again = dataclasses.replace(again, body_hash="three") if other else again
                assert told(self.do(self.stores[who].log.append([again]))) == self.model.append([again])

        @rule(who=WHO, batches=st.lists(BATCHES, min_size=2, max_size=5))
        def append_at_once(self, who: int, batches: list[list[Append]]) -> None:
            async def all_of_them() -> list[list[AppendResult]]:
                return await asyncio.gather(*(self.stores[who].log.append(batch) for batch in batches))

            results = self.do(all_of_them())
            expected = [self.model.append(batch) for batch in batches]
            assert [told(each) for each in results] == expected, "they keep their order"
            self.sent += [append for batch in batches for append in batch]

        @rule(who=WHO, batch=BATCHES)
        def append_while_the_connections_are_killed(self, who: int, batch: list[Append]) -> None:
            async def both() -> list[AppendResult]:
                killing = self.as_superuser(lambda c: c.execute(KILL))
                appended, _ = await asyncio.gather(self.stores[who].log.append(batch), killing)
                return appended

            self.sent += batch
            assert told(self.do(both())) == self.model.append(batch)

        @rule(who=WHO, batch=BATCHES)
        def append_while_postgres_is_killed(self, who: int, batch: list[Append]) -> None:
            """With signal 9, all its processes; a store starts it again by itself. What was acknowledged is there."""

            async def both() -> list[AppendResult]:
                appending = asyncio.ensure_future(self.stores[who].log.append(batch))
                await asyncio.sleep(0)
                for pid in postmaster.processes(server.data):
                    postmaster.signal_process(pid, signal.SIGKILL)
                return await appending

            self.sent += batch
            assert told(self.do(both())) == self.model.append(batch)

        @rule(who=WHO, expired=st.booleans())
        def acquire_the_lease(self, who: int, expired: bool) -> None:
            if expired:
                expire = "UPDATE leases SET expires_at = clock_timestamp() - interval '1 s'"
                self.do(self.as_superuser(lambda c: c.execute(expire)))
            epoch = self.do(patiently(lambda: self.stores[who].leases.acquire(LEASE, 600.0)))
            if epoch is not None:
                assert epoch == self.model.epochs.get(LEASE, 0) + 1, "each holder has an epoch of its own"
                self.model.epochs[LEASE] = self.terms[who] = epoch
            assert epoch is not None or not expired

        @rule(who=WHO, batch=BATCHES)
        def append_as_leader(self, who: int, batch: list[Append]) -> None:
            """Of a term that may be over."""
            fenced = [dataclasses.replace(each, fence=Fence(LEASE, self.terms[who])) for each in batch]
            deposed = self.terms[who] != self.model.epochs.get(LEASE)
            results = self.do(self.stores[who].log.append(fenced))
            assert told(results) == self.model.append(fenced)
            assert not deposed or told(results)[0] == ("conflict", "fence")

        @rule(who=WHO, broken=st.sets(NODES))
        def rebuild_the_views(self, who: int, broken: set[str]) -> None:
            async def rebuild() -> None:
                store = self.stores[who]
                await patiently(lambda: store.writer.catch_up())
                expected = replay(await patiently(lambda: store.log.read(0, limit=10_000)))
                remove = "DELETE FROM view_nodes WHERE key = ANY ($1)"
                await self.as_superuser(lambda c: c.execute(remove, sorted(broken)))
                done = await patiently(lambda: store.rebuild_views(PROJECTIONS))
                wrong = {each.view: {key for key, _ in each.keys} for each in done if each.differing}
                lost = broken & set(expected["nodes"])
                assert wrong == ({"nodes": lost} if lost else {})
                assert (await patiently(lambda: store.views.snapshot(PROJECTIONS))).rows == expected

            self.do(rebuild())

        @rule(who=WHO)
        def reopen(self, who: int) -> None:
            self.do(self.stores[who].close())
            self.stores[who] = self.do(open_store(store_settings, holder="ab"[who]))

        @invariant()
        def the_log_is_the_model(self) -> None:
            async def look(connection: Any) -> Any:
                rows = await connection.fetch("SELECT * FROM commands")
                claims = await connection.fetch("SELECT kind, key, owner FROM claims")
                return await verify(connection), rows, {(kind, key): owner for kind, key, owner in claims}

            verdict, recorded, claims = self.do(patiently(lambda: self.as_superuser(look)))
            assert (verdict.first_bad, verdict.last_event_id) == (0, self.model.last_event_id)
            stored = {row["command_id"]: (row["first_event_id"], row["last_event_id"]) for row in recorded}
            for name, expected in self.model.commands.items():
                assert stored[name] == expected[1:]
            assert claims == self.model.claims

        def teardown(self) -> None:
            for store in self.stores:
                self.do(store.close())
            self.loop.close()

    return LogMachine


async def patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """For what, unlike an append, is told that its connection was lost, and asks again."""
    for _ in range(200):
        try:
            return await ask()
        except Transient:
            await asyncio.sleep(0.1)
    return await ask()


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """Killed by the machine, so nobody else's. Held open here, so that it stays up between the examples."""
    folder = Path(tempfile.mkdtemp(prefix="trueup-machine-"))
    server = EmbeddedServer(folder / "postgres")
    try:
        server.start()
        yield server
    finally:
        server.close()
        for pid in postmaster.processes(server.data):
            postmaster.signal_process(pid, signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.mark.timeout(3600)
def test_L1_L2_L3_L4_P1_the_log_keeps_to_its_model(own_server: EmbeddedServer) -> None:
    limits = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        phases=PHASES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(own_server), settings=limits)
