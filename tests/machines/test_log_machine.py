"""The log beside a model of it: append, conflict, retry, several at once, lost connections, reopen; a failure prints a
short program."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from reconciler.core.commands import Append, AppendResult
from reconciler.store.placement import Known, nothing_appended, place
from reconciler.store.pool import connect
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, open_store
from reconciler.store.verify import verify
from tests.integration.store.building import command, node_event

NODES = st.sampled_from(["a", "b", "c"])
KILL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
AND pid <> pg_backend_pid() AND usename = 'trueup_app'"""


@st.composite
def commands(draw: st.DrawFn) -> Append:
    events = [node_event(draw(NODES)) for _ in range(draw(st.integers(0, 3)))]
    expected = draw(st.dictionaries(NODES.map(lambda node: ("node", node)), st.integers(0, 4), max_size=1))
    return command(*events, expected=expected, body_hash=draw(st.sampled_from(["one", "two"])))


def machine(store_settings: StoreSettings, superuser_url: str) -> type[RuleBasedStateMachine]:
    class LogMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.store: Store = self.do(open_store(store_settings))
            self.sent: list[Append] = []
            self.base = self.do(self.store.log.head()).last_event_id
            self.model = Known("", self.base)
            versions = {}
            for event in self.do(self.store.log.read(0, limit=10_000)):
                versions[event.aggregate_type, event.aggregate_id] = event.aggregate_seq
            self.model.versions = {key: dataclasses.replace(_version(), aggregate_seq=n) for key, n in versions.items()}

        def do(self, coroutine: Any) -> Any:
            return self.loop.run_until_complete(asyncio.wait_for(coroutine, 30))

        def expect(self, batch: list[Append], *, atomic: bool) -> list[AppendResult]:
            before = self.model.copy()
            placement = place(batch, self.model)
            if atomic and placement.conflicts:
                self.model = before
                return nothing_appended(placement.results)
            return placement.results

        @rule(batch=st.lists(commands(), min_size=1, max_size=3), atomic=st.booleans())
        def append(self, batch: list[Append], atomic: bool) -> None:
            self.sent += batch
            assert self.do(self.store.log.append(batch, atomic=atomic)) == self.expect(batch, atomic=atomic)

        @rule(data=st.data(), other=st.booleans())
        def retry(self, data: st.DataObject, other: bool) -> None:
            if self.sent:
                again = data.draw(st.sampled_from(self.sent))
                again = dataclasses.replace(again, body_hash="three") if other else again
                assert self.do(self.store.log.append([again])) == self.expect([again], atomic=True)

        @rule(batches=st.lists(st.lists(commands(), min_size=1, max_size=2), min_size=2, max_size=5))
        def append_at_once(self, batches: list[list[Append]]) -> None:
            async def all_of_them() -> list[list[AppendResult]]:
                return await asyncio.gather(*(self.store.log.append(batch) for batch in batches))

            results = self.do(all_of_them())
            assert results == [self.expect(batch, atomic=True) for batch in batches], "they keep their order"
            self.sent += [append for batch in batches for append in batch]

        @rule(batch=st.lists(commands(), min_size=1, max_size=2))
        def append_while_the_connections_are_killed(self, batch: list[Append]) -> None:
            async def both() -> list[AppendResult]:
                owner = await connect(superuser_url)
                try:
                    appended, _ = await asyncio.gather(self.store.log.append(batch), owner.execute(KILL))
                finally:
                    await owner.close()
                return appended

            self.sent += batch
            assert self.do(both()) == self.expect(batch, atomic=True)

        @rule()
        def reopen(self) -> None:
            self.do(self.store.close())
            self.store = self.do(open_store(store_settings))

        @invariant()
        def the_log_is_the_model(self) -> None:
            async def look() -> Any:
                connection = await connect(superuser_url)
                try:
                    return await verify(connection), await connection.fetch("SELECT * FROM commands")
                finally:
                    await connection.close()

            verdict, recorded = self.do(look())
            assert (verdict.first_bad, verdict.last_event_id) == (0, self.model.last_event_id)
            stored = {row["command_id"]: (row["first_event_id"], row["last_event_id"]) for row in recorded}
            for name, expected in self.model.commands.items():
                assert stored[name] == (expected.first_event_id, expected.last_event_id)

        def teardown(self) -> None:
            self.do(self.store.close())
            self.loop.close()

    return LogMachine


def _version() -> Any:
    from reconciler.store.placement import Version

    return Version()


def test_the_log_keeps_to_its_model(store_settings: StoreSettings, superuser_url: str) -> None:
    limits = settings(max_examples=8, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine(store_settings, superuser_url), settings=limits)
