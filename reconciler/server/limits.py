"""Every bound of the HTTP server, with its unit and its reason. Changed by passing another `Limits`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    body_bytes_max: int = 1 << 20
    """A report of 1,000 instances is about 400 KB; nothing that is sent here has a reason to be larger."""
    webhook_bytes_max: int = 26 << 20
    """GitHub sends up to 25 MB. Nothing of it is kept in memory."""
    body_timeout_s: float = 15.0
    """From the end of the header to the end of the body, however slowly it drips."""
    header_timeout_s: float = 20.0
    """From accept, or from the end of the last answer, to the end of the next header. It bounds idle keep-alive too:
    aiohttp has one timer for both. Agents beat every few seconds, so they keep their connection."""
    header_line_bytes_max: int = 8190
    handler_timeout_s: float = 30.0
    """For everything that is not a stream; its answer is then 504."""
    write_timeout_s: float = 30.0
    """For the client to take an ordinary answer."""
    connections_max: int = 4096
    """Well below the 20,000 open files that a process may have."""
    drain_timeout_s: float = 10.0
    """How long shutdown waits for the handlers that are at work."""
    view_wait_s: float = 5.0
    """Read-your-writes: how long a read waits for its projections."""
    page_rows_max: int = 1000
    page_rows: int = 200

    streams_max: int = 2048
    streams_per_identity_max: int = 8
    """An agent has one, two while it reconnects. An operator's tools share the same bound."""
    stream_sndbuf_bytes: int = 256 * 1024
    """Of the kernel: without it a reader that stalls may pin 4 MiB there."""
    stream_stall_s: float = 60.0
    """A reader that takes nothing for so long is cut off; it resumes from its cursor."""
    stream_chunk_bytes_max: int = 256 * 1024
    """One write, unless a single command's events are larger: those stay together."""
    bookmark_every_s: float = 15.0
    poll_wait_s_max: float = 60.0

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
        assert self.streams_max < self.connections_max
        assert self.bookmark_every_s < self.stream_stall_s
        assert self.page_events <= self.ring_events_max
        assert self.page_events <= self.command_events_max
        assert self.page_rows <= self.page_rows_max
        assert self.view_wait_s < self.handler_timeout_s
