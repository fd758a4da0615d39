"""Who may do what: `allow(identity, verb, thing)`. Pure, and denies whatever is not written here.

Called by `reconciler.server.guard` for every request, with the verb and the thing that the route names. Machines reach
what is their own and nothing else; a token of people or CI, of ours or of an OIDC issuer,
reaches what its scope says; an operator all that people do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

IdentityRole = Literal["none", "node", "edge", "webhook", "operator", "token", "oidc"]
IDENTITY_ROLES: tuple[IdentityRole, ...] = get_args(IdentityRole)

Verb = Literal[
    "probe",  # is it alive, is it ready
    "self",  # hear who one is, and give one's own token back
    "join",  # become a machine of the fleet; the join token in the body is the proof
    "read",  # what people see: status, history, plans of commits
    "look",  # look at a source now
    "act",  # drain, suspend, hold, stop: past Git for a while
    "remove",  # what a source declared that nobody follows
    "admit",  # join tokens of machines, and taking a machine's identity back
    "grant",  # tokens of people and CI
    "notify",  # a forge's webhook
    "follow",  # plan and change stream
    "enrol",
    "report",  # reports and heartbeats
    "unseal",  # the sealed values of an instance
    "renew",  # a certificate
]
VERBS: tuple[Verb, ...] = get_args(Verb)

SCOPED_VERBS: frozenset[Verb] = frozenset({"read", "look", "act", "remove", "admit", "grant"})
"""What the scope of a token may name."""

ThingKind = Literal["service", "fleet", "source", "node", "edge"]
THING_KINDS: tuple[ThingKind, ...] = get_args(ThingKind)

ALL = "*"


@dataclass(frozen=True, slots=True)
class Scope:
    """Of a token, or of whom an OIDC issuer vouches for. `org` and `project`: a name, or * for all of them."""

    org: str = ALL
    project: str = ALL
    verbs: frozenset[Verb] = frozenset()

    def __str__(self) -> str:
        return f"{self.org}/{self.project}:{','.join(sorted(self.verbs))}"


@dataclass(frozen=True, slots=True)
class Identity:
    """`scope`: of a token and of OIDC; nobody else has one."""

    role: IdentityRole
    name: str
    scope: Scope = Scope()

    def __str__(self) -> str:
        return f"{self.role}:{self.name}"


NOBODY = Identity("none", "")


@dataclass(frozen=True, slots=True)
class Thing:
    """`name`: of a source, a node or an edge. `org` and `project`: whose it is; empty: the whole fleet's, or not known,
    which is out of reach of a token that is bound to one of them."""

    kind: ThingKind
    name: str = ""
    org: str = ""
    project: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


_EVERYBODY: Mapping[Verb, ThingKind] = {"probe": "service", "join": "service"}
_WHOEVER_IS_KNOWN: Mapping[Verb, ThingKind] = {"self": "service"}
_OWN: Mapping[IdentityRole, tuple[ThingKind, frozenset[Verb]]] = {
    "node": ("node", frozenset({"follow", "enrol", "report", "unseal", "renew"})),
    "edge": ("edge", frozenset({"follow", "report", "renew"})),
    "webhook": ("source", frozenset({"notify"})),
}
"""Only of the thing that has the caller's own name."""
_OF_PEOPLE: Mapping[Verb, frozenset[ThingKind]] = {
    "read": frozenset({"fleet", "source"}),
    "follow": frozenset({"fleet"}),
    "look": frozenset({"source"}),
    "act": frozenset({"fleet", "node"}),
    "remove": frozenset({"source"}),
    "admit": frozenset({"fleet", "node", "edge"}),
    "grant": frozenset({"fleet"}),
}


def allow(identity: Identity, verb: Verb, thing: Thing) -> bool:
    """Whether it may. What no line above names, nobody may."""
    if _EVERYBODY.get(verb) == thing.kind:
        return True
    if _WHOEVER_IS_KNOWN.get(verb) == thing.kind:
        return identity.role != "none"
    match identity.role:
        case "node" | "edge" | "webhook":
            kind, verbs = _OWN[identity.role]
            return thing.kind == kind and verb in verbs and bool(identity.name) and thing.name == identity.name
        case "operator":
            return thing.kind in _OF_PEOPLE.get(verb, ())
        case "token" | "oidc":
            return thing.kind in _OF_PEOPLE.get(verb, ()) and _in_scope(identity.scope, verb, thing)
        case _:
            return False


def asked_place(scope: Scope, org: str, project: str) -> tuple[str, str]:
    """What somebody asks for who names `org` and `project`, or leaves them out ("") and means all that `scope` reaches.
    Whether the scope reaches it is for `allow` to say."""
    return org or _bound(scope.org), project or _bound(scope.project)


def _bound(name: str) -> str:
    return "" if name == ALL else name


def _in_scope(scope: Scope, verb: Verb, thing: Thing) -> bool:
    """To follow the fleet's changes is to read it."""
    wanted: Verb = "read" if verb == "follow" else verb
    return (
        wanted in scope.verbs & SCOPED_VERBS
        and scope.org in (ALL, thing.org or None)
        and scope.project in (ALL, thing.project or None)
    )
