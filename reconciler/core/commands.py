"""Commands: what somebody wants, in the imperative. `reconciler.core.decide` turns one into events, or refuses it.

Every command has an id that its sender chose; the same id with the same body is the same command and has one effect.
The planner's ids are digests of (source, commit, resource, verb): the same commits give the same commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.core.events import Cause, NewEvent
from reconciler.core.model import Resource, ResourceId


@dataclass(frozen=True, slots=True)
class DeclareResource:
    """The resource shall be as its manifest says: create it, or bring it to the new specification."""

    command_id: str
    cause: Cause
    resource: Resource


@dataclass(frozen=True, slots=True)
class RemoveResource:
    """The tombstone: the manifest is gone and the guards let it go."""

    command_id: str
    cause: Cause
    resource_id: ResourceId


@dataclass(frozen=True, slots=True)
class RetainResource:
    """The manifest is gone, but the removal lacks its confirmation: the resource stays, and says why."""

    command_id: str
    cause: Cause
    resource_id: ResourceId
    reason: str


GitCommand = DeclareResource | RemoveResource | RetainResource


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that only one owner can hold, taken and freed in the transaction that appends the event.

    Kinds: "hostname" (HOST:LISTEN_PORT), "address" (an instance's IPv6), "volume_writer" (volume id -> instance id),
    "resource" (resource id -> source id), "subnet" (a node's subnet -> node id), "fence" (scheduler -> token),
    "snapshot", "backup", "restore" (what is worked on -> the id of the work). Counted instead of owned are "use"
    (holder -> how much of what it uses) and "limits" (scope -> how much it may): see `reconciler.core.quotas`.
    Freeing a claim that is not there, or that another owner holds, changes nothing; taking one's own again too.
    """

    kind: str
    key: str
    owner: str


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to act as one loop (`lease`: "scheduler", "git/main", ...). A newer holder has a greater epoch; what an
    older one still tries to append is refused with a Conflict of kind "fence"."""

    lease: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Append:
    """What a decision asks of the log: all of it in one transaction, contiguous, or none of it.

    `expected`: aggregate (type, id) -> its aggregate_seq as the decider knew it (0: it must not exist; one
    whose last life ended with TYPE.deleted does not). An aggregate
    that is not named is appended to whatever its version. `free` is done before `take`.
    """

    command_id: str
    body_hash: str
    cause: Cause
    events: tuple[NewEvent, ...]
    expected: Mapping[tuple[str, str], int]
    take: tuple[Claim, ...] = ()
    free: tuple[Claim, ...] = ()
    fence: Fence | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """`duplicate`: the command id was there already with the same body; the ids are those of the first time."""

    command_id: str
    first_event_id: int
    last_event_id: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing of this command was appended.

    kind "version": `subject` is TYPE/ID, found/expected its versions; read again and decide anew.
    kind "claim": `subject` is KIND:KEY, `found` the owner; refuse.
    kind "quota": `subject` is SCOPE:DIMENSION, `expected` how much more was asked for, `found` "USED of LIMIT"; refuse.
    kind "command_id": the id was used with another body; refuse.
    kind "batch": of an atomic batch in which the command `subject` conflicts; this one would have gone through.
    """

    command_id: str
    kind: str
    subject: str
    expected: str
    found: str


AppendResult = Appended | Conflict
