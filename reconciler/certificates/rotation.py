"""A new issuer, a new root, and the end of the old one: what `trueup ca` does to the authority's folder.

Each of these may be interrupted anywhere and is then called again: it finds by the files how far it came. Controllers
take each change over by themselves (`authority.Authority.refresh`).

A new root needs time, since a machine learns of it when it renews its certificate, at about half of its hour:

1. `rotate_root` makes it and puts it into the bundle. Nothing is issued under it yet.
2. `rotate_root`, an hour later: it issues. Who renewed meanwhile trusts it.
3. `drop_root`, an hour later: the old one leaves the bundle. Who renewed meanwhile has a certificate under the new one.

A machine that was away the whole time knows neither, and joins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509

from kit.errors import Refusal
from reconciler.certificates.folder import AuthorityFolder, Pair
from reconciler.certificates.signing import (
    MACHINE_LIFETIME,
    SKEW,
    domain_in,
    name_of,
    new_key,
    sign_issuing,
    sign_root,
)

AFTER = MACHINE_LIFETIME
"""Every machine that lives has renewed its certificate within that time."""

Result = Literal["done", "waiting", "distributing", "nothing"]


@dataclass(frozen=True, slots=True)
class Step:
    """`what`: the root or issuer that it is about. `ready_at`: when the next step may follow, while one has to wait."""

    result: Result
    what: str
    ready_at: datetime | None = None


def rotate_issuer(files: AuthorityFolder, now: datetime, *, stolen: bool) -> Step:
    """A new key that makes certificates. Those of the former one are good until they end, unless it is `stolen`."""
    with files.locked():
        present, following = files.issuing(), files.next_issuer()
        if following is None:
            following = _issuer_under(_root_with_key(files), now)
            files.write_next_issuer(following)
        if stolen and name_of(present) != following.name:
            files.retire(present)
        _finish_issuer(files, following)
        return Step("done", following.name)


def rotate_root(files: AuthorityFolder, now: datetime, after: timedelta = AFTER) -> Step:
    """The next step of three; the third is `drop_root`."""
    with files.locked():
        coming = files.next_root()
        if coming is None or coming.certificate not in files.bundle():
            return _distribute_root(files, now, after)
        ready_at = begun_at(coming.certificate) + after
        if coming.certificate != files.root():
            if now < ready_at:
                return Step("waiting", coming.name, ready_at)
            issuer = files.next_issuer()
            if issuer is None or issuer.certificate.issuer != coming.certificate.subject:
                issuer = _issuer_under(coming, now)
                files.write_next_issuer(issuer)
            files.write_root(coming)
        _finish_issuer(files, files.next_issuer())
        files.write_next_root(None)
        return Step("done", coming.name, begun_at(files.issuer().certificate) + after)


def drop_root(files: AuthorityFolder, now: datetime, after: timedelta = AFTER) -> Step:
    """Every root but the one that issues is trusted no more."""
    with files.locked():
        root, roots = files.root(), files.bundle()
        if files.next_root() is not None:
            fix = "`trueup ca rotate-root` goes on with it"
            raise Refusal("drop the old root", "a new one is on its way", fix=fix, code="rotation_unfinished")
        old = [each for each in roots if each != root]
        if not old:
            return Step("nothing", name_of(root))
        ready_at = begun_at(files.issuer().certificate) + after
        if now < ready_at:
            return Step("waiting", name_of(old[0]), ready_at)
        files.write_bundle([root])
        return Step("done", ", ".join(name_of(each) for each in old))


@dataclass(frozen=True, slots=True)
class Found:
    """How far a rotation is. `coming`: a root that is trusted and will issue; `former`: roots that are still trusted.
    `since`: when the present step began."""

    issuer: x509.Certificate
    root: x509.Certificate
    coming: x509.Certificate | None
    former: tuple[x509.Certificate, ...]
    retired: tuple[str, ...]
    since: datetime

    @property
    def unfinished(self) -> bool:
        """Interrupted between two files."""
        return self.coming is not None and self.coming == self.root


def look(files: AuthorityFolder) -> Found:
    issuer, root, coming = files.issuer().certificate, files.root(), files.next_root()
    known = (root, coming.certificate if coming else root)
    former = tuple(each for each in files.bundle() if each not in known)
    since = begun_at(coming.certificate if coming else issuer)
    return Found(issuer, root, coming.certificate if coming else None, former, tuple(sorted(files.retired())), since)


def begun_at(certificate: x509.Certificate) -> datetime:
    """When it was made."""
    return certificate.not_valid_before_utc + SKEW


def _distribute_root(files: AuthorityFolder, now: datetime, after: timedelta) -> Step:
    """One that is not in the bundle was never given to anybody: its time begins now, so it is made anew."""
    key = new_key()
    coming = Pair(sign_root(key, domain_in(name_of(files.root())), now), key)
    files.write_next_root(coming)
    files.write_bundle([*files.bundle(), coming.certificate])
    return Step("distributing", coming.name, begun_at(coming.certificate) + after)


def _root_with_key(files: AuthorityFolder) -> Pair:
    coming = files.next_root()
    if coming is not None and coming.certificate == files.root():
        return coming
    root = files.root_pair()
    if root is None:
        why = "root.key is not there, or does not fit root.pem"
        fix = f"put it back into {files.path}, or finish `trueup ca rotate-root`"
        raise Refusal("make a new issuer", why, fix=fix, code="root_key_missing")
    return root


def _issuer_under(root: Pair, now: datetime) -> Pair:
    key = new_key()
    return Pair(sign_issuing(key, domain_in(root.name), root.certificate, root.key, now), key)


def _finish_issuer(files: AuthorityFolder, following: Pair | None) -> None:
    if following is not None:
        files.write_issuer(following)
        files.write_next_issuer(None)
