"""What `trueup login` keeps, for each controller: $XDG_CONFIG_HOME/trueup/logins/ADDRESS.json, for its owner only.

Used by `reconciler.cli.client` for every command, and by login, logout and whoami. `current` is the controller of the
last login. A file that others may read is refused, not read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from kit.errors import Refusal
from kit.files import read_private, write_atomically, write_json
from reconciler.oidc.addresses import LOOPBACK

LOGIN_BYTES_MAX = 256 << 10
ADDRESS_CHARS_MAX = 200
RENEW_SHARE = 0.75
"""Of a token's life: then it is renewed."""
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class OidcLogin:
    """`name` and the next four: as the controller said them. `renew_at_s`, `ends_at_s`: by this host's clock, from the
    token's length of life alone, so that it does no harm when that clock is off."""

    name: str
    issuer: str
    client_id: str
    bearer: str
    hosts: tuple[str, ...]
    refresh_token: str
    renew_at_s: float
    ends_at_s: float


@dataclass(frozen=True, slots=True)
class Login:
    """`roots`: what the controller's certificate is checked against, as PEM; empty: what the system trusts."""

    controller: str
    token: str
    identity: str
    roots: str = ""
    oidc: OidcLogin | None = None

    def __repr__(self) -> str:
        return f"Login({self.controller}, {self.identity})"


class Logins:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Logins:
        home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".config")
        return cls(Path(home) / "trueup")

    def current(self) -> str:
        """The address of the controller of the last login; empty: there is none."""
        try:
            return (self.folder / "current").read_text()[:ADDRESS_CHARS_MAX].strip()
        except OSError:
            return ""

    def find(self, controller: str) -> Login | None:
        path = self.path(controller)
        try:
            return _login_of(json.loads(read_private(path, LOGIN_BYTES_MAX)))
        except OSError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            fix = f"remove it and log in again: `trueup login {controller}`"
            raise Refusal(f"read the login {path}", "it is damaged", fix=fix, code="unauthorized") from error

    def keep(self, login: Login, *, current: bool = True) -> None:
        path = self.path(login.controller)
        for folder in (self.folder, path.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
        write_json(path, {"format": _FORMAT, **dataclasses.asdict(login)})
        if current:
            write_atomically(self.folder / "current", login.controller.encode() + b"\n")

    def forget(self, controller: str) -> None:
        self.path(controller).unlink(missing_ok=True)
        if self.current() == controller:
            (self.folder / "current").unlink(missing_ok=True)

    def path(self, controller: str) -> Path:
        if len(controller) > ADDRESS_CHARS_MAX:
            why = f"the address is longer than {ADDRESS_CHARS_MAX} characters"
            raise Refusal("find the login", why, code="usage")
        return self.folder / "logins" / f"{quote(controller, safe='')}.json"


def _login_of(document: Any) -> Login:
    """Raises what a damaged one makes it raise."""
    if document.pop("format") != _FORMAT:
        raise ValueError("another format")
    oidc = document.pop("oidc")
    if oidc is not None:
        oidc = OidcLogin(**{**oidc, "hosts": tuple(oidc["hosts"])})
    return Login(**document, oidc=oidc)


def is_safe_to_send(controller: str) -> bool:
    """Whether a token may go there: encrypted, or not off this host."""
    parts = urlsplit(controller)
    return parts.scheme == "https" or parts.hostname in LOOPBACK
