"""The states that things go through, as tables. `reconciler.core.decide` and `scheduler` ask here what may follow what,
projections refuse to fold what may not (`require`), `trueup lifecycles` and docs/LIFECYCLES.md show it.

A table maps a state to the states that may come next; "" is before the first word about it. A state that the table
does not know allows nothing. The rules above a table say what it cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.errors import Bug
from reconciler.core.events import Event

Transitions = Mapping[str, frozenset[str]]
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """`told_by`: the events that move it, or what it is derived from. Its rules stand above its table, here."""

    name: str
    told_by: str
    table: Transitions


def _table(**moves: str) -> Transitions:
    return {("" if state == "new" else state): frozenset(after.split()) for state, after in moves.items()}


# A registered source is looked at. Registering it anew, with another address say, changes nothing about that.
SOURCE: Transitions = _table(new="active", active="active removed", removed="active")

# Seen: the branch names it, and it is being judged. Refused may still become applied, once what stood against it is
# gone. Failed: a deployment of it failed, or it took too long; it may still converge. Superseded: a newer commit was
# applied before it converged, or the branch went past it and nobody looked at it. After a rewrite of the branch a
# commit that was over is seen anew. Commits of logs that are older than the first steps begin with refused or applied.
_JUDGED = "validated refused applied"
REVISION: Transitions = _table(
    new=f"seen {_JUDGED} superseded",
    seen=f"{_JUDGED} superseded",
    validated="planned",
    planned="refused applied",
    refused=f"{_JUDGED} superseded",
    applied=f"converged failed superseded seen {_JUDGED}",
    failed=f"converged superseded seen {_JUDGED}",
    converged=f"seen {_JUDGED}",
    superseded=f"seen {_JUDGED}",
)

# A release is an app's specification. It never changes, and it is available at once, since its images are named by
# their digests. The newest deployment of the app says which one is promoted; the one before is superseded by a deploy
# and rolled_back by a rollback. Either may come back.
RELEASE: Transitions = _table(
    new="available",
    available="promoted",
    promoted="superseded rolled_back",
    superseded="promoted",
    rolled_back="promoted",
)

# A failed one is tried again a few times and may still succeed; a newer one supersedes it. A succeeded one stays so
# whatever happens to its instances later.
DEPLOYMENT: Transitions = _table(
    new="rolling", rolling="succeeded failed superseded", failed="succeeded superseded", succeeded="", superseded=""
)

# Wanted by the scheduler. running -> stopped when there is nothing to drain. Never back: what shall run again is
# another instance, or the same one allocated anew with a higher epoch.
INSTANCE_DESIRED: Transitions = _table(new="running", running="draining stopped", draining="stopped", stopped="")

# Seen by its agent, within one epoch. Agents report what they saw, and they do not see everything: one that was down
# while its machine crashed and came up again says ready after ready. So every live status may follow every other, with
# two exceptions: an instance that drains can only fail or stop, and stopped is final.
_LIVE = "preparing booting ready unready failed"
INSTANCE_STATUS: Transitions = _table(
    new=f"{_LIVE} draining stopped",
    **dict.fromkeys(_LIVE.split(), f"{_LIVE} draining stopped"),
    draining="draining failed stopped",
    stopped="",
)

# As an edge has it, every edge for itself. Without a word of an edge it is requested. A change of its specification is
# active again with other backends.
ROUTE: Transitions = _table(new="active failed", active="active failed", failed="active failed")

# A version is current until another is declared, which rolls the apps that use it. A secret whose manifest went without
# a confirmation is retained. Removed and declared again is a new life.
SECRET: Transitions = _table(new="current", current="current retained removed", retained="current removed", removed="")

# As its home node has it. The agent looks, so live states follow one another freely. Deleted is the end of this life on
# this node, whatever is declared anew under the same name.
_PRESENT = "available in_use failed"
VOLUME: Transitions = _table(
    new=f"{_PRESENT} deleted", **dict.fromkeys(_PRESENT.split(), f"{_PRESENT} deleted"), deleted=""
)

# Enrolled is active. Silent for too long is offline; a word from it makes it active again. What an operator lets it do
# is another matter, told apart: a draining node that falls silent and comes back is still draining.
NODE: Transitions = _table(new="active", active="offline", offline="active")

# What an operator lets a node do. Nothing is placed on a node that drains or is disabled; stateless instances leave it,
# stateful ones stay. An act can be said anew, with another reason or end. A drain may end by itself, at the time that
# was given with it; disabled stays until somebody says active.
NODE_DUTY: Transitions = _table(
    new="active",
    active="draining disabled",
    draining="draining disabled active",
    disabled="disabled draining active",
)

# Of a source, an environment or an app. Begun anew while it lasts, it gets another reason or end, and what was frozen
# stays frozen. It ends by an operator or at its time.
SUSPENSION: Transitions = _table(new="begun", begun="begun ended", ended="begun")

# Of an app. Held on another release, it is held still. It ends by an operator, at its time, or by a commit that
# declares another release than the one that it defies; it is gone with its app.
HOLD: Transitions = _table(new="held", held="held ended", ended="held")

# Work on data, done once by one node: waiting, at work, done or not done. What is refused before it begins fails from
# queued. Trying again is another one, with its own id.
_WORK = {"new": "queued", "queued": "running failed", "running": "succeeded failed", "failed": ""}
SNAPSHOT: Transitions = _table(**_WORK, succeeded="deleted", deleted="")
BACKUP: Transitions = _table(**_WORK, succeeded="pruned", pruned="")
RESTORE: Transitions = _table(**_WORK, succeeded="")

LIFECYCLES = (
    Lifecycle("source", "source.registered, .removed", SOURCE),
    Lifecycle("revision", "revision.STATE", REVISION),
    Lifecycle("release", "derived from the deployments of its app", RELEASE),
    Lifecycle("deployment", "deployment.created, .status_changed", DEPLOYMENT),
    Lifecycle("instance desired", "instance.allocated, .desired_state_changed", INSTANCE_DESIRED),
    Lifecycle("instance observed", "instance.allocated, .status_changed", INSTANCE_STATUS),
    Lifecycle("route at one edge", "route.status_changed", ROUTE),
    Lifecycle("secret", "secret.created, .updated, .retained, .deleted", SECRET),
    Lifecycle("volume", "volume.status_changed", VOLUME),
    Lifecycle("snapshot", "snapshot.created, .status_changed", SNAPSHOT),
    Lifecycle("backup", "backup.created, .status_changed", BACKUP),
    Lifecycle("restore", "restore.created, .status_changed", RESTORE),
    Lifecycle("node", "node.enrolled, .state_changed", NODE),
    Lifecycle("node duty", "node.enrolled, .duty_changed", NODE_DUTY),
    Lifecycle("suspension", "suspension.begun, .ended", SUSPENSION),
    Lifecycle("hold", "app.held, .hold_ended", HOLD),
)


def allowed(table: Transitions, before: str, after: str) -> bool:
    """A state that the table does not know allows nothing."""
    return after in table.get(before, _NOTHING)


def require(table: Transitions, before: str, after: str, event: Event) -> None:
    """For a fold that meets what no command may have written: it must not guess, so its row goes into quarantine."""
    if after not in table.get(before, _NOTHING):
        raise Bug(
            f"fold event {event.event_id} ({event.event_type} of {event.aggregate_id})",
            f"nothing leads from {before or 'the beginning'} to {after}",
            fix="find who wrote it with `trueup events`; docs/runbooks/projection-wrong.md says how to go on",
            code="transition_invalid",
        )


def secret_state(row: Mapping[str, Any] | None) -> str:
    """Of a row of the view `resources`, in the words of SECRET."""
    return "" if row is None else "retained" if row.get("retained") else "current"


def release_states(deployments: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """release_id -> its state, from the deployments of one app in the order of the log (rows or payloads). A release
    that is not named was never deployed: available."""
    states: dict[str, str] = {}
    promoted = ""
    for each in deployments:
        release = str(each["release_id"])
        if promoted and promoted != release:
            states[promoted] = "rolled_back" if each["kind"] == "rollback" else "superseded"
        states[release], promoted = "promoted", release
    return states
