"""Machines as QEMU `microvm` processes.

driver.py    observe, ensure, attach, stop, kill, remove: the one class that `agent.bootstrap` makes
attached.py  one living machine: its process is watched, its channel heard, its secret archive held until delivered
process.py   which process is a machine's: identity (host boot, pid, start time), lock, search, pidfd
command.py   qemu's command line; pure
channel.py   the guest's lines; sans I/O
console.py   the bounded console log and the last words in it
monitor.py   QMP
"""

from agent.drivers.vm.driver import QemuMachines

__all__ = ["QemuMachines"]
