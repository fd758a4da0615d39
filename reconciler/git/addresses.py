"""Which repositories may be followed, and how their names are written. Called by `clone` before git sees any of it.

A source's address, branch, name and path come from the operator's configuration and still are checked: they become
arguments of a program. Transports: a local path, file://, https:// and ssh:// (or user@host:path). Never http://,
git://, ext:: or anything else; never a password inside the address, nor a user in one of https (it may be a token),
because addresses are recorded. And no host's metadata service, however its address is written: link-local addresses
name a machine's own surroundings, never a forge.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from kit.errors import Refusal

_SOURCE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")
_SCP = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)@([A-Za-z0-9][A-Za-z0-9.-]*):([A-Za-z0-9_~/.][^\x00-\x20\x7f]*)")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[?[0-9A-Fa-f:.]+\]?")
_METADATA_HOSTS = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "fd00:ec2::254", "100.100.100.200"}
)
_ELSEWHERE = "put it into a token_file of the source, or into STATE/git/credentials"
_PRINTABLE = re.compile(r"[\x21-\x7e\x80-\U0010ffff]{1,2048}")


def check_url(url: str) -> str:
    """The address for git: a relative path becomes absolute, anything not allowed is a `Refusal`."""
    if not _PRINTABLE.fullmatch(url) or url.startswith("-"):
        raise _refusal("the address has characters that no address has")
    if "::" in url.partition("/")[0]:
        raise _refusal("remote helpers (name::address) are not allowed")
    if "://" not in url:
        found = _SCP.fullmatch(url)
        if found and _is_surroundings(found[2]):
            raise _refusal("the address is that of this machine's own surroundings, where no repository is")
        return url if found else str(Path(url).absolute())
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refusal("the address names no proper host") from None
    if parts.scheme not in ("file", "https", "ssh"):
        raise _refusal(f"the transport {parts.scheme}:// is not allowed")
    if parts.password is not None:
        raise _refusal("the address holds a password, and addresses are recorded", _ELSEWHERE)
    if parts.scheme == "https" and "@" in parts.netloc:
        raise _refusal("the address holds a user or a token, and addresses are recorded", _ELSEWHERE)
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise _refusal("a file address has three slashes: file:///path")
    elif not _HOST.fullmatch(parts.hostname or "") or (parts.username or "a").startswith("-") or not _port_fits(parts):
        raise _refusal("the address names no proper host")
    elif _is_surroundings(parts.hostname or ""):
        raise _refusal("the address is that of this machine's own surroundings, where no repository is")
    return url


def _is_surroundings(host: str) -> bool:
    """Also as resolvers read it: 169.254.43518, 0xa9fea9fe, 2852039166."""
    try:
        packed = socket.inet_aton(host) if re.fullmatch(r"[0-9a-fxA-FX.]+", host) else None
        address = ipaddress.IPv4Address(packed) if packed else ipaddress.ip_address(host)
    except (OSError, ValueError):
        return host.rstrip(".").lower() in _METADATA_HOSTS
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified or str(mapped) in _METADATA_HOSTS


def is_scp(url: str) -> bool:
    """user@host:path, as ssh takes it too."""
    return "://" not in url and _SCP.fullmatch(url) is not None


def ssh_host(url: str) -> tuple[str, int]:
    """Host and port of an address that goes over ssh."""
    if found := _SCP.fullmatch(url):
        return found[2].lower(), 22
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 22


def _port_fits(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def check_branch(branch: str) -> str:
    bad = ("..", "//", "@{", "/.", "./", ".lock")
    if not _BRANCH.fullmatch(branch) or any(each in branch + "/" for each in bad) or branch.endswith(("/", ".")):
        why = f"{branch[:80]!r} is not the name of a branch"
        raise Refusal("follow a branch", why, fix="give it as in: main", code="settings_invalid")
    return branch


def check_source_id(source_id: str) -> str:
    if not _SOURCE_ID.fullmatch(source_id):
        why = f"{source_id[:80]!r} is not a source's name"
        raise Refusal("follow a source", why, fix="use a-z, 0-9 and hyphens", code="settings_invalid")
    return source_id


def path_parts(path: str) -> tuple[str, ...]:
    """The folders down to the manifests; none for the whole tree. "." and a slash at either end are tolerated."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts or "\\" in path or not all(part.isprintable() for part in parts):
        why = f"{path[:80]!r} is not a folder inside the repository"
        raise Refusal("follow a source", why, fix="give it as in: deploy/prod", code="settings_invalid")
    return parts


def _refusal(why: str, fix: str = "") -> Refusal:
    return Refusal(
        "follow a repository", why, fix=fix or "use a path, file://, https:// or ssh://", code="settings_invalid"
    )
