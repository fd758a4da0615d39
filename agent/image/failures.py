"""What skopeo's words mean, in the reason codes of `kit.wire`. Pure. Used by `fetch`.

skopeo has one exit code for everything, so its message decides. An unknown message is a transient `image_pull_failed`:
to try again later is right for what nobody foresaw. The order of the table matters: the first match wins.
"""

from __future__ import annotations

import re

from agent.image.reference import Reference
from kit.errors import Refusal, Transient, TrueupError

_Kind = tuple[type[TrueupError], str, str, str]  # type, code, why, fix

_MEANINGS: tuple[tuple[str, _Kind], ...] = (
    (
        r"digest did not match|does not match provided manifest digest|unexpected digest",
        (
            Refusal,
            "image_digest_mismatch",
            "the registry {registry} serves other bytes than the digest says",
            "push the image again; if nobody changed the registry's storage, treat it as an attack",
        ),
    ),
    (
        r"http response to https client",
        (
            Refusal,
            "image_pull_failed",
            "the registry {registry} speaks plain HTTP",
            "give it TLS, or name {registry} in the agent's setting insecure_registries",
        ),
    ),
    (
        r"x509:|certificate",
        (
            Refusal,
            "image_pull_failed",
            "the certificate of the registry {registry} is not trusted",
            "add its authority to the node's trust store",
        ),
    ),
    (
        r"unauthorized|authentication required|denied|invalid username|status code 40[13]",
        (
            Refusal,
            "image_pull_failed",
            "the registry {registry} does not let this node read {name}",
            "check the agent's registry credentials",
        ),
    ),
    (
        r"manifest unknown|name unknown|name_unknown|manifest_unknown|repository .* not found|blob unknown|"
        r"status(?: code)?(?: from registry)? 404|404 \(?not found",
        (
            Refusal,
            "image_not_found",
            "the registry {registry} has no {name}@sha256:{digest}",
            "push the image, or correct the reference in the manifest",
        ),
    ),
    (
        r"connection refused|no such host|i/o timeout|timeout|network is unreachable|no route to host|connection reset|"
        r"unexpected eof|\beof\b|toomanyrequests|too many requests|status(?: code)?(?: from registry)? 5\d\d|"
        r"service unavailable|bad gateway|server misbehaving|temporary failure",
        (
            Transient,
            "registry_unreachable",
            "the registry {registry} cannot be reached",
            "check that it runs and that this node can reach it",
        ),
    ),
    (
        r"no space left|disk quota",
        (
            Transient,
            "image_pull_failed",
            "this node's disk is full",
            "free space under the agent's state folder",
        ),
    ),
)


def fetch_failure(reference: Reference, message: str) -> TrueupError:
    """The error to raise for what skopeo wrote on its standard error."""
    words = _last_words(message)
    judged = words.replace(reference.name, "")  # a repository may be called "certificate"
    for pattern, (kind, code, why, fix) in _MEANINGS:
        if re.search(pattern, judged, re.IGNORECASE):
            names = {"registry": reference.registry, "name": reference.name, "digest": reference.digest}
            return kind(f"fetch {reference}", f"{why.format(**names)}: {words}", fix=fix.format(**names), code=code)
    return Transient(
        f"fetch {reference}",
        words or "skopeo failed without a word",
        fix=f"look at the registry {reference.registry} and at this node's disk",
        code="image_pull_failed",
    )


def too_large(reference: Reference, what: str, found: int, bound: int, unit: str) -> Refusal:
    return Refusal(
        f"fetch {reference}",
        f"the image's {what}: {found} {unit}, more than the bound of {bound}",
        fix="make the image smaller",
        code="image_too_large",
    )


def _last_words(message: str) -> str:
    """The msg="..." of the last line that has one, else the last line; without the reference, which an author chose."""
    found = re.findall(r'msg="((?:[^"\\]|\\.)*)"', message)
    lines = message.strip().splitlines()
    words = found[-1].replace('\\"', '"') if found else lines[-1] if lines else ""
    return re.sub(r'^Error parsing image name "[^"]*": ', "", words)[:500]
