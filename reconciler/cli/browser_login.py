"""Logging in where the issuer has no device grant: a code that the browser brings to this host (RFC 8252, PKCE).

Used by `reconciler.cli.issuer_login`. The listener is on loopback, for this one answer; what does not know the state
that was made here is turned away and waited past. The code is worth nothing without the verifier, which never leaves
this process but to the issuer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

from aiohttp import web

from kit.errors import Refusal

WAIT_S_MAX = 600.0
CODE_CHARS_MAX = 4096
_DONE = "You are logged in; this window can be closed.\n"


async def authorization_code(
    authorize: str, issuer: str, client_id: str, scopes: tuple[str, ...], show: Callable[[str], None]
) -> dict[str, str]:
    """What the token endpoint wants to have."""
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    async with _listening(state) as (redirect_uri, answered):
        query = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(scopes),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        show(f"open {authorize}{'&' if '?' in authorize else '?'}{urlencode(query)} in a browser on this host")
        try:
            answer = await asyncio.wait_for(answered, WAIT_S_MAX)
        except TimeoutError as error:
            raise _refused(issuer, "nobody logged in in time") from error
    code = answer.get("code", "")
    if answer.get("iss", issuer) != issuer:
        raise _refused(issuer, "another issuer has answered")
    if not 0 < len(code) <= CODE_CHARS_MAX:
        raise _refused(issuer, f"it answered {answer.get('error', 'without a code')[:100]}")
    return {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}


@asynccontextmanager
async def _listening(state: str) -> AsyncIterator[tuple[str, asyncio.Future[Mapping[str, str]]]]:
    answered: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def callback(request: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        if answered.done() or not hmac.compare_digest(request.query.get("state", "").encode(), state.encode()):
            return web.Response(status=400, text="This is not what was asked for.\n", headers=headers)
        answered.set_result(dict(request.query))
        return web.Response(text=_DONE, headers=headers)

    app = web.Application()
    app.router.add_get("/callback", callback)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/callback", answered
    finally:
        await runner.cleanup()


def _refused(issuer: str, why: str) -> Refusal:
    return Refusal(f"log in at {issuer}", why, fix="log in again: `trueup login`", code="unauthorized")
