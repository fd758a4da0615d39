"""Quotas: how much an environment, a project or an organisation may hold. Pure.

A limit stands in the Environment's manifest, or for a project or an organisation in the event quota.set. It is counted
in the append transaction, as claims that follow from events like all others (`reconciler.core.claims`):

    use    HOLDER -> SCOPE AMOUNTS     an instance, a volume, a route, or an app with what it declares
    quota  SCOPE  -> LIMITS | USED     of each environment, project and organisation: the sum of the uses below it

`reconciler.store.placement` moves both while it holds the lock of the log's head, so two that race cannot go over
together. Limits are a third kind of claim in an `Append` ("limits"); they are kept in the row of their scope.

What grows must end within the limit; what shrinks or stays always may, also above a limit that was lowered meanwhile.
An instance counts from its allocation until it shall be stopped, the surge of an update included, with the memory that
the scheduler took for it: what its manifest says and what its machine costs the node on top. The event says that
(`overhead_bytes`), so that the log gives the same sums for ever, whatever a machine costs later; events of version 1
say none, and count as they were counted. What an app declares is counted apart from what runs, against the same
limits, as its manifests say it, for no node is chosen yet: so a commit that asks for too much is refused where it says
so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kit.errors import Bug
from reconciler.core.commands import Append, Claim, Conflict

Amounts = Mapping[str, int]
ClaimKey = tuple[str, str]

DIMENSIONS = ("instances", "memory_bytes", "routes", "volume_bytes", "volumes")
"""What can be limited."""

_LIMIT_OF = {"declared_instances": "instances", "declared_memory_bytes": "memory_bytes"}

KINDS = frozenset({"use", "limits"})
"""Claims of an `Append` that are counted, not owned: taking one replaces what its holder had."""


class Moved(NamedTuple):
    """`rows`: the claims as they will be (None: no such row). `grown`: (scope, dimension) -> by how much."""

    rows: dict[ClaimKey, str | None]
    grown: dict[tuple[str, str], int]


class Exceeded(NamedTuple):
    """`used`: without `more`."""

    scope: str
    dimension: str
    limit: int
    used: int
    more: int

    @classmethod
    def of(cls, conflict: Conflict) -> Exceeded:
        """From a conflict of the kind "quota"."""
        scope, _, dimension = conflict.subject.partition(":")
        used, _, limit = conflict.found.partition(" of ")
        return cls(scope, dimension, int(limit), int(used), int(conflict.expected))

    def conflict(self, command_id: str) -> Conflict:
        return Conflict(command_id, "quota", self.subject, str(self.more), self.found)

    @property
    def subject(self) -> str:
        return f"{self.scope}:{self.dimension}"

    @property
    def found(self) -> str:
        return f"{self.used} of {self.limit}"

    @property
    def sentence(self) -> str:
        level = {"env": "environment", "project": "project", "org": "organisation"}[level_of(self.scope)]
        verb = "are declared" if self.dimension in _LIMIT_OF else "are used"
        limit = limit_of(self.dimension)
        more = f"{self.used} {verb}, this asks for {self.more} more"
        return f"the {level} {self.scope} may have {limit} {self.limit}: {more}"


def limits_of(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Amounts]:
    """SCOPE -> its limits, where there are any, from the rows of the views `resources` and `quotas`."""
    found = {scope_of(key): row["spec"].get("quota") for key, row in rows["resources"].items() if _is_env(row)}
    found |= {scope: row["limits"] for scope, row in rows["quotas"].items()}
    return {scope: limits for scope, limits in sorted(found.items()) if limits}


def counted_in(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[ClaimKey, str]:
    """The counted claims as the views have them: for what may lag, never for a decision."""
    found: dict[ClaimKey, str] = {}
    for key, row in rows["resources"].items():
        if used := used_by_resource(row["kind"], row["spec"]):
            found["use", key] = use_text(scope_of(key), used)
    for key, row in rows["instances"].items():
        if row["desired"] != "stopped":
            found["use", key] = use_text(scope_of(row["app"]), used_by_instance(taken_bytes(row)))
    limits = {scope: written(each) for scope, each in limits_of(rows).items()}
    return {**found, **{("quota", scope): text for scope, text in rows_of(found.values(), limits).items()}}


def usage(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """For people: each limit, and what the views show of its use."""
    limited = limits_of(rows)
    counted = counted_in(rows) if limited else {}
    return [
        {"scope": scope, "dimension": name, "limit": limit, "used": used.get(name, 0)}
        for scope, limits in limited.items()
        for _, used in (read_quota(counted["quota", scope]),)
        for name, limit in sorted(limits.items())
    ]


def limits_after(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], batch: Iterable[Append]) -> bool:
    """Whether anything is limited, or will be by this batch."""
    return bool(limits_of(rows)) or any(claim.kind == "limits" for append in batch for claim in append.take)


def _is_env(row: Mapping[str, Any]) -> bool:
    return bool(row["kind"] == "environment")


def limit_of(dimension: str) -> str:
    return _LIMIT_OF.get(dimension, dimension)


def scope_of(resource_id: str) -> str:
    """ORG/PROJECT/ENV of a resource."""
    return "/".join(resource_id.split("/", 3)[:3])


def scopes_above(scope: str) -> tuple[str, ...]:
    """The scope, and those that it is part of: environment, project, organisation."""
    parts = scope.split("/")
    return tuple("/".join(parts[:count]) for count in range(len(parts), 0, -1))


def level_of(scope: str) -> str:
    return ("org", "project", "env")[scope.count("/")]


def used_by_resource(kind: str, spec: Mapping[str, Any]) -> Amounts:
    match kind:
        case "volume":
            return {"volumes": 1, "volume_bytes": spec["size_bytes"]}
        case "route":
            return {"routes": 1}
        case "app":
            processes = spec["processes"].values()
            return {
                "declared_instances": sum(each["replicas"] for each in processes),
                "declared_memory_bytes": sum(each["replicas"] * each["memory_bytes"] for each in processes),
            }
        case _:
            return {}


def taken_bytes(allocated: Mapping[str, Any]) -> int:
    """Memory. `allocated`: the payload of instance.allocated, or a row made of it."""
    return int(allocated["workload"]["memory_bytes"]) + int(allocated.get("overhead_bytes", 0))


def used_by_instance(memory_bytes: int) -> Amounts:
    """`memory_bytes`: its machine included."""
    return {"instances": 1, "memory_bytes": memory_bytes}


def use_text(scope: str, amounts: Amounts) -> str:
    return f"{scope} {written(amounts)}"


def written(amounts: Amounts) -> str:
    """ "a=1 b=2", without what is zero when it is a sum. A limit of zero is said."""
    return " ".join(f"{name}={amounts[name]}" for name in sorted(amounts))


def read(text: str) -> dict[str, int]:
    return {name: int(value) for name, _, value in (part.partition("=") for part in text.split())}


def quota_text(limits: Amounts, used: Amounts) -> str | None:
    used = {name: amount for name, amount in used.items() if amount}
    return f"{written(limits)} | {written(used)}" if limits or used else None


def read_quota(text: str | None) -> tuple[dict[str, int], dict[str, int]]:
    """Limits and what is used."""
    limits, _, used = (text or "|").partition("|")
    return read(limits), read(used)


def rows_for(claim: Claim) -> tuple[ClaimKey, ...]:
    """The rows that moving a claim of `KINDS` reads and writes."""
    if claim.kind == "limits":
        return (("quota", claim.key),)
    scope = claim.owner.partition(" ")[0]
    return (("use", claim.key), *(("quota", each) for each in scopes_above(scope)))


def moved(free: Iterable[Claim], take: Iterable[Claim], claims: Mapping[ClaimKey, str]) -> Moved:
    """What one command makes of the rows. `claims`: at least all of `rows_for` its claims."""
    change = _Change(claims)
    for claim, text in [*((each, None) for each in free), *((each, each.owner) for each in take)]:
        if claim.kind == "limits":
            change.limit(claim.key, text)
        elif claim.kind == "use":
            change.use(claim.key, text)
    grown = {key: amount for key, amount in change.grown.items() if amount > 0}
    return Moved(change.rows, grown)


class _Change:
    def __init__(self, claims: Mapping[ClaimKey, str]) -> None:
        self._claims = claims
        self.rows: dict[ClaimKey, str | None] = {}
        self.grown: dict[tuple[str, str], int] = {}

    def limit(self, scope: str, text: str | None) -> None:
        _, used = read_quota(self._now("quota", scope))
        self.rows["quota", scope] = quota_text(read(text or ""), used)

    def use(self, holder: str, text: str | None) -> None:
        before = self._now("use", holder)
        self.rows["use", holder] = text
        scope = (text or before or "").partition(" ")[0]
        if before and before.partition(" ")[0] != scope:
            raise Bug(f"count what {holder} uses", f"it moved from {before} to {text}", code="quota_scope_moved")
        delta = _difference(_amounts(before), _amounts(text))
        for each in scopes_above(scope) if scope else ():
            limits, used = read_quota(self._now("quota", each))
            for name, amount in delta.items():
                used[name] = used.get(name, 0) + amount
                self.grown[each, name] = self.grown.get((each, name), 0) + amount
            self.rows["quota", each] = quota_text(limits, used)

    def _now(self, kind: str, key: str) -> str | None:
        return self.rows[kind, key] if (kind, key) in self.rows else self._claims.get((kind, key))


def _amounts(text: str | None) -> dict[str, int]:
    return read((text or "").partition(" ")[2])


def _difference(before: Amounts, after: Amounts) -> dict[str, int]:
    return {name: after.get(name, 0) - before.get(name, 0) for name in sorted({*before, *after})}


def exceeded(
    grown: Mapping[tuple[str, str], int], before: Mapping[ClaimKey, str | None], after: Mapping[ClaimKey, str | None]
) -> Exceeded | None:
    """The first limit that `grown` broke, if any. `before` and `after`: rows of the scopes in `grown`."""
    for (scope, dimension), more in grown.items():
        limits, used = read_quota(after.get(("quota", scope)))
        _, used_before = read_quota(before.get(("quota", scope)))
        limit, now = limits.get(limit_of(dimension)), used.get(dimension, 0)
        if limit is not None and now > limit and now > used_before.get(dimension, 0):
            return Exceeded(scope, dimension, limit, now - more, more)
    return None


def to_blame(
    each: Sequence[Moved], before: Mapping[ClaimKey, str | None], after: Mapping[ClaimKey, str | None]
) -> tuple[int, Exceeded] | None:
    """Of commands that are judged as a whole, the last one that asked for more of what there is too little of now."""
    for index in reversed(range(len(each))):
        over = exceeded(each[index].grown, before, after)
        if over is not None:
            return index, over
    return None


def judged(batch: Sequence[Append], counted: Mapping[ClaimKey, str]) -> tuple[Append, Exceeded] | None:
    """What the log would say to this batch. `counted`: all rows of the kinds "use" and "quota"."""
    before, now, each = dict(counted), dict(counted), list[Moved]()
    for append in batch:
        each.append(moved(append.free, append.take, now))
        for key, text in each[-1].rows.items():
            if text is None:
                now.pop(key, None)
            else:
                now[key] = text
    found = to_blame(each, before, now)
    return None if found is None else (batch[found[0]], found[1])


def rows_of(uses: Iterable[str], limits: Mapping[str, str]) -> dict[str, str]:
    """SCOPE -> its row, from the texts of all uses and of all limits: what `moved` has to have led to."""
    totals: dict[str, dict[str, int]] = {scope: {} for scope in limits}
    for text in uses:
        scope, _, amounts = text.partition(" ")
        for name, amount in read(amounts).items():
            for each in scopes_above(scope):
                used = totals.setdefault(each, {})
                used[name] = used.get(name, 0) + amount
    rows = {scope: quota_text(read(limits.get(scope, "")), used) for scope, used in totals.items()}
    return {scope: text for scope, text in rows.items() if text}
