"""Operators' acts as sentences, and how far a drain is. Pure; a part of `reconciler.core.explain` and of the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.core.act_scopes import subject_label
from reconciler.core.explain_text import plural
from reconciler.core.model import ResourceId

Doc = Mapping[str, Any]


def act_text(act: Doc) -> str:
    """`act`: a row of the view acts."""
    until = f", until {act['until']}" if act["until"] else ""
    who = f"by {act['actor']} since {act['since']}{until}: {act['reason']}"
    match act["act"]:
        case "hold":
            defied = f"against {act['defied_release_id']} of commit {act['defied_commit'][:12]}"
            return f"{subject_label(act)} is held on release {act['release_id']} {defied} {who}"
        case "suspend":
            return f"{subject_label(act)} is suspended {who}"
        case "drain":
            return f"{subject_label(act)} is drained {who}"
        case _:
            return f"{subject_label(act)} is disabled {who}"


def remedy(act: Doc) -> str:
    match act["act"]:
        case "hold":
            app = ResourceId.parse(act["app"])
            return f"`trueup release-hold {app.env}/{app.app}`, or a commit that declares another release"
        case "suspend":
            return f"`trueup resume {act['scope']}` when it may follow Git again"
        case _:
            return f"`trueup node activate {act['node_id']}` when it may work again"


@dataclass(frozen=True, slots=True)
class Progress:
    """`blocking`: what does not leave the node by itself, a line each, with its volumes."""

    moving: int
    blocking: tuple[str, ...]
    text: str


def progress(instances: Sequence[Doc]) -> Progress:
    """`instances`: rows of those on the node."""
    live = [each for each in instances if each.get("status") != "stopped"]
    staying = [each for each in live if each["workload"].get("mounts") and each["desired"] == "running"]
    moving = len(live) - len(staying)
    blocking = tuple(_blocking(each) for each in sorted(staying, key=lambda each: str(each["instance_id"])))
    parts = [f"{plural(moving, 'instance')} still to leave"] if moving else []
    parts += [f"{plural(len(staying), 'stateful instance')} cannot leave its volume"] if staying else []
    return Progress(moving, blocking, " and ".join(parts) or "nothing runs there any more")


def _blocking(instance: Doc) -> str:
    volumes = [ResourceId.parse(mount["volume_id"]).name for mount in instance["workload"]["mounts"]]
    app = ResourceId.parse(instance["app"]).short
    return f"{instance['instance_id']} of {app}/{instance['process']} stays with {', '.join(sorted(set(volumes)))}"
