"""GET /v1/authority: who certifies machines, and which machine was certified when by whom. Read by `trueup ca status`.

Called through `reconciler.server.routes`. It is what this controller uses now, so that it shows whether a change of the
authority's folder has arrived here.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web
from cryptography import x509

from reconciler.certificates.signing import name_of
from reconciler.core.permission import Identity
from reconciler.ports import GivenCertificate
from reconciler.server.deps import Deps
from reconciler.server.problems import Problem
from reconciler.server.renewals import SHOWN_MAX, Renewals
from reconciler.server.standing import Standing


class AuthorityReads:
    def __init__(self, deps: Deps, standing: Standing, renewals: Renewals) -> None:
        self._deps = deps
        self._standing = standing
        self._renewals = renewals

    async def show(self, request: web.Request) -> web.Response:
        authority = self._deps.authority
        if authority is None:
            raise Problem("unavailable", "this controller certifies no machines")
        oldest = await self._renewals.oldest()
        return web.json_response(
            {
                "domain": authority.domain,
                "issuer": authority.issuer,
                "root": authority.root,
                "roots": [name_of(each) for each in x509.load_pem_x509_certificates(authority.bundle.encode())],
                "retired": sorted(authority.retired),
                "machines": [_machine(each) for each in oldest if not self._is_void(each)],
                "more": len(oldest) >= SHOWN_MAX,
            }
        )

    def _is_void(self, given: GivenCertificate) -> bool:
        """Revoked since, or replaced by another machine of the name."""
        kind, _, name = given.identity_id.partition("/")
        return bool(self._standing.why_void(Identity("edge" if kind == "edge" else "node", name), given.generation))


def _machine(given: GivenCertificate) -> dict[str, Any]:
    return {
        "identity_id": given.identity_id,
        "generation": given.generation,
        "issuer": given.issuer,
        "root": given.root,
        "certified_at": given.certified_at.isoformat(timespec="milliseconds"),
        "not_after": given.not_after.isoformat(timespec="seconds"),
    }
