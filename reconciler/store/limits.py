"""Every bound of the store, with its unit and the reason for it. Read by the modules of this folder."""

from __future__ import annotations

POSTGRES_MAJOR_MIN = 15

CONNECTIONS_MAX = 8
"""One process appends, projects and reads; Postgres gains nothing from more on a small machine."""

ACQUIRE_TIMEOUT_S = 10.0
"""A starved pool is an error that a caller hears of, not a queue without an end."""

CONNECT_TIMEOUT_S = 10.0

STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 10_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
"""The longest that a paused or half-open writer can keep the head row from the others."""

COMMAND_TIMEOUT_S = 20.0
"""The client's own limit, for a connection that has silently gone; above the server's, which gives the better error."""

REBUILD_MERGE_TIMEOUT_MS = 600_000

APPEND_DEADLINE_S = 15.0
"""How long one append goes on through lost connections before it says `Transient`."""

BATCH_COMMANDS_MAX = 256
"""Commands that share a transaction. More gains nothing (the flush is shared by then) and makes the first one wait."""

LOOP_COMMANDS_MAX = 256
"""Commands of a batch that are checked and placed on the event loop: some milliseconds. More go into a thread."""

BATCH_EVENTS_MAX = 1_000
"""Events that share one, beyond a first unit of any size: while Postgres writes them, the next ones are made ready."""

BATCHES_UNDER_WAY_MAX = 2
"""One that Postgres writes, and one that waits for it there. A third would only make the batches smaller."""

REACHED_AGGREGATES_MAX = 20_000
"""About 4 MiB of hints; what falls out is looked up the slower way."""

QUEUE_COMMANDS_MAX = 40_960
"""About a second of work; what comes on top waits outside, and is refused when nothing moves."""

QUEUE_TIMEOUT_S = 10.0

VERIFY_PAGE_EVENTS = 5_000
"""Rows in memory while the chain is checked; twice, for one page is read ahead."""

APPEND_COMMANDS_MAX = 40_960
APPEND_EVENTS_MAX = 100_000
"""A commit is one batch, and the largest source (RESOURCES_MAX) may be declared, or exchanged, by one commit: up to
three events for each resource that is declared and one for each that goes."""

PAYLOAD_BYTES_MAX = 8 << 20
BATCH_BYTES_MAX = 192 << 20
"""TREE_CHARS_MAX of resources, each told up to three times: in its own event, as what it was, in its release."""

KEY_BYTES_MAX = 2_000
"""A B-tree entry holds at most 2,704 bytes; ids and claim keys are indexed."""

READ_EVENTS_MAX = 10_000
PAGE_EVENTS_MAX = 1_000
"""One page of a projection: one transaction, one set of rows in memory."""

LOG_PAGE_EVENTS_MAX = 10_000
LOG_PAGE_BYTES_MAX = 16 << 20
"""One page of a rebuild, and the next one that is on its way meanwhile: larger ones are no faster."""

REBUILD_ROWS_MAX = 100_000
REBUILD_BYTES_MAX = 64 << 20
"""What a rebuild keeps of its rows in memory, as JSON; above it the largest view goes to its table. As Python documents
they take about four times as much."""

REBUILD_SLICE_EVENTS = 500
"""How many events a rebuild folds before it lets the other loops of its process go on: about 5 ms."""

REBUILD_FINISH_TRIES = 3
"""A view whose lock was not free within LOCK_TIMEOUT_MS is tried again so often."""

DIFFERENCES_MAX = 1_000
"""How many differing keys a verification names; it counts all."""

MIRROR_CATCH_UP_EVENTS_MAX = 5_000
"""Events since the last reading of a view above which it is read whole: about as much work."""

MIRROR_VIEW_BYTES_MAX = 256 << 20
"""A view with more text than this is read whole each time and not kept. 10,000 apps: 10 to 20 MiB a view."""

MIRROR_DECODE_ROWS = 500
"""Rows that are fetched and decoded at once: about 5 ms."""

MIRROR_LOOP_ROWS_MAX = 50
"""Rows that are decoded on the event loop: half a millisecond. More go into a thread."""

TAIL_POLL_S = 1.0
"""The safety net under LISTEN: a lost notification costs at most this."""

ANNOUNCE_INTERVAL_S = 0.01
"""The other processes hear of appends at most this often, and this late when there are many."""

WAIT_POLL_S = 0.05
"""How often `wait_for` looks when the projector runs in another process."""

SOCKET_PATH_BYTES_MAX = 107
"""sockaddr_un holds 108 bytes with the final NUL."""

SERVER_START_TIMEOUT_S = 60.0
"""Recovery after a crash replays at most max_wal_size."""

SERVER_STOP_TIMEOUT_S = 30.0

assert STATEMENT_TIMEOUT_MS >= LOCK_TIMEOUT_MS, "a wait for a lock must be named as such"
assert COMMAND_TIMEOUT_S * 1000 > STATEMENT_TIMEOUT_MS
assert APPEND_DEADLINE_S * 1000 > IDLE_IN_TRANSACTION_TIMEOUT_MS, "an append outlives a writer that hangs before it"
assert BATCH_COMMANDS_MAX <= APPEND_COMMANDS_MAX <= QUEUE_COMMANDS_MAX
assert PAYLOAD_BYTES_MAX <= BATCH_BYTES_MAX
assert PAGE_EVENTS_MAX <= READ_EVENTS_MAX
