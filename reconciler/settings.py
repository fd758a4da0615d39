"""Settings of `trueup controller`. Read by `reconciler.bootstrap`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from kit import logs
from kit.machine_names import DEFAULT_DOMAIN
from kit.settings import setting, tables
from reconciler.core.revisions import DEFAULT_RULES, OnError
from reconciler.forges.settings import ForgeSettings, check_interval, check_kind
from reconciler.oidc.settings import OidcRuleSettings, OidcSettings, oidc_disagreements
from reconciler.server.limits import Limits, Rate
from reconciler.source_settings import (
    SourceSettings,
    check_count,
    check_name,
    check_on_error,
    check_quota,
    check_share,
    disagreements,
)

SOURCES_MAX = 500
_OF_ONE_SOURCE = (
    *("source", "branch", "path", "accepted_rewrite", "signers", "org", "project", "org_quota", "project_quota"),
    *("on_error", "deletions_max", "deletions_share", "poll_interval_s", "webhook_secret_file", "forge"),
    *("forge_api_url", "forge_repository", "forge_token_file", "forge_ca_file", "forge_user", "forge_context"),
    *("forge_link", "forge_poll_interval_s", "push_notes"),
    *("platform_recipient", "unbound_secrets"),
)
"""What belongs into the tables where there are tables."""


def _check_listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    return "" if host and port.isdigit() and int(port) < 65536 else f"expected ADDRESS:PORT, found {value!r}"


def _check_connections(value: int) -> str:
    return "" if 2 <= value <= 1_000_000 else f"expected 2 to 1000000, found {value}"


def _check_domain(value: str) -> str:
    good = re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?", value)
    return "" if good else f"expected lower-case letters, digits, '.' and '-', found {value!r}"


def _check_ttl(value: float) -> str:
    return "" if 1 <= value <= 600 else f"expected between 1s and 10m, found {value} s"


def _check_log_format(value: str) -> str:
    return "" if value in ("auto", "json", "text") else f"expected auto, json or text, found {value!r}"


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """The trueup controller: follows a Git repository, keeps the event log, schedules, serves agents and edges."""

    repository: str = setting(
        "the Git repository to follow: a path, or a file://, https:// or ssh:// URL; for several: docs/SOURCES.md",
        default="",
    )
    state: Path = setting("folder for the clone, keys and the embedded database", default=Path(".state"))
    listen: str = setting("ADDRESS:PORT of the HTTP interface", default="[::1]:7340", check=_check_listen)
    machines_listen: str = setting(
        "ADDRESS:PORT for agents and edges, TLS 1.3 with certificates (default: the next port)",
        default="",
        check=lambda value: _check_listen(value) if value else "",
    )
    machines_url: str = setting(
        "how agents and edges reach that (default: its address), as `trueup node token` prints it", default=""
    )
    server_names: tuple[str, ...] = setting("more names for this controller's certificate", default=())
    trust_domain: str = setting(
        "stands in the name of every machine; cannot be changed later", default=DEFAULT_DOMAIN, check=_check_domain
    )
    ca_folder: Path | None = setting(
        "the authority's keys; a second controller needs the first one's (default: ca in the state folder)",
        default=None,
    )
    machine_tokens: bool = setting(
        "deprecated: let agents and edges in with the bearer tokens of earlier versions, too, until all have joined",
        default=False,
    )
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
    head_export_interval_s: float = setting("how often, when it has moved", default=300.0, check=check_interval)
    head_key_file: Path | None = setting(
        "Ed25519 key in PEM that signs exported heads (default: head.key in the state folder)", default=None
    )
    controller_name: str = setting("how other controllers and `trueup status` call this one", default="")
    lease_ttl_s: float = setting(
        "another controller takes over when this one was not heard for so long", default=15.0, check=_check_ttl
    )
    start_timeout_s: float = setting("how long to wait for Postgres at start", default=60.0, check=check_interval)
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
    platform_recipient: bool = setting(
        "accept secrets that earlier versions sealed to the platform's recipient, with a warning", default=True
    )
    unbound_secrets: bool = setting(
        "accept secrets that do not say which environment, app, secret and key they are for", default=False
    )
    on_error: OnError = setting(
        "what an error that is one app's own does: hold-app (the rest of the commit is applied) or refuse-commit",
        default="hold-app",
        check=check_on_error,
    )
    deletions_max: int = setting(
        "a commit that deletes more resources, and a larger share, has to say how many",
        default=DEFAULT_RULES.deletions_max,
        check=check_count,
    )
    deletions_share: float = setting(
        "the share of all resources for that, from 0 to 1",
        default=DEFAULT_RULES.deletions_share,
        check=check_share,
    )
    org: str = setting("organisation that the source declares for", default="default", check=check_name)
    project: str = setting("project that the source declares for", default="default", check=check_name)
    org_quota: str = setting(
        "what the organisation may have: instances=100,memory=64Gi,routes=..,volumes=..,volumeSize=..; empty: no limit",
        default="",
        check=check_quota,
    )
    project_quota: str = setting("the same for the project", default="", check=check_quota)
    poll_interval_s: float = setting("how often to look at the repository", default=15.0, check=check_interval)
    forge: str = setting(
        "where the source's pull requests are: github, gitlab or gitea (Forgejo too); empty: nowhere",
        default="",
        check=check_kind,
    )
    forge_api_url: str = setting("address of the forge's API (default: from the repository's address)", default="")
    forge_repository: str = setting("OWNER/NAME at the forge (default: from the repository's address)", default="")
    forge_token_file: Path | None = setting("file with the token for the forge", default=None)
    forge_ca_file: Path | None = setting("certificates that the forge's is checked against", default=None)
    forge_user: str = setting("the token's own user (default: the forge is asked)", default="")
    forge_context: str = setting("what commit statuses begin with; one per source of a repository", default="trueup")
    forge_link: str = setting("what statuses of followed commits link to, with {commit} in it", default="")
    forge_poll_interval_s: float = setting("how often to look at pull requests", default=60.0, check=check_interval)
    webhook_secret_file: Path | None = setting(
        "file with the secret of the source's webhooks (default: the secret is `trueup token webhook SOURCE`)",
        default=None,
    )
    node_offline_after_s: float = setting("a node silent for this long is offline", default=60.0, check=check_interval)
    drain_timeout_s: float = setting("how long a stop may take", default=15.0, check=check_interval)
    http_drain_notice_s: float = setting(
        "how long a stop goes on serving after readiness said no, for a load balancer to notice: its probing interval",
        default=0.0,
    )
    http_connections_max: int = setting(
        "connections that may be open, half of them change streams", default=25_000, check=_check_connections
    )
    http_connections_per_address_max: int = setting(
        "of them, from one IPv4 address or IPv6 /64", default=8192, check=_check_connections
    )
    http_requests_per_s: float = setting(
        "requests of one identity in the long run; ten seconds' worth at once", default=100.0, check=check_interval
    )
    http_unproven_per_s: float = setting(
        "requests without valid credentials from one address in the long run; twenty seconds' worth at once",
        default=20.0,
        check=check_interval,
    )
    log_level: str = setting("debug, info, warning or error", default="info")
    log_format: logs.Format = setting("auto, json or text", default="auto", check=_check_log_format)

    sources: tuple[SourceSettings, ...] = tables("the repositories to follow", SourceSettings)
    oidc: tuple[OidcSettings, ...] = tables("the issuers whose tokens are accepted (docs/SECURITY.md)", OidcSettings)
    oidc_rules: tuple[OidcRuleSettings, ...] = tables("what those tokens may; the first that fits", OidcRuleSettings)

    @property
    def followed(self) -> tuple[SourceSettings, ...]:
        """The tables [[sources]], or the one source of the flags."""
        if self.sources:
            return self.sources
        one = SourceSettings(
            name=self.source,
            url=self.repository,
            org=self.org,
            project=self.project,
            branch=self.branch,
            path=self.path,
            accepted_rewrite=self.accepted_rewrite,
            credentials_file=self.state / "git" / "credentials",
            signers=self.signers,
            poll_interval_s=self.poll_interval_s,
            org_quota=self.org_quota,
            project_quota=self.project_quota,
            on_error=self.on_error,
            deletions_max=self.deletions_max,
            deletions_share=self.deletions_share,
            push_notes=self.push_notes,
            platform_recipient=self.platform_recipient,
            unbound_secrets=self.unbound_secrets,
            forge=self.source_forge,
        )
        return (one,)

    def complaints(self) -> Iterator[tuple[str, str]]:
        """(setting, what is wrong) of what only shows in all of them together."""
        yield from oidc_disagreements(self.oidc, self.oidc_rules)
        if not self.sources:
            if not self.repository:
                yield "--repository", "is required, or tables [[sources]] in the file that --config names"
            return
        if self.repository:
            yield "--repository", "there are tables [[sources]] too; put it into one of them"
        defaults = {field.name: field.default for field in fields(self)}
        for name in _OF_ONE_SOURCE:
            if getattr(self, name) != defaults[name]:
                yield name, "is for one --repository; put it into the tables [[sources]]"
        if len(self.sources) > SOURCES_MAX:
            yield "sources", f"there are {len(self.sources)}; a controller follows {SOURCES_MAX}"
        for why in disagreements(self.sources):
            yield "sources", why

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
    def http_limits(self) -> Limits:
        """What is not a setting is in docs/LIMITS.md with its reason."""
        known = Limits()
        return replace(
            known,
            connections_max=self.http_connections_max,
            connections_per_address_max=self.http_connections_per_address_max,
            streams_max=max(1, self.http_connections_max // 2),
            drain_notice_s=max(self.http_drain_notice_s, 0.0),
            request_rate=Rate(self.http_requests_per_s, max(1, round(10 * self.http_requests_per_s))),
            unproven_rate=Rate(self.http_unproven_per_s, max(1, round(20 * self.http_unproven_per_s))),
        )

    @property
    def listen_host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def machines_host(self) -> str:
        return self.machines_listen.rpartition(":")[0].strip("[]") or self.listen_host

    @property
    def machines_port(self) -> int:
        """The one after `listen`'s; any, where that is any."""
        if self.machines_listen:
            return int(self.machines_listen.rpartition(":")[2])
        return min(self.listen_port + 1, 65535) if self.listen_port else 0

    @property
    def listen_port(self) -> int:
        return int(self.listen.rpartition(":")[2])
