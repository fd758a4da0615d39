"""The token of a login, good now: renewed in time, once, however many commands run. Made by `reconciler.cli.client`."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from kit.errors import Refusal, Transient, TrueupError
from reconciler.cli.issuer_login import renew
from reconciler.cli.logins import Login, Logins
from reconciler.oidc.fetching import IssuerHttp

LOCK_S_MAX = 20.0


class StoredToken:
    """Asked by `kit.control_plane` before each request."""

    def __init__(self, logins: Logins, login: Login, http: IssuerHttp | None = None) -> None:
        self._logins = logins
        self._login = login
        self._http = http or IssuerHttp()

    async def __call__(self) -> str:
        if _is_due(self._login):
            async with _locked(self._logins.path(self._login.controller).with_suffix(".lock")):
                self._login = self._logins.find(self._login.controller) or self._login  # another command may have
                if _is_due(self._login):
                    await self._renew()
        return self._login.token

    async def _renew(self) -> None:
        """A token that is still good goes on when the issuer is away or unwilling."""
        oidc = self._login.oidc
        assert oidc is not None
        try:
            token, renewed = await renew(oidc, self._http)
        except TrueupError as error:
            if time.time() < oidc.ends_at_s:
                return
            if isinstance(error, Transient):
                raise
            attempted, fix = f"go on as {self._login.identity}", _again(self._login)
            raise Refusal(attempted, error.why, fix=fix, code="unauthorized") from error
        self._login = replace(self._login, token=token, oidc=renewed)
        self._logins.keep(self._login, current=False)


def _is_due(login: Login) -> bool:
    return login.oidc is not None and bool(login.oidc.refresh_token) and time.time() >= login.oidc.renew_at_s


def _again(login: Login) -> str:
    name = login.oidc.name if login.oidc is not None else ""
    return f"log in again: `trueup login {login.controller} --oidc {name}`"


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Of two commands one renews: a refresh token that is used twice is taken for a stolen one by many issuers."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline_s = time.monotonic() + LOCK_S_MAX
        while not _lock(descriptor):
            if time.monotonic() > deadline_s:
                raise Transient("renew the login", f"another command holds {path}", code="login_busy")
            await asyncio.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
