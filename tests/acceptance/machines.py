"""What the host itself says about microVMs and disks, past every program of trueup."""

from __future__ import annotations

from pathlib import Path


def machine_pids(mark: str) -> list[int]:
    """Processes of qemu whose command line holds `mark` (an instance's id, or a state folder), in order."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_machine(entry, mark):
            found.append(int(entry.name))
    return sorted(found)


def _is_machine(entry: Path, mark: str) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile
        return False
    return b"qemu-system" in words[0] and any(mark.encode() in word for word in words)


def processes_in(folder: Path) -> list[str]:
    """Command lines that name the folder, of any program but this one's own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line[:120])
    return found


def mounts_in(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if str(folder) in line]
