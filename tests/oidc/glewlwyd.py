"""A real OpenID Connect provider: glewlwyd, from Debian, on loopback with a database of its own; up in 0.1 s.

It has one public client, `trueup`. Ann is in the groups ops and dev, Bob is a guest; `sign` stands in for a browser.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.oidc.issuer import jwk_of
from tests.oidc.package import LIBRARIES, unpacked

CLIENT = "trueup"
DEADLINE_S = 20.0
_SCHEMA = Path("usr", "share", "dbconfig-common", "data", "glewlwyd", "install", "sqlite3")
_ADMIN = {"username": "admin", "password": "password"}  # as its schema makes it
_ANN = {"username": "ann", "password": "annspassword"}
STRANGER = {"username": "bob", "password": "bobspassword"}
_CONFIG = """\
port={port}
bind_address="127.0.0.1"
external_url="{url}"
login_url="login.html"
api_prefix="api"
static_files_path="{tree}/usr/share/glewlwyd/webapp/"
log_mode="console"
log_level="ERROR"
cookie_domain="127.0.0.1"
cookie_secure=0
session_expiration=86400
session_key="session"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="{tree}/usr/lib/glewlwyd/user"
user_middleware_module_path="{folder}"
client_module_path="{tree}/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="{tree}/usr/lib/glewlwyd/scheme"
plugin_module_path="{tree}/usr/lib/glewlwyd/plugin"
hash_algorithm="SHA512"
database = {{ type="sqlite3" path="{folder}/glewlwyd.db" }};
"""


@dataclass
class Glewlwyd:
    url: str
    folder: Path

    @property
    def issuer(self) -> str:
        return f"{self.url}/api/oidc"

    async def sign(self, user_code: str, person: dict[str, str] = _ANN) -> None:
        """Ann opens the address, logs in, and says that the device with this code is hers."""
        async with self._session() as browser:
            await _call(browser, "POST", f"{self.url}/api/auth/", json=person)
            await _call(browser, "PUT", f"{self.url}/api/auth/grant/{CLIENT}", json={"scope": "openid"})
            await _call(browser, "GET", f"{self.issuer}/device", params={"code": user_code, "g_continue": ""})

    async def use_key(self, kid: str) -> None:
        """The issuer signs with a new key from now on, and knows no other."""
        async with self._session() as admin:
            await _call(admin, "POST", f"{self.url}/api/auth/", json=_ADMIN)
            document = {"module": "oidc", "name": "oidc", "display_name": "oidc", "parameters": self._parameters(kid)}
            await _call(admin, "PUT", f"{self.url}/api/mod/plugin/oidc", json=document)
            await _call(admin, "PUT", f"{self.url}/api/mod/plugin/oidc/reset", json={})

    async def prepare(self) -> None:
        async with self._session() as admin:
            await _until_up(admin, f"{self.url}/config")
            await _call(admin, "POST", f"{self.url}/api/auth/", json=_ADMIN)
            document = {"module": "oidc", "name": "oidc", "display_name": "oidc", "parameters": self._parameters("k1")}
            await _call(admin, "POST", f"{self.url}/api/mod/plugin/", json=document)
            await _call(admin, "POST", f"{self.url}/api/client/", json=_client())
            await self._know_groups(admin)
            ann = {**_ANN, "name": "Ann", "enabled": True, "scope": ["g_profile", "openid"], "groups": ["ops", "dev"]}
            bob = {**STRANGER, "name": "Bob", "enabled": True, "scope": ["g_profile", "openid"], "groups": ["guests"]}
            for each in (ann, bob):
                await _call(admin, "POST", f"{self.url}/api/user/", json=each)

    async def _know_groups(self, admin: aiohttp.ClientSession) -> None:
        path = f"{self.url}/api/mod/user/database"
        module = await _call(admin, "GET", path)
        module["parameters"]["data-format"]["groups"] = {"multiple": True, "read": True, "write": True}
        await _call(admin, "PUT", path, json=module)
        await _call(admin, "PUT", f"{path}/reset/", json={})

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    def _parameters(self, kid: str) -> dict[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        private = {**json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key)), "kid": kid, "alg": "ES256"}
        return {
            "iss": self.issuer,
            "jwks-private": json.dumps({"keys": [private]}),
            "jwks-public": json.dumps({"keys": [jwk_of(key, kid, "ES256")]}),
            "default-kid": kid,
            "jwks-show": True,
            "access-token-duration": 600,
            "refresh-token-duration": 86400,
            "code-duration": 600,
            "refresh-token-rolling": True,
            "allow-non-oidc": False,
            "auth-type-code-enabled": True,
            "auth-type-token-enabled": False,
            "auth-type-id-token-enabled": True,
            "auth-type-password-enabled": False,
            "auth-type-client-enabled": False,
            "auth-type-refresh-enabled": True,
            "auth-type-device-enabled": True,
            "device-authorization-expiration": 600,
            "device-authorization-interval": 1,
            "subject-type": "public",
            "claims": [{"name": "groups", "user-property": "groups", "type": "string", "mandatory": True}],
        }


def _client() -> dict[str, Any]:
    return {
        "client_id": CLIENT,
        "name": CLIENT,
        "enabled": True,
        "confidential": False,
        "authorization_type": ["device_authorization", "refresh_token"],
        "redirect_uri": [],
        "scope": ["openid"],
    }


@asynccontextmanager
async def glewlwyd(folder: Path) -> AsyncIterator[Glewlwyd]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    folder.mkdir(parents=True)
    config = folder / "glewlwyd.conf"
    tree = await asyncio.to_thread(unpacked)
    config.write_text(_CONFIG.format(port=port, url=url, folder=folder, tree=tree))
    with sqlite3.connect(folder / "glewlwyd.db") as database:
        database.executescript((tree / _SCHEMA).read_text())
    database.close()
    command = [str(tree / "usr" / "bin" / "glewlwyd"), "--config-file", str(config)]
    libraries = {"LD_LIBRARY_PATH": str(tree / LIBRARIES)}
    with (folder / "glewlwyd.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=libraries)
    try:
        made = Glewlwyd(url, folder)
        await made.prepare()
        yield made
    finally:
        process.terminate()
        await process.wait()


async def _call(session: aiohttp.ClientSession, method: str, url: str, **more: Any) -> Any:
    async with session.request(method, url, **more) as answer:
        body = await answer.read()
        assert answer.status == 200, (method, url, answer.status, body[:500])
        return json.loads(body) if body.startswith(b"{") else None


async def _until_up(session: aiohttp.ClientSession, url: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            await _call(session, "GET", url)
            break
        except aiohttp.ClientError:
            assert time.monotonic() < deadline_s, "glewlwyd does not come up"
            await asyncio.sleep(0.02)
