"""The authority's folder as a controller meets it: made when there is none, read as a whole, its issuer kept fresh.

Called by `authority`. What people do to the folder is in `rotation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from reconciler.certificates.folder import AuthorityFolder, Pair
from reconciler.certificates.signing import ISSUING_LIFETIME, name_of, new_key, sign_issuing, sign_root


@dataclass(frozen=True, slots=True)
class Read:
    """What the folder held when it was read last."""

    issuer: Pair
    root: str
    bundle: str
    roots: tuple[x509.Certificate, ...]
    retired: frozenset[str]


def maker(certificate: x509.Certificate, roots: Sequence[x509.Certificate]) -> x509.Certificate | None:
    for root in roots:
        try:
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return root
    return None


def read(files: AuthorityFolder) -> Read:
    issuer, bundle = files.issuer(), files.bundle_text()
    roots = tuple(x509.load_pem_x509_certificates(bundle.encode()))
    root = maker(issuer.certificate, roots)
    if root is None:
        raise ValueError("no root in bundle.pem has made issuing.pem")
    return Read(issuer, name_of(root), bundle, roots, files.retired())


def create(folder: Path, domain: str, now: datetime) -> None:
    """Made beside it and renamed, so that there is all of it or nothing."""
    making = AuthorityFolder(folder.with_name(f".{folder.name}.making"))
    making.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    root_key, key = new_key(), new_key()
    root = Pair(sign_root(root_key, domain, now), root_key)
    making.write_root(root)
    making.write_bundle([root.certificate])
    making.write_issuer(Pair(sign_issuing(key, domain, root.certificate, root.key, now), key))
    making.path.rename(folder)


def renew_issuer(files: AuthorityFolder, now: datetime) -> None:
    """In the last third of its life, while the root's key is there. The key and the name stay, so that nobody has to
    tell the two certificates apart."""
    try:
        if not _ends_soon(files, now) or files.root_pair() is None:
            return
        with files.locked():
            issuer, root = files.issuer(), files.root_pair()
            if root is None or not _ends_soon(files, now):
                return
            certificate = sign_issuing(issuer.key, "", root.certificate, root.key, now, name=issuer.certificate.subject)
            files.write_issuer(Pair(certificate, issuer.key))
    except (OSError, ValueError):
        return  # what is wrong with the files is told when they are read


def _ends_soon(files: AuthorityFolder, now: datetime) -> bool:
    return files.issuer().certificate.not_valid_after_utc - now < ISSUING_LIFETIME / 3
