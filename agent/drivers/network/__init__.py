"""How machines are reached.

bridge.py    as root: a bridge for the node, a tap for each machine, real addresses
spoofing.py  what nftables drops at the bridge: frames with another machine's addresses
user.py      without root: qemu's user network, with forwarded ports
"""

from agent.drivers.network.bridge import BridgeNetwork
from agent.drivers.network.user import UserNetwork

__all__ = ["BridgeNetwork", "UserNetwork"]
