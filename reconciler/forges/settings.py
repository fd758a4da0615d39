"""All that an operator says about one source's forge. Read by `reconciler.bootstrap` and `reconciler.forges.opening`.

A forge without `kind` gets no comments and no statuses; its webhooks work all the same, since they only need a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from kit.errors import Refusal
from kit.settings import setting

Kind = Literal["github", "gitlab", "gitea"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SCP = re.compile(r"[^@/]+@([^:/]+):(.+)")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,200}(/[A-Za-z0-9_.-]{1,200}){1,20}")
_API_PATHS = {"gitlab": "/api/v4", "gitea": "/api/v1", "github": "/api/v3"}


def check_kind(value: str) -> str:
    return "" if value in ("", *KINDS) else f"expected one of {', '.join(KINDS)}, found {value!r}; Forgejo is gitea"


def check_interval(value: float) -> str:
    return "" if 0.2 <= value <= 86400 else f"expected between 200ms and 24h, found {value} s"


@dataclass(frozen=True, slots=True)
class ForgeSettings:
    """[sources.forge], or the flags of one source. `kind`: "" for none. `api_url`, `repository`: "" to derive them from
    the source's address."""

    kind: str = setting("github, gitlab or gitea (Forgejo too)", default="", check=check_kind)
    api_url: str = setting("address of the forge's API", default="")
    repository: str = setting("OWNER/NAME at the forge", default="")
    token_file: Path | None = setting("file with the token for the forge", default=None)
    webhook_secret_file: Path | None = setting("file with the secret of the source's webhooks", default=None)
    ca_file: Path | None = setting("certificates that the forge's is checked against", default=None)
    user: str = setting("the token's own user; empty: the forge is asked", default="")
    context: str = setting("what commit statuses begin with; one per source of a repository", default="trueup")
    link: str = setting("what statuses of followed commits link to, with {commit} in it", default="")
    poll_interval_s: float = setting("how often to look at pull requests", default=60.0, check=check_interval)

    def kind_of(self) -> Kind:
        if self.kind not in KINDS:
            raise _invalid(f"{self.kind!r} is no forge", f"one of {', '.join(KINDS)}; Forgejo is gitea")
        return self.kind

    def api_url_for(self, source_url: str) -> str:
        """Checked: https, or http to this machine itself. No credentials, query or fragment."""
        url = (self.api_url or _derived_api_url(self.kind_of(), source_url)).rstrip("/")
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise _invalid(f"the API's address {url!r} is not https", "give it as in: https://git.example.com/api/v1")
        if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment or not url.isascii():
            raise _invalid("the API's address has more than a host and a path", "the token belongs into a file")
        return url

    def repository_for(self, source_url: str) -> str:
        """OWNER/NAME; at GitLab with as many groups as there are."""
        name = (self.repository or _host_and_path(source_url)[1]).strip("/").removesuffix(".git")
        good = _REPOSITORY.fullmatch(name) and not {".", ".."} & set(name.split("/"))
        if not good or (self.kind != "gitlab" and name.count("/") != 1):
            raise _invalid(f"{name[:80]!r} is not a repository's name at the forge", "give it as in: OWNER/NAME")
        return name


def _derived_api_url(kind: Kind, source_url: str) -> str:
    host, _ = _host_and_path(source_url)
    if not host:
        raise _invalid("the API's address does not follow from the source's", "name it with --forge-api-url")
    return "https://api.github.com" if host == "github.com" else f"https://{host}{_API_PATHS[kind]}"


def _host_and_path(source_url: str) -> tuple[str, str]:
    if "://" not in source_url:
        found = _SCP.fullmatch(source_url)
        return (found[1], found[2]) if found else ("", "")
    parts = urlsplit(source_url)
    return parts.hostname or "", parts.path


def _invalid(why: str, fix: str) -> Refusal:
    return Refusal("use the source's forge", why, fix=fix, code="settings_invalid")
