"""What a repository can declare: identities and normalised specifications.

`reconciler.core.manifest` makes these from YAML, `planner` compares them, events carry them as JSON (`kit.codec`),
the scheduler reads them back. Everything is normalised: bytes, seconds, port numbers, every default filled in, so that
equal meaning is equal data.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kit.wire import Health, Port

Kind = Literal["environment", "app", "route", "volume", "secret"]
KINDS: tuple[Kind, ...] = ("environment", "secret", "volume", "app", "route")
"""In the order in which they are created; removed in the reverse order."""

STATEFUL_KINDS: frozenset[Kind] = frozenset({"volume", "secret"})
"""Their removal needs an explicit confirmation in the commit."""

NO_PART = "-"


@dataclass(frozen=True, slots=True, order=True)
class ResourceId:
    """The identity of a declared resource. It comes from the manifest, never from the file's path.

    As text: ORG/PROJECT/ENV/APP/KIND/NAME, with "-" where a part does not apply. An environment has env = name and
    app "-"; an app has app = name.
    """

    org: str
    project: str
    env: str
    app: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return "/".join((self.org, self.project, self.env, self.app, self.kind, self.name))

    @property
    def short(self) -> str:
        """For people, inside one project: ENV/APP/KIND/NAME without the parts that say nothing."""
        match self.kind:
            case "environment":
                return f"environment/{self.name}"
            case "app":
                return f"{self.env}/app/{self.name}"
            case _:
                return f"{self.env}/{self.app}/{self.kind}/{self.name}"

    @property
    def owner(self) -> ResourceId | None:
        """The app that it belongs to, an app to itself; None for an environment."""
        if self.kind == "environment":
            return None
        return ResourceId(self.org, self.project, self.env, self.app, "app", self.app)

    @classmethod
    def parse(cls, text: str) -> ResourceId:
        """Ids are kept by the ten thousand, and name the same few places: each word is in memory once."""
        org, project, env, app, kind, name = map(sys.intern, text.split("/"))
        return cls(org, project, env, app, kind, name)  # type: ignore[arg-type]  # checked by the next line

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where in the tree a resource is declared. `line` counts from 1."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What a manifest says about its own removal. `protect`: not before a commit took this away. `removal`: it may go,
    data and all, once the manifest does. `protect_line`: where it is written, 0 when that is not known."""

    protect: bool = False
    removal: Literal["", "confirmed"] = ""
    protect_line: int = field(default=0, compare=False)


UNMARKED = Marks()


@dataclass(frozen=True, slots=True)
class Resource:
    """One manifest, validated and normalised. `spec` is the JSON form of one of the Spec classes below."""

    id: ResourceId
    spec: Mapping[str, Any]
    origin: Origin
    marks: Marks = UNMARKED


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """`quota`: dimension (`reconciler.core.quotas.DIMENSIONS`) -> limit."""

    description: str = ""
    quota: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """`volume` is the name of a Volume of the same app and environment."""

    volume: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """`surge`: how many instances above `replicas` may exist during a replacement."""

    surge: int = 1
    drain_grace_s: float = 10.0
    start_timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    image: str
    memory_bytes: int
    cpu: float = 1.0
    disk_bytes: int = 1 << 30
    replicas: int = 1
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    health: Health | None = None
    volumes: tuple[VolumeUse, ...] = ()
    secrets: tuple[str, ...] = ()
    update: UpdatePolicy = UpdatePolicy()
    restart: Literal["always", "on-failure", "never"] = "always"


@dataclass(frozen=True, slots=True)
class AppSpec:
    processes: Mapping[str, ProcessSpec]


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """`process` and `port` (a number) belong to the app of the route. `hostname` is lower-case, without a final dot."""

    hostname: str
    process: str
    port: int
    listen_port: int = 443
    protocol: Literal["tls_passthrough", "tcp_raw"] = "tls_passthrough"
    proxy_protocol: Literal["off", "v2"] = "off"


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    size_bytes: int
    filesystem: Literal["ext4"] = "ext4"


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """No value, not even encrypted: the values stay in the Git blob `blob`. `version_id` is a keyed digest of the
    plaintext, so that encrypting the same values anew changes nothing."""

    version_id: str
    keys: tuple[str, ...]
    blob: str
