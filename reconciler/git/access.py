"""How one source is reached: its credentials and whom it trusts, as the files that git and ssh read.

`transport.GitProgram` calls `AccessFiles.write` before every run, so a token, a key or a pin that the operator replaces
counts from the next fetch on. The files are in STATE/git/SOURCE.access (0700, each 0600), one folder per source: no
source ever sees another one's credentials. A token stands in a file that git's own credential store reads for that one
host; never on a command line, in an address, or in a log.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from kit.errors import Transient
from kit.files import write_atomically
from reconciler.git.addresses import ssh_host

TOKEN_USER = "x-access-token"  # noqa: S105  # the name that forges take any token under
FILE_BYTES_MAX = 64 * 1024
HOST_KEY = re.compile(r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]{40,4000}={0,2}")
UNFIT_IN_PATH = re.compile(r'["$\\\x00-\x1f\x7f]')
"""What a path in an ssh configuration must not have."""

_CONFIG = {
    "protocol.allow": "never",
    "protocol.file.allow": "always",
    "protocol.https.allow": "always",
    "protocol.ssh.allow": "always",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "submodule.recurse": "false",
    "fetch.writeCommitGraph": "false",
    "safe.directory": "*",
    "advice.detachedHead": "false",
}
"""safe.directory: the operator named the repository; nothing in it is executed, and only its objects are read.
fetch.unpackLimit: whatever comes is one pack, so that the bound on a file's size bounds all of it."""

_SSH = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "ForwardAgent": "no",
    "ClearAllForwardings": "yes",
    "LogLevel": "ERROR",
}
_SSH_ALONE = {
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "PreferredAuthentications": "publickey",
    "GlobalKnownHostsFile": "/dev/null",
    "UpdateHostKeys": "no",
    "ProxyCommand": "none",
    "CanonicalizeHostname": "no",
    "CheckHostIP": "no",
}
"""With a key of the source's own: nothing of the user's that runs the controller counts."""


@dataclass(frozen=True, slots=True)
class Access:
    """`ssh_key_file`: None leaves ssh to the configuration, agent and known hosts of the user that runs the controller.
    `host_keys`: TYPE BASE64 each. `token_file` holds a token for `token_user` at the address's host;
    `credentials_file` holds lines https://USER:TOKEN@HOST, and may be missing."""

    ssh_key_file: Path | None = None
    known_hosts_file: Path | None = None
    host_keys: tuple[str, ...] = ()
    token_file: Path | None = None
    token_user: str = TOKEN_USER
    credentials_file: Path | None = None
    ca_file: Path | None = None


class AccessFiles:
    """`folder`: made when it is not there. `write` blocks on the disk."""

    def __init__(self, folder: Path, url: str, access: Access) -> None:
        self._folder = folder
        self._url = url
        self._access = access

    def write(self) -> Mapping[str, str]:
        """The environment that makes git use them. `Transient` ("source_unreadable") when a file of the operator's
        cannot be read."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        config, ssh_config = dict(_CONFIG), dict(_SSH)
        credentials = self._credentials()
        self._put("credentials", credentials)
        if credentials:
            config["credential.helper"] = f"store --file={shlex.quote(str(self._path('credentials')))}"
        if self._access.ca_file is not None:
            config["http.sslCAInfo"] = str(self._access.ca_file.absolute())
        command = self._ssh_command(ssh_config)
        self._put("config", _git_config(config))
        return {"HOME": str(self._folder), "GIT_CONFIG_GLOBAL": str(self._path("config")), "GIT_SSH_COMMAND": command}

    @property
    def uses_agent(self) -> bool:
        return self._access.ssh_key_file is None

    def _ssh_command(self, options: dict[str, str]) -> str:
        if self._access.ssh_key_file is None:
            return "ssh " + " ".join(f"-o {name}={value}" for name, value in options.items())
        hosts = self._access.known_hosts_file
        if hosts is None:
            self._put("known_hosts", "".join(f"{self._host_pattern()} {key}\n" for key in self._access.host_keys))
            hosts = self._path("known_hosts")
        files = {"IdentityFile": self._access.ssh_key_file, "UserKnownHostsFile": hosts}
        options = {**options, **_SSH_ALONE, **{name: _ssh_path(path) for name, path in files.items()}}
        self._put("ssh_config", "Host *\n" + "".join(f"    {name} {value}\n" for name, value in options.items()))
        return f"ssh -F {shlex.quote(str(self._path('ssh_config')))}"

    def _host_pattern(self) -> str:
        host, port = ssh_host(self._url)
        return host if port == 22 else f"[{host}]:{port}"

    def _credentials(self) -> str:
        if self._access.token_file is not None:
            token = self._read(self._access.token_file).strip()
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise _unreadable(self._access.token_file, "it does not hold one token on one line")
            user = quote(self._access.token_user, safe="")
            return f"https://{user}:{quote(token, safe='')}@{urlsplit(self._url).netloc.rpartition('@')[2]}\n"
        shared = self._access.credentials_file
        return self._read(shared) if shared is not None and shared.exists() else ""

    def _read(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
            if len(content) > FILE_BYTES_MAX:
                raise _unreadable(path, f"it has more than {FILE_BYTES_MAX} bytes")
            return content.decode()
        except OSError as error:
            raise _unreadable(path, str(error.strerror)) from error
        except UnicodeDecodeError:
            raise _unreadable(path, "it is not text") from None

    def _put(self, name: str, content: str) -> None:
        """Only what differs is written: git itself takes a token out that a server refused."""
        path = self._path(name)
        if not path.exists() or path.read_text() != content:
            write_atomically(path, content.encode(), mode=0o600)

    def _path(self, name: str) -> Path:
        return (self._folder / name).absolute()


def _ssh_path(path: Path) -> str:
    return '"' + str(path.absolute()).replace("%", "%%") + '"'


def _git_config(options: Mapping[str, str]) -> str:
    lines = []
    for name, value in sorted(options.items()):
        section, _, key = name.rpartition(".")
        head, _, sub = section.partition(".")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'[{head} "{sub}"]' if sub else f"[{head}]")
        lines.append(f'\t{key} = "{quoted}"')
    return "\n".join(lines) + "\n"


def _unreadable(path: Path, why: str) -> Transient:
    fix = "make it readable for the controller; it is read anew at every fetch"
    return Transient(f"read the credentials {path}", why, fix=fix, code="source_unreadable")


def unfit_paths(paths: Sequence[Path | None]) -> list[Path]:
    """Those that could not be written into an ssh configuration as they are."""
    return [path for path in paths if path is not None and UNFIT_IN_PATH.search(str(path))]
