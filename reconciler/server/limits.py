"""Every bound of the HTTP server, with its unit and its reason. Changed by passing another `Limits`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` requests at once, `per_s` in the long run."""

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        assert self.per_s > 0
        assert self.burst >= 1


@dataclass(frozen=True, slots=True)
class Limits:
    body_bytes_max: int = 1 << 20
    """A report of 1,000 instances is about 400 KB; nothing that is sent here has a reason to be larger."""
    report_entries_max: int = 2000
    """Of one report; an agent sends 200 at once. More would hold the log's writer up for everybody."""
    report_entries_rate: Rate = Rate(100, 4000)
    """Entries of the reports of one machine: each may be an event. A node of 1,000 instances that all start says 3,000
    things at once, an edge of 4,000 routes all of them."""
    webhook_bytes_max: int = 26 << 20
    """GitHub sends up to 25 MB. Nothing of it is kept in memory."""
    body_timeout_s: float = 15.0
    """From the end of the header to the end of the body, however slowly it drips."""
    header_timeout_s: float = 20.0
    """From accept, or from the end of the last answer, to the end of the next header. It bounds idle keep-alive too:
    aiohttp has one timer for both. Agents beat every few seconds, so they keep their connection."""
    header_line_bytes_max: int = 8190
    header_lines_max: int = 64
    header_bytes_max: int = 32 << 10
    """Of a header that is not complete yet, all lines together."""
    linger_s: float = 1.0
    """How long the rest of a body that nobody wants is still read, so that the client sees the answer."""
    handler_timeout_s: float = 30.0
    """For everything that is not a stream; its answer is then 504."""
    write_timeout_s: float = 30.0
    """For the client to take an ordinary answer."""
    connections_per_address_max: int = 8192
    """An address is an IPv4 one or an IPv6 /64. A site's agents may all come from one."""
    connections_max: int = 25_000
    """Ten thousand machines with a stream and a request each, and room. Files: see `kit.open_files`."""
    drain_notice_s: float = 0.0
    """How long shutdown goes on serving after readiness said no: as long as a load balancer takes to notice."""
    drain_timeout_s: float = 10.0
    """How long shutdown waits for the handlers that are at work."""
    view_wait_s: float = 5.0
    """Read-your-writes: how long a read waits for its projections."""
    page_rows_max: int = 1000
    page_rows: int = 200

    request_rate: Rate = Rate(100, 1000)
    """Of an identity: whatever has no budget of its own."""
    agent_rate: Rate = Rate(20, 400)
    """Of a node or an edge: enrolment, plans, reports, secrets. A start asks for one secret per instance."""
    heartbeat_rate: Rate = Rate(5, 60)
    stream_rate: Rate = Rate(50, 500)
    """Of an identity: streams opened, and long polls, which come as often as there is something to tell."""
    webhook_rate: Rate = Rate(50, 2000)
    """Of an address before its signature is looked at, and of a source after it: a push may be a thousand hooks."""
    unproven_rate: Rate = Rate(20, 400)
    """Of an address: health probes and the description, and whatever shows no valid credentials."""
    rate_callers_max: int = 20_000
    """Callers that a budget remembers, about 200 bytes each."""

    streams_max: int = 12_500
    """About 17 KiB each."""
    streams_per_identity_max: int = 8
    """An agent has one, two while it reconnects. An operator's tools share the same bound."""
    stream_sndbuf_bytes: int = 256 * 1024
    """Of the kernel: without it a reader that stalls may pin 4 MiB there."""
    stream_stall_s: float = 60.0
    """A reader that takes nothing for so long is cut off; it resumes from its cursor."""
    stream_goodbye_s: float = 1.0
    """For the line that tells it why; it may be taking again."""
    stream_chunk_bytes_max: int = 256 * 1024
    """One write, unless a single command's events are larger: those stay together."""
    bookmark_every_s: float = 15.0
    poll_wait_s_max: float = 60.0
    snapshots_max: int = 16
    """Written at once. A snapshot keeps rows from going that have changed meanwhile: 10 MB at the worst."""
    snapshots_per_s: float = 20.0
    """Only for the time after which those come back who found too many."""
    snapshot_s_max: float = 120.0
    """For the reader to take all of it; longer is as slow as taking nothing."""

    ring_events_max: int = 20_000
    ring_bytes_max: int = 64 << 20
    ring_start_events: int = 10_000
    """Read at the start, so that those who come back after a restart are served from memory."""
    page_events: int = 1000
    """One read of the log."""
    scan_events: int = 50_000
    """One read of the log through the filter of a node or an edge; what does not match stays in the database."""
    command_events_max: int = 10_000
    """A command with more events is read by no one: the log does not accept it either."""
    catch_ups_max: int = 4
    """Streams that read old events from the database at once; the others wait their turn, so that a thousand agents
    that come back together do not starve the projector of connections."""
    catch_ups_waiting_max: int = 256
    """More are refused when they come, with a time to come back at that grows with their number."""
    catch_ups_per_s: float = 50.0
    """For that time only: what the database is trusted to do."""

    def __post_init__(self) -> None:
        assert self.page_events <= self.scan_events
        assert self.report_entries_max <= self.report_entries_rate.burst
        assert self.streams_max < self.connections_max
        assert self.bookmark_every_s < self.stream_stall_s
        assert self.page_events <= self.ring_events_max
        assert self.page_events <= self.command_events_max
        assert self.page_rows <= self.page_rows_max
        assert self.view_wait_s < self.handler_timeout_s
