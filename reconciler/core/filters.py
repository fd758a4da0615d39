"""Which readers of the change stream an event concerns. Pure.

A reader holds one key for as long as it is connected. A machine's comes from its identity: "node:NODE", or "edge". A
person's comes from what was asked for within the person's scope (`reconciler.server.stream_query`): a `PlaceFilter`,
or "*" for everything. An event concerns a key as a change, or as a removal: the thing has just left what the key shows,
and nothing of the event is told but that.

Called by `reconciler.server.ring` for each event, and by `told` for what comes out of the database, where
`reconciler.store.event_queries` says the same in SQL. A test holds both against a third, naive one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from reconciler.core.events import Event
from reconciler.core.model import KINDS, NO_PART

ALL = "*"
"""The key of the readers that see everything."""
EDGE = "edge"
_NODE = "node:"
_PLACE = "at:"
EDGE_AGGREGATE = "route"
EDGE_REPORT = "route.status_changed"
"""What an edge has said itself: no plan changes by it, and each would wake all the others."""
EDGE_INSTANCE_EVENTS = frozenset({"instance.allocated", "instance.desired_state_changed", "instance.status_changed"})

PARTS = ("org", "project", "env", "app")
NAMED = frozenset({*KINDS, "quota", "delivery"})
"""Their aggregate_id is where they belong: a resource, what a quota is of, the secret that was delivered."""
OF_AN_APP = frozenset({"instance", "deployment", "release"})
"""Their events name it."""
OF_A_VOLUME = frozenset({"snapshot", "backup", "restore"})
OF_AN_ORG = frozenset({"source", "revision"})
"""A source may be bound to another project; its commits do not say to which it was."""
OF_THE_FLEET = frozenset({"node", "identity", "token", "log"})
PARTS_OF: dict[str, int] = {
    **dict.fromkeys((*NAMED, *OF_AN_APP, *OF_A_VOLUME, "suspension"), 4),
    "environment": 3,
    "quota": 2,
    **dict.fromkeys(OF_AN_ORG, 1),
    **dict.fromkeys(OF_THE_FLEET, 0),
}
"""Every aggregate type, and how many of `PARTS` its events can name."""


class Place(NamedTuple):
    """Where in the fleet what an event is about belongs, as far as the event says it, and of what kind it is."""

    org: str = ""
    project: str = ""
    env: str = ""
    app: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class PlaceFilter:
    """Each given part must be the same. `env` and `app` are within a project, that within an organisation."""

    org: str = ""
    project: str = ""
    env: str = ""
    app: str = ""
    kind: str = ""

    @property
    def key(self) -> str:
        return _place_key(self.org, self.project, self.env, self.app, self.kind)

    @classmethod
    def of(cls, key: str) -> PlaceFilter:
        """Of a key for which `is_place` holds."""
        return cls(*key.removeprefix(_PLACE).split("/"))

    def matches(self, place: Place) -> bool:
        return (
            self.org in ("", place.org)
            and self.project in ("", place.project)
            and self.env in ("", place.env)
            and self.app in ("", place.app)
            and self.kind in ("", place.kind)
        )


def is_place(key: str) -> bool:
    return key.startswith(_PLACE)


def node_key(node_id: str) -> str:
    return f"{_NODE}{node_id}"


def node_of(key: str) -> str:
    """The node whose key it is; "" for another key."""
    return key.removeprefix(_NODE) if key.startswith(_NODE) else ""


def machine_keys(event: Event) -> frozenset[str]:
    """ "node:NODE" for the node that the payload names, "edge" for what can change a route plan."""
    found = set()
    node_id = event.payload.get("node_id")
    if isinstance(node_id, str) and node_id:
        found.add(node_key(node_id))
    of_route = event.aggregate_type == EDGE_AGGREGATE and event.event_type != EDGE_REPORT
    if of_route or event.event_type in EDGE_INSTANCE_EVENTS:
        found.add(EDGE)
    return frozenset(found)


def left_machine_keys(event: Event) -> frozenset[str]:
    """Whose the thing was until this event, and is no more: a volume's home of before."""
    node_id = event.payload.get("previous_node_id") if event.event_type == "volume.placed" else ""
    return frozenset({node_key(node_id)} if node_id else ()) - machine_keys(event)


def place_of(event: Event) -> Place:
    org, project, env, app, *_ = (*_path(event).split("/"), "", "", "", "")
    return Place(org, project, _part(env), _part(app), event.aggregate_type)


def left_place(event: Event) -> Place | None:
    """Where the thing belonged until this event: a source that is bound to another organisation."""
    org = event.payload.get("previous_org", "") if event.event_type == "source.registered" else ""
    return Place(org, kind="source") if org and org != event.cause.org_id else None


def place_keys(place: Place) -> list[str]:
    """Of every `PlaceFilter` that matches."""
    org, project, env, app, kind = place
    parts = {("", "", "", ""), (org, "", "", ""), (org, project, "", "")}
    parts |= {(org, project, env, ""), (org, project, "", app), (org, project, env, app)}
    return [_place_key(*each, of) for each in parts for of in (kind, "") if of or each[0]]


def told(event: Event, key: str) -> Literal["", "change", "removal"]:
    """What the reader of `key` is told of the event."""
    if key == ALL:
        return "change"
    if not is_place(key):
        return "change" if key in machine_keys(event) else "removal" if key in left_machine_keys(event) else ""
    wanted, left = PlaceFilter.of(key), left_place(event)
    if wanted.matches(place_of(event)):
        return "change"
    return "removal" if left is not None and wanted.matches(left) else ""


def _path(event: Event) -> str:
    """ORG/PROJECT/ENV/APP, as far as it goes; more may follow."""
    kind = event.aggregate_type
    if kind in NAMED:
        return event.aggregate_id
    if kind in OF_AN_APP:
        return str(event.payload.get("app", ""))
    if kind in OF_A_VOLUME:
        return str(event.payload.get("volume_id", ""))
    if kind == "suspension":
        what, _, path = event.aggregate_id.partition("/")
        return "" if what == "source" else path
    return event.cause.org_id if kind in OF_AN_ORG else ""


def _part(text: str) -> str:
    return "" if text == NO_PART else text


def _place_key(org: str, project: str, env: str, app: str, kind: str) -> str:
    return f"{_PLACE}{org}/{project}/{env}/{app}/{kind}"
