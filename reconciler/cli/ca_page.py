"""What `trueup ca status` says: how far a rotation is, and which machines are behind. Pure.

Called by `reconciler.cli.ca` with what the folder holds and what the controller answered to GET /v1/authority.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from reconciler.certificates.rotation import AFTER, Found
from reconciler.certificates.signing import name_of
from reconciler.cli.output import Page

PICKED_UP = timedelta(seconds=5)
"""Controllers have read the folder anew by then."""
SHOWN_MAX = 20
_COLUMNS = ("identity_id", "certified_at", "not_after", "issuer", "root")
Doc = Mapping[str, Any]


def status(found: Found, seen: Doc | None, why_not_seen: str) -> dict[str, Any]:
    """`seen`: the controller's answer, if it could be asked."""
    roots = [(found.root, "issues"), *((each, "is trusted still: `trueup ca drop-root`") for each in found.former)]
    if found.coming is not None and not found.unfinished:
        roots.append((found.coming, "is trusted, and will issue"))
    maker = next((each for each, _ in roots if each.subject == found.issuer.issuer), found.root)
    return {
        "next": _next(found),
        "issuer": {**_certificate(found.issuer), "root": name_of(maker)},
        "roots": [{**_certificate(each), "is": what} for each, what in roots],
        "retired": list(found.retired),
        "controller": seen,
        "why_not_asked": why_not_seen,
        "behind": behind(found, seen["machines"]) if seen is not None else None,
    }


def behind(found: Found, machines: Iterable[Doc]) -> list[Doc]:
    """While a root is being made known: who was certified last before. Else: who has a former issuer's or root's."""
    if found.coming is not None and not found.unfinished:
        since = found.since + PICKED_UP
        return [each for each in machines if datetime.fromisoformat(each["certified_at"]) <= since]
    present = (name_of(found.issuer), name_of(found.root))
    return [each for each in machines if (each["issuer"], each["root"]) != present]


def page(document: Doc) -> Page:
    made = Page()
    made.add("", [document["next"]])
    columns: tuple[str, ...] = ("root", "until", "it")
    made.add("ROOTS", [], columns, [(each["name"], each["until"], each["is"]) for each in document["roots"]])
    issuer = document["issuer"]
    made.add("ISSUER", [], ("issuer", "until", "made by"), [(issuer["name"], issuer["until"], issuer["root"])])
    made.add("RETIRED ISSUERS", document["retired"])
    made.add("CONTROLLER", list(_about_controller(document)))
    late = document["behind"] or ()
    more = [f"{len(late)} machines, {SHOWN_MAX} of them:"] if len(late) > SHOWN_MAX else []
    columns = ("machine", "certified", "until", "by", "under")
    rows = [tuple(each[name] for name in _COLUMNS) for each in late[:SHOWN_MAX]]
    made.add("MACHINES THAT ARE BEHIND", more, columns, rows)
    return made


def text_of(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _about_controller(document: Doc) -> Iterable[str]:
    seen = document["controller"]
    if seen is None:
        yield f"it cannot be asked which machines are behind: {document['why_not_asked']}"
    elif (seen["issuer"], sorted(seen["roots"])) != (document["issuer"]["name"], sorted(_names(document))):
        yield "the controller that was asked has not read this folder yet, or has another one"
    elif not document["behind"]:
        yield "no machine that it knows is behind"


def _names(document: Doc) -> list[str]:
    return [each["name"] for each in document["roots"]]


def _next(found: Found) -> str:
    when = f"{text_of(found.since + AFTER)}, or sooner when no machine is behind"
    if found.unfinished:
        return "a rotation was interrupted: `trueup ca rotate-root` finishes it"
    if found.coming is not None:
        return f"a new root is being made known; `trueup ca rotate-root` lets it issue after {when}"
    if found.former:
        return f"a new root issues; `trueup ca drop-root` ends the former one after {when}"
    return "no rotation is under way"


def _certificate(certificate: x509.Certificate) -> dict[str, str]:
    return {"name": name_of(certificate), "until": text_of(certificate.not_valid_after_utc)}
