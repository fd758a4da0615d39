"""Settings of `trueup controller`. Read by `reconciler.bootstrap`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from kit import logs
from kit.settings import setting
from reconciler.core.quota_words import parse_limits
from reconciler.core.revisions import DEFAULT_RULES, OnError, Rules
from reconciler.forges.settings import KINDS, ForgeSettings


def _check_listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    return "" if host and port.isdigit() and int(port) < 65536 else f"expected ADDRESS:PORT, found {value!r}"


def _check_interval(value: float) -> str:
    return "" if 0.2 <= value <= 86400 else f"expected between 200ms and 24h, found {value} s"


def _check_ttl(value: float) -> str:
    return "" if 1 <= value <= 600 else f"expected between 1s and 10m, found {value} s"


def _check_forge(value: str) -> str:
    return "" if value in ("", *KINDS) else f"expected one of {', '.join(KINDS)}, found {value!r}; Forgejo is gitea"


def _check_log_format(value: str) -> str:
    return "" if value in ("auto", "json", "text") else f"expected auto, json or text, found {value!r}"


def _check_on_error(value: str) -> str:
    return "" if value in get_args(OnError) else f"expected {' or '.join(get_args(OnError))}, found {value!r}"


def _check_count(value: int) -> str:
    return "" if 0 <= value <= 1_000_000 else f"expected between 0 and 1000000, found {value}"


def _check_share(value: float) -> str:
    return "" if 0 <= value <= 1 else f"expected between 0 and 1, found {value}"


def _check_quota(value: str) -> str:
    try:
        parse_limits(value)
    except ValueError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """The trueup controller: follows a Git repository, keeps the event log, schedules, serves agents and edges."""

    repository: str = setting("the Git repository to follow: a path, or a file://, https:// or ssh:// URL")
    state: Path = setting("folder for the clone, keys and the embedded database", default=Path(".state"))
    listen: str = setting("ADDRESS:PORT of the HTTP interface", default="[::1]:7340", check=_check_listen)
    database_url: str = setting("any PostgreSQL >= 15; empty: an embedded one in the state folder", default="")
    platform_key_file: Path | None = setting(
        "the key that opens secrets; a second controller needs the first one's (default: in the state folder)",
        default=None,
    )
    token_key_file: Path | None = setting(
        "the key that tokens are made with; a second controller needs the first one's (default: in the state folder)",
        default=None,
    )
    head_export: Path | None = setting(
        "folder (or file) that the database's host cannot rewrite: the signed head of the log is added there",
        default=None,
    )
    head_export_interval_s: float = setting("how often, when it has moved", default=300.0, check=_check_interval)
    head_key_file: Path | None = setting(
        "Ed25519 key in PEM that signs exported heads (default: head.key in the state folder)", default=None
    )
    controller_name: str = setting("how other controllers and `trueup status` call this one", default="")
    lease_ttl_s: float = setting(
        "another controller takes over when this one was not heard for so long", default=15.0, check=_check_ttl
    )
    start_timeout_s: float = setting("how long to wait for Postgres at start", default=60.0, check=_check_interval)
    source: str = setting("name of the source", default="main")
    branch: str = setting("branch to follow", default="main")
    path: str = setting("folder of the repository that holds the manifests; empty: the whole", default="")
    accepted_rewrite: str = setting("a commit that may replace the applied history after a force-push", default="")
    signers: Path | None = setting(
        "TOML file that says who may sign commits (docs/SIGNERS.md); without it signatures are not looked at",
        default=None,
    )
    push_notes: bool = setting(
        "push the notes about commits (refs/notes/trueup) to the repository; its credentials have to allow that",
        default=False,
    )
    on_error: OnError = setting(
        "what an error that is one app's own does: hold-app (the rest of the commit is applied) or refuse-commit",
        default="hold-app",
        check=_check_on_error,
    )
    deletions_max: int = setting(
        "a commit that deletes more resources, and a larger share, has to say how many",
        default=DEFAULT_RULES.deletions_max,
        check=_check_count,
    )
    deletions_share: float = setting(
        "the share of all resources for that, from 0 to 1",
        default=DEFAULT_RULES.deletions_share,
        check=_check_share,
    )
    org: str = setting("organisation that the source declares for", default="default")
    project: str = setting("project that the source declares for", default="default")
    org_quota: str = setting(
        "what the organisation may have: instances=100,memory=64Gi,routes=..,volumes=..,volumeSize=..; empty: no limit",
        default="",
        check=_check_quota,
    )
    project_quota: str = setting("the same for the project", default="", check=_check_quota)
    poll_interval_s: float = setting("how often to look at the repository", default=15.0, check=_check_interval)
    forge: str = setting(
        "where the source's pull requests are: github, gitlab or gitea (Forgejo too); empty: nowhere",
        default="",
        check=_check_forge,
    )
    forge_api_url: str = setting("address of the forge's API (default: from the repository's address)", default="")
    forge_repository: str = setting("OWNER/NAME at the forge (default: from the repository's address)", default="")
    forge_token_file: Path | None = setting("file with the token for the forge", default=None)
    forge_ca_file: Path | None = setting("certificates that the forge's is checked against", default=None)
    forge_user: str = setting("the token's own user (default: the forge is asked)", default="")
    forge_context: str = setting("what commit statuses begin with; one per source of a repository", default="trueup")
    forge_link: str = setting("what statuses of followed commits link to, with {commit} in it", default="")
    forge_poll_interval_s: float = setting("how often to look at pull requests", default=60.0, check=_check_interval)
    webhook_secret_file: Path | None = setting(
        "file with the secret of the source's webhooks (default: the secret is `trueup token webhook SOURCE`)",
        default=None,
    )
    node_offline_after_s: float = setting("a node silent for this long is offline", default=60.0, check=_check_interval)
    drain_timeout_s: float = setting("how long a stop may take", default=15.0, check=_check_interval)
    log_level: str = setting("debug, info, warning or error", default="info")
    log_format: logs.Format = setting("auto, json or text", default="auto", check=_check_log_format)

    @property
    def rules(self) -> Rules:
        return Rules(self.on_error, self.deletions_max, self.deletions_share)

    @property
    def source_forge(self) -> ForgeSettings:
        """All about the one source's forge."""
        return ForgeSettings(
            kind=self.forge,
            api_url=self.forge_api_url,
            repository=self.forge_repository,
            token_file=self.forge_token_file,
            webhook_secret_file=self.webhook_secret_file,
            ca_file=self.forge_ca_file,
            user=self.forge_user,
            context=self.forge_context,
            link=self.forge_link,
            poll_interval_s=self.forge_poll_interval_s,
        )

    @property
    def listen_host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def listen_port(self) -> int:
        return int(self.listen.rpartition(":")[2])
