"""Somebody at a terminal: the command line in a home of its own, in front of a controller that runs in the test."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.cli.logins import Login, Logins
from reconciler.cli.main import main

_CODE = re.compile(r"confirm the code (\S+)")
_ADDRESS = re.compile(r"open (\S+) in a browser")
VARIABLES = ("TRUEUP_CONTROLLER", "TRUEUP_TOKEN", "TRUEUP_STATE", "TRUEUP_ROOTS")


@dataclass
class Person:
    logins: Logins
    capsys: pytest.CaptureFixture[str]
    said: str = ""

    async def run(self, *argv: str) -> tuple[int, str, str]:
        """Exit code, what it printed, what it complained about."""
        code = await asyncio.to_thread(main, list(argv))
        out, err = self.capsys.readouterr()
        return code, out, self.said + err

    async def ask(self, *argv: str) -> Any:
        code, out, err = await self.run(*argv, "--output", "json")
        assert code == 0, err
        return json.loads(out)

    async def code(self) -> str:
        """That a running `trueup login` shows."""
        return await self._shown(_CODE)

    async def address(self) -> str:
        return await self._shown(_ADDRESS)

    async def _shown(self, wanted: re.Pattern[str]) -> str:
        async with asyncio.timeout(10):
            while not (found := wanted.search(self.said)):
                self.said += self.capsys.readouterr().err
                await asyncio.sleep(0.02)
        self.said = ""
        return found[1]

    def login(self, controller: str) -> Login:
        found = self.logins.find(controller)
        assert found is not None
        return found
