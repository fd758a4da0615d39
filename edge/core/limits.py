"""Every bound of the edge, with its unit and its reason. The relations between them are asserted at import."""

from __future__ import annotations

ROUTES_MAX = 20_000  # an atomic swap of a 10,000-entry map takes 40 ms; twice that is still far below a health interval
BACKENDS_PER_ROUTE_MAX = 256  # one route is one app's process; more is a mistake, and each costs a check per second
HOSTNAME_CHARS_MAX = 253  # RFC 1035
SLOTS_MIN = 64  # empty slot backends of a fresh edge; one takes a few kB of haproxy's memory
SLOTS_MAX = 65_536

CONNECT_TIMEOUT_MS = 2_000
CHECK_INTERVAL_MS = 1_000
CHECK_FAST_INTERVAL_MS = 300  # between the first failed check and the verdict
CHECK_TIMEOUT_MS = 1_000
CHECK_FALL = 2
CHECK_RISE = 2
CONNECT_RETRIES = 3

INSPECT_DELAY_MIN_MS = 200  # below it, a ClientHello in two segments over a slow link is refused
INSPECT_DELAY_MAX_MS = 5_000  # above it, clients that say nothing hold connections for too long

REDISPATCH_MS_MAX = (CONNECT_RETRIES + 1) * (CONNECT_TIMEOUT_MS + 1_000)  # how long a connection may look for a server
OUT_OF_ROTATION_MS_MAX = CHECK_INTERVAL_MS + CHECK_FALL * (CHECK_TIMEOUT_MS + CHECK_FAST_INTERVAL_MS)

assert OUT_OF_ROTATION_MS_MAX < 10_000, "a dead backend must leave within ten seconds"
assert INSPECT_DELAY_MIN_MS < INSPECT_DELAY_MAX_MS
assert SLOTS_MIN & (SLOTS_MIN - 1) == 0 and SLOTS_MAX & (SLOTS_MAX - 1) == 0, "slots double"
assert 2 * ROUTES_MAX <= SLOTS_MAX, "a slot that still drains is not reused, so there must be room beside the routes"
