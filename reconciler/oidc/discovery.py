"""An issuer's discovery document (OpenID Connect Discovery 1.0), as far as it may be believed.

Read for the issuer's keys by `reconciler.oidc.issuer_keys` and for its other endpoints by `trueup login`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kit.errors import Refusal
from reconciler.oidc.addresses import check_endpoint
from reconciler.oidc.fetching import IssuerHttp


@dataclass(frozen=True, slots=True)
class Discovery:
    """`hosts`: where it may lead beside the issuer's own host. `loopback`: whether to http:// on this host."""

    issuer: str
    document: Mapping[str, Any]
    hosts: Collection[str] = ()
    loopback: bool = False

    def endpoint(self, name: str) -> str:
        """`Refusal` when there is none, or when it leads elsewhere."""
        return check_endpoint(self.document.get(name), name, self.issuer, hosts=self.hosts, loopback=self.loopback)

    def has(self, name: str) -> bool:
        return bool(self.document.get(name))


async def discover(issuer: str, http: IssuerHttp, *, hosts: Collection[str] = (), loopback: bool = False) -> Discovery:
    document = await http.get(issuer.rstrip("/") + "/.well-known/openid-configuration")
    if document.get("issuer") != issuer:
        found = str(document.get("issuer"))[:200]
        raise Refusal(
            f"read the discovery document of {issuer}",
            f"it is that of another issuer, {found!r}",
            fix="the setting `issuer` has to be what the document says, to the last slash",
            code="issuer_invalid",
        )
    return Discovery(issuer, document, hosts, loopback)
