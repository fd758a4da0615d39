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

APPEND_COMMANDS_MAX = 4_096
APPEND_EVENTS_MAX = 20_000
PAYLOAD_BYTES_MAX = 8 << 20
BATCH_BYTES_MAX = 64 << 20
"""Postgres could hold more, but a page of the log has to fit into the memory of every reader."""

KEY_BYTES_MAX = 2_000
"""A B-tree entry holds at most 2,704 bytes; ids and claim keys are indexed."""

READ_EVENTS_MAX = 10_000
PAGE_EVENTS_MAX = 1_000
"""One page of a projection: one transaction, one set of rows in memory."""

TAIL_POLL_S = 1.0
"""The safety net under LISTEN: a lost notification costs at most this."""

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
assert PAYLOAD_BYTES_MAX <= BATCH_BYTES_MAX
assert PAGE_EVENTS_MAX <= READ_EVENTS_MAX
