"""What a machine may send: frames from its own MAC with its own IPv6 address. Used by `bridge.py`.

One nftables table of family `bridge`; each machine is three set elements, so that a thousand machines cost one look-up.
Where nftables is missing, machines run without this guard, and the log says so once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass

from kit import logs

NFT_TIMEOUT_S = 10.0
_log = logs.get("network")

# Again and again the same: what is there stays, and the chain's rules are written anew.
_TABLE = """
add table bridge {table}
add set bridge {table} taps {{ type ifname; }}
add set bridge {table} senders {{ type ifname . ether_addr . ipv6_addr; }}
add chain bridge {table} from_machines {{ type filter hook prerouting priority -200; policy accept; }}
flush chain bridge {table} from_machines
add rule bridge {table} from_machines iifname != @taps accept
add rule bridge {table} from_machines iifname . ether saddr . ip6 saddr @senders accept
add rule bridge {table} from_machines ip6 saddr :: icmpv6 type {{ nd-neighbor-solicit, mld2-listener-report }} accept
add rule bridge {table} from_machines drop
"""


@dataclass(frozen=True, slots=True)
class Identity:
    tap: str
    mac: str
    address: str

    @property
    def link_local(self) -> str:
        """The address that the guest's kernel makes of its MAC (EUI-64)."""
        octets = bytearray(int(part, 16) for part in self.mac.split(":"))
        octets[0] ^= 2
        interface = bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
        return str(ipaddress.IPv6Address(bytes.fromhex("fe80000000000000") + interface))


class Guard:
    def __init__(self, table: str) -> None:
        self._table = table
        self._usable = True

    async def prepare(self) -> None:
        _, problem = await _nft(_TABLE.format(table=self._table))
        if problem:
            self._usable = False
            _log.warning("machines can send with forged addresses: nftables cannot be used", why=problem)

    async def admit(self, identity: Identity) -> None:
        if not self._usable:
            return
        senders = [(identity.tap, identity.mac, address) for address in (identity.address, identity.link_local)]
        _, problem = await _nft(self._change("add", identity.tap, senders))
        if problem:
            _log.warning("a machine's addresses are not guarded", tap=identity.tap, why=problem)

    async def expel(self, tap: str) -> None:
        """Also what an earlier agent admitted."""
        if not self._usable:
            return
        listing, problem = await _nft("", "-j", "list", "set", "bridge", self._table, "senders")
        senders = [] if problem else [each for each in _tuples(listing) if each[0] == tap]
        if senders:
            await _nft(self._change("delete", tap, senders))

    async def tear_down(self) -> None:
        await _nft(f"add table bridge {self._table}\ndelete table bridge {self._table}\n")

    def _change(self, verb: str, tap: str, senders: Sequence[tuple[str, str, str]]) -> str:
        elements = ", ".join(f'"{name}" . {mac} . {address}' for name, mac, address in senders)
        return (
            f"{verb} element bridge {self._table} senders {{ {elements} }}\n"
            f'{verb} element bridge {self._table} taps {{ "{tap}" }}\n'
        )


def _tuples(listing: str) -> list[tuple[str, str, str]]:
    """The elements of the set `senders` in nft's JSON."""
    sets = [item["set"] for item in json.loads(listing)["nftables"] if "set" in item]
    elements = [element["concat"] for each in sets for element in each.get("elem", ())]
    return [(str(tap), str(mac), str(address)) for tap, mac, address in elements]


async def _nft(script: str, *arguments: str) -> tuple[str, str]:
    """What was printed, and what went wrong or "". One script is one transaction."""
    try:
        tool = await asyncio.create_subprocess_exec(
            *("nft", *(arguments or ("-f", "-"))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return "", str(error)
    try:
        async with asyncio.timeout(NFT_TIMEOUT_S):
            printed, errors = await tool.communicate(script.encode())
    except TimeoutError:
        tool.kill()
        await tool.wait()
        return "", f"nft did not end in {NFT_TIMEOUT_S:.0f} s"
    return printed.decode(), errors.decode("utf-8", "replace").strip() if tool.returncode else ""
