"""Words that are no names, in every place of every path and query of a real controller: refused or not found, never a
500, never another row, and afterwards the database is as it was.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import asyncpg
from yarl import URL

from kit.codec import to_json
from kit.wire import Enrolment
from reconciler.core.tokens import make_token
from reconciler.settings import ControllerSettings
from tests.acceptance.repository import Repository
from tests.integration.cli.test_controller import APP, ENVIRONMENT, controller_running

NAMES = {"node": "node-a", "edge": "edge-a", "operator": "ops", "webhook": "main"}
LONG = "y" * 3900
WORDS = {
    "a quote": "'",
    "or true": "' OR '1'='1",
    "union": "x' UNION SELECT version()--",
    "drop": "'; DROP TABLE trueup.events; --",
    "a dollar": "$1",
    "a place": "${0} {0} %s %(a)s",
    "a backslash": "\\'",
    "a wildcard": "%",
    "a letter's wildcard": "_ode-a",
    "an identifier": '"',
    "a comment": "/**/",
    "up": "../../../etc/passwd",
    "up, encoded twice": "..%2f..%2f",
    "a twin": "node‑a",
    "letters of another alphabet": "nоde-а",
    "a ligature": "ﬁle",
    "upper case": "NODE-A",
    "a space behind": "node-a ",
    "turned around": "‮a-edon",
    "lines": "node-a\r\nX-Injected: yes",
    "long": LONG,
    "an emoji": "\U0001f600" * 200,
}
RAW = {
    "a NUL": "%00",
    "a NUL behind": "node-a%00",
    "no UTF-8": "%ff%fe",
    "half a surrogate": "%ed%a0%80",
    "overlong": "%c0%ae%c0%ae%c0%af",
    "no escape": "%zz",
    "beyond the line": "y" * 8200,
}
SENT = {name: quote(word, safe="") for name, word in WORDS.items()} | RAW
FOUND_RIGHTLY = {("actor", "upper case")}
"""People are found by a part of their name, in whatever case."""
SHOWN = ("view_nodes", "view_resources", "claims", "events", "commands", "log_head")


async def test_no_word_is_more_than_a_word(superuser_url: str, tmp_path: Path) -> None:
    repository = Repository.create(tmp_path)
    repository.write("env.yaml", ENVIRONMENT)
    repository.write("site.yaml", APP)
    repository.push("Serve the site")
    settings = ControllerSettings(
        repository=str(repository.origin), state=tmp_path / "state", listen="127.0.0.1:0", database_url=superuser_url,
        poll_interval_s=3600.0, http_requests_per_s=5000.0, http_unproven_per_s=5000.0,
    )  # fmt: skip
    async with controller_running(settings) as url, aiohttp.ClientSession() as session:
        key = (settings.state / "token.key").read_bytes()
        api = Api(url, key, session)
        enrolment = Enrolment("node-a", "fd00:0:0:1::/64", 4 << 30, 2.0, 10 << 30, "age1x", "tcg", "0.1.0")
        await api.ask("POST", "/v1/nodes/node-a/enrol", "node", to_json(enrolment))
        await settled(superuser_url)
        before = await contents(superuser_url)
        asked, wrong = 0, []
        for method, path, operation in await api.operations():
            for place, words in places(path, operation):
                for name, word in words.items():
                    if (place, name) in FOUND_RIGHTLY:
                        continue
                    if why := await api.try_word(method, path, place, word, operation):
                        wrong.append((why, method, path, place, name))
                    asked += 1
        assert wrong == []
        assert asked > 1000
        assert await contents(superuser_url) == before
        assert "X-Injected" not in "".join(api.headers_seen)


def places(path: str, operation: Any) -> list[tuple[str, dict[str, str]]]:
    """Each parameter of the path by its name in braces, each of the query by its name; and one that nobody knows."""
    found = [(part, SENT) for part in path.split("/") if part.startswith("{")]
    queries = [each["name"] for each in operation.get("parameters", ()) if each.get("in") == "query"]
    return [*found, *((name, SENT) for name in queries if name not in ("wait", "min_event_id"))]


class Api:
    def __init__(self, url: str, key: bytes, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._key = key
        self._session = session
        self.headers_seen: set[str] = set()

    async def operations(self) -> list[tuple[str, str, Any]]:
        async with self._session.get(f"{self._url}/openapi.json") as answer:
            described = await answer.json()
        parameters = described["components"]["parameters"]
        found = []
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                named = [
                    parameters[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
                    for each in operation.get("parameters", ())
                ]
                found.append((method.upper(), path, {**operation, "parameters": named}))
        return found

    async def try_word(self, method: str, path: str, place: str, word: str, operation: Any) -> str:
        """What is wrong with the answer."""
        role = min(operation["x-roles"])
        filled = path.replace(place, word) if place.startswith("{") else path
        for own, value in {**NAMES, "view": "nodes", "key": "node-a", "source": "main"}.items():
            filled = filled.replace("{" + own + "}", value)
        filled = filled.replace("{instance}", "i-1").replace("{token}", "t-1")
        query = "" if place.startswith("{") else f"?{place}={word}"
        if path == "/v1/stream":
            query += ("&" if query else "?") + "wait=0"
        status, text = await self.ask(method, filled + query, role)
        if status in (429, 500, 502):
            return f"{status}: {text[:200]}"
        if status >= 400:
            return "" if json.loads(text)["code"] != "internal" else text[:200]
        if method == "POST":
            return f"something was done: {text[:200]}"
        if place.startswith("{"):
            return f"something was found: {text[:200]}"
        document = json.loads(text.splitlines()[0]) if text else {}
        rows = [each for each in document.get("rows", ()) if place != "after" or each["key"] <= unquote(word)]
        return f"a row was found: {text[:300]}" if document.get("events") or rows else ""

    async def ask(self, method: str, path: str, role: str, document: Any = None) -> tuple[int, str]:
        headers = {}
        if role in NAMES:
            headers["Authorization"] = f"Bearer {make_token(self._key, role, NAMES[role])}"  # type: ignore[arg-type]
        async with self._session.request(
            method, URL(self._url + path, encoded=True), headers=headers, json=document if method == "POST" else None
        ) as answer:
            self.headers_seen |= set(answer.headers)
            return answer.status, await answer.text()


async def settled(database_url: str) -> None:
    """Nothing is written any more by itself."""
    async with asyncio.timeout(30):
        last = -1
        while True:
            now = (await contents(database_url))["events"]
            if now == last and now > 3:
                return
            last = now
            await asyncio.sleep(1)


async def contents(database_url: str) -> dict[str, int]:
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "trueup"})
    try:
        return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in SHOWN}  # fixed
    finally:
        await connection.close()
