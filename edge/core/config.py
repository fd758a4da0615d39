"""The text of haproxy's configuration and of its map. Equal input gives equal bytes.

The configuration says what cannot change while haproxy runs (ports, slots, options) and the servers as they should be;
the map says which key leads to which slot. `edge.dataplane.haproxy` writes both before it changes the running process,
so that a reload or a restart of haproxy ends in the same table.

A TLS connection is looked up by "PORT/SNI" once its ClientHello is complete. It is closed when it has no SNI, an
unknown one, is not TLS, or does not complete its ClientHello within the inspect delay and one buffer (16 KiB). A raw
connection is looked up by "PORT/".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from edge.core import limits
from edge.core.layout import Layout
from edge.core.table import Protocol, RouteTable, Server
from kit.canonical import digest
from kit.codec import to_json

MAP_FILE = "routes.map"
CONFIG_FILE = "haproxy.cfg"
DESCRIPTION = "trueup"


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator sets. Changing any of it needs a reload."""

    listen_addresses: tuple[str, ...]
    runtime_socket: str  # absolute path
    inspect_delay_ms: int = 3_000
    hard_stop_s: int = 3_600  # how long connections may outlive a reload
    connections_max: int = 10_000
    user: str = ""  # the worker gives up root for this user; empty: stay
    group: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    config: bytes
    map: bytes


def settings_digest(options: Options) -> str:
    """Names the options and this module's own template. A running haproxy shows it as its description."""
    return digest([_TEMPLATE_VERSION, to_json(options), _DEFAULTS, _TLS_RULES], length=16)


def slot_name(slot: int) -> str:
    return f"slot-{slot}"


def listener_name(port: int, protocol: Protocol) -> str:
    return f"{'tls' if protocol == 'tls_passthrough' else 'raw'}-{port}"


def server_arguments(server: Server) -> str:
    """What follows the server's name, both in the configuration and in `add server`."""
    proxy = " send-proxy-v2 check-send-proxy" if server.proxy_v2 else ""
    return f"{server.endpoint} {_CHECK}{proxy}"


def map_entries(table: RouteTable, layout: Layout) -> dict[str, str]:
    return {route.key: slot_name(layout.placed[route.route_id]) for route in table.routes}


def render(table: RouteTable, layout: Layout, options: Options) -> Rendered:
    lines = [*_global(options), _DEFAULTS]
    for port, protocol in table.listeners.items():
        lines.extend(_frontend(port, protocol, options))
    servers = {layout.placed[route.route_id]: route.servers for route in table.routes}
    for slot in range(layout.slots):
        lines.append(f"backend {slot_name(slot)}")
        lines.extend(f"    server {server.name} {server_arguments(server)}" for server in servers.get(slot, ()))
    entries = "".join(f"{key} {slot}\n" for key, slot in map_entries(table, layout).items())
    return Rendered(("\n".join(lines) + "\n").encode(), entries.encode())


def _global(options: Options) -> Iterator[str]:
    yield "global"
    yield f"    description {DESCRIPTION} {settings_digest(options)}"
    yield f"    stats socket {options.runtime_socket} mode 600 level admin expose-fd listeners"
    yield f"    hard-stop-after {options.hard_stop_s}s"
    yield f"    maxconn {options.connections_max}"
    if options.user:
        yield f"    user {options.user}"
        yield f"    group {options.group}"


def _frontend(port: int, protocol: Protocol, options: Options) -> Iterator[str]:
    yield f"frontend {listener_name(port, protocol)}"
    for address in options.listen_addresses:
        yield f"    bind {bind_address(address, port)}"
    if protocol == "tls_passthrough":
        yield f"    tcp-request inspect-delay {options.inspect_delay_ms}ms"
        yield _TLS_RULES.format(port=port)
    else:
        yield f"    use_backend %[str({port}/),map_str({MAP_FILE})]"


def bind_address(address: str, port: int) -> str:
    """The any-address of IPv6 takes IPv4 too."""
    parsed = ip_address(address)
    host = f"[{parsed.compressed}]" if parsed.version == 6 else parsed.compressed
    return f"{host}:{port}" + (" v4v6" if parsed.version == 6 and parsed.is_unspecified else "")


_TEMPLATE_VERSION = 1
_CHECK = (
    f"check inter {limits.CHECK_INTERVAL_MS}ms fastinter {limits.CHECK_FAST_INTERVAL_MS}ms "
    f"downinter {limits.CHECK_INTERVAL_MS}ms fall {limits.CHECK_FALL} rise {limits.CHECK_RISE}"
)
# 24 days is the longest that haproxy counts: there is no idle timeout. Keepalive finds peers that are gone.
_DEFAULTS = f"""defaults
    mode tcp
    balance roundrobin
    timeout connect {limits.CONNECT_TIMEOUT_MS}ms
    timeout check {limits.CHECK_TIMEOUT_MS}ms
    timeout client 24d
    timeout server 24d
    retries {limits.CONNECT_RETRIES}
    option redispatch 1
    option clitcpka
    clitcpka-idle 60s
    clitcpka-intvl 15s
    clitcpka-cnt 4
    option srvtcpka
    srvtcpka-idle 30s
    srvtcpka-intvl 10s
    srvtcpka-cnt 3"""
_TLS_RULES = """    tcp-request content set-var(sess.sni) req.ssl_sni,lower if {{ req.ssl_hello_type 1 }}
    tcp-request content set-var(sess.key) str({port}),concat(/,sess.sni) if {{ var(sess.sni) -m found }}
    tcp-request content set-var(sess.slot) var(sess.key),map_str(routes.map) if {{ var(sess.key) -m found }}
    tcp-request content accept if {{ var(sess.slot) -m found }}
    tcp-request content reject
    use_backend %[var(sess.slot)]"""
