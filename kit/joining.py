"""Joining a fleet with a join token, and keeping the certificate fresh. Used by the bootstraps of agent and edge.

`joined` is what a machine talks with. `join_fleet` joins where that is wanted: no certificate yet, or a token that is
not the one of last time.
`keep_renewed` promises a certificate that is renewed at about half its life; connections that are open are not touched.
A controller that is away is tried again and again; a certificate that expired meanwhile is renewed with its own key.
A refusal (revoked, another machine joined under the name) is logged and tried again seldom: what runs here runs on.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp

from kit import logs
from kit.backoff import Backoff
from kit.control_plane import ControlPlane
from kit.errors import Refusal, TrueupError
from kit.join_token import JoinToken, parse_join_token
from kit.machine_identity import MachineIdentity, new_key, trusting, trusting_nobody

RENEW_BACKOFF = Backoff(first_s=1.0, cap_s=60.0)
JOIN_BACKOFF = Backoff(first_s=0.5, cap_s=15.0)
REFUSED_WAIT_S = 60.0
JITTER = 0.1
"""Of a certificate's life, around its half: a fleet that joined at once does not renew at once."""
_log = logs.get("identity")


@asynccontextmanager
async def joined(
    identity: MachineIdentity, controller: str, join_token: str, bearer_token: str
) -> AsyncIterator[ControlPlane]:
    """What a machine talks to the controller with, for as long as it runs. A controller that cannot be reached while it
    has to join is waited for. `bearer_token`: of earlier versions, for a machine that has not joined."""
    rng = random.Random()  # noqa: S311  # jitter
    await _join_patiently(identity, controller, join_token, rng)
    if not identity.exists:
        if not bearer_token:
            identity.bundle()  # says what is missing
        async with ControlPlane(controller, bearer_token) as control_plane:
            yield control_plane
        return
    async with ControlPlane(controller, identity=identity) as control_plane:
        renewing = asyncio.create_task(keep_renewed(identity, controller, control_plane, rng), name="certificate")
        try:
            yield control_plane
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)


async def _join_patiently(identity: MachineIdentity, controller: str, token: str, rng: random.Random) -> None:
    for failures in itertools.count(1):
        try:
            return await join_fleet(identity, controller, token)
        except Refusal as error:
            if not identity.exists:
                raise
            _log.error("not joined anew, the former certificate goes on", why=str(error), code=error.code)
            return None
        except TrueupError as error:
            if identity.exists:
                return None
            _log.warning("not joined yet", failures=failures, why=str(error))
            await asyncio.sleep(JOIN_BACKOFF.delay_s(failures, rng))
    raise AssertionError("unreachable")


async def join_fleet(identity: MachineIdentity, controller: str, token_text: str) -> None:
    """`Refusal`: the token is not good, is another machine's, or the controller is not the one that it is from."""
    if not token_text:
        return
    token = parse_join_token(token_text)
    if (token.kind, token.name) != (identity.kind, identity.name):
        why = f"the join token is for {token.kind} {token.name}"
        fix = f"`trueup {identity.kind} token {identity.name}` prints one"
        raise Refusal(f"join as {identity.kind} {identity.name}", why, fix=fix, code="join_refused")
    if identity.exists and identity.joined_with == token.token_id:
        return
    if not controller.startswith("https://"):
        raise Refusal(
            f"join the fleet of {controller}",
            "a machine joins over https:// only",
            fix="the address is printed beside the token",
            code="settings_invalid",
        )
    domain, bundle = await _trust(controller, token)
    key = identity.joining_key()
    async with ControlPlane(controller, tls=trusting(bundle)) as control_plane:
        document = {"token": str(token), "csr": identity.request(key, domain)}
        answer = await control_plane.post_json("/v1/join", document)
    identity.keep(key, answer["certificate"], answer["bundle"], token_id=token.token_id)
    _log.info("joined", kind=identity.kind, name=identity.name, domain=domain)


async def keep_renewed(
    identity: MachineIdentity, controller: str, control_plane: ControlPlane, rng: random.Random
) -> None:
    """Until cancelled. `control_plane`: one that uses this identity."""
    failures = 0
    while True:
        await asyncio.sleep(RENEW_BACKOFF.delay_s(failures, rng) if failures else _until_renewal_s(identity, rng))
        try:
            await (_come_back(identity, controller) if _expired(identity) else _renew(identity, control_plane))
            failures = 0
        except Refusal as error:
            failures += 1
            _log.error("certificate not renewed", why=str(error), code=error.code, fix=error.fix)
            await asyncio.sleep(REFUSED_WAIT_S)
        except TrueupError as error:
            failures += 1
            _tell(identity, error, failures)


def _tell(identity: MachineIdentity, error: TrueupError, failures: int) -> None:
    if not isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError):
        _log.warning("certificate not renewed yet", failures=failures, why=str(error))
        return
    fix = (
        "look at the clocks of both hosts; when the roots were changed while this machine was away, it joins anew: "
        f"`trueup {identity.kind} token {identity.name}`, and start it with that --join-token"
    )
    why = f"the controller's certificate leads to no root that is known here: {error}"
    _log.error("certificate not renewed", failures=failures, why=why, code="controller_foreign", fix=fix)


async def _trust(controller: str, token: JoinToken) -> tuple[str, str]:
    """The domain and the roots, which are those that the token names."""
    async with ControlPlane(controller, tls=trusting_nobody()) as control_plane:
        answer = await control_plane.get_json("/v1/trust")
    bundle = str(answer.get("bundle", ""))
    if hashlib.sha256(bundle.encode()).hexdigest() != token.fingerprint:
        raise Refusal(
            f"join the fleet of {controller}",
            "its roots are not those that the join token names",
            fix="look who answers at that address; a token that was made before a change of roots is made anew",
            code="controller_foreign",
        )
    return str(answer["domain"]), bundle


async def _renew(identity: MachineIdentity, control_plane: ControlPlane) -> None:
    key = new_key()
    document = {"csr": identity.request(key, identity.domain())}
    answer = await control_plane.post_json(f"/v1/{identity.kind}s/{identity.name}/renew", document)
    identity.keep(key, answer["certificate"], answer["bundle"])
    _log.info("certificate renewed", until=identity.lifetime()[1].isoformat())


async def _come_back(identity: MachineIdentity, controller: str) -> None:
    """With the key of the certificate that has expired: TLS would refuse the certificate itself."""
    key = identity.key()
    document = {"certificate": identity.certificate(), "csr": identity.request(key, identity.domain())}
    async with ControlPlane(controller, tls=trusting(identity.bundle())) as control_plane:
        answer = await control_plane.post_json("/v1/join", document)
    identity.keep(key, answer["certificate"], answer["bundle"])
    _log.warning("an expired certificate was renewed", until=identity.lifetime()[1].isoformat())


def _until_renewal_s(identity: MachineIdentity, rng: random.Random) -> float:
    begin, end = identity.lifetime()
    share = 0.5 + JITTER * (2 * rng.random() - 1)
    return max(0.0, (begin + (end - begin) * share - datetime.now(UTC)).total_seconds())


def _expired(identity: MachineIdentity) -> bool:
    return datetime.now(UTC) >= identity.lifetime()[1]
