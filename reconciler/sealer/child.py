"""The sealer's own process: answers one question after the other until its input ends.

Started by `client` as `python -m reconciler.sealer`, over the frames of `reconciler.git.bounded.wire`. An answer holds
version ids, sizes, words about what is wrong, or what is sealed to a node; never a value. What the vault logs goes
along with the answer, and the controller logs it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import TrueupError
from kit.sealed_file import Binding
from reconciler.core.secret_file import SecretManifest, SecretRefusal
from reconciler.git.bounded import wire
from reconciler.git.bounded.limits import Limits
from reconciler.sealer.confinement import confine
from reconciler.vault import Accepted, Vault

TOLD_MAX = 20
Parts = list[tuple[SecretManifest, str]]


class _Answered(msgspec.Struct, frozen=True):
    """`refused`: of a `SecretRefusal`, what it is made from. `told`: level, message, fields."""

    value: Any = None
    refused: tuple[str, str, str, str] | None = None
    told: tuple[tuple[str, str, dict[str, str]], ...] = ()


class _Told(logging.Handler):
    """What was logged during a question."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[str, str, dict[str, str]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < TOLD_MAX:
            fields = {str(key): str(value) for key, value in getattr(record, "fields", {}).items()}
            self.lines.append((record.levelname.lower(), record.getMessage(), fields))

    def taken(self) -> tuple[tuple[str, str, dict[str, str]], ...]:
        lines, self.lines = self.lines, []
        return tuple(lines)


def _resolve(vault: Vault, secret: Any, accepted: Any) -> Any:
    return vault.resolve(msgspec.convert(secret, SecretManifest), msgspec.convert(accepted, Accepted))


def _fits(vault: Vault, secret: Any, version_id: str) -> Any:
    return vault.fits(msgspec.convert(secret, SecretManifest), version_id)


def _seal_file(vault: Vault, parts: Any, recipient: str, binding: Any) -> Any:
    return vault.seal_file(msgspec.convert(parts, Parts), recipient, msgspec.convert(binding, Binding))


QUESTIONS: Mapping[str, Callable[..., Any]] = {
    "recipient_of": Vault.recipient_of,
    "resolve": _resolve,
    "fits": _fits,
    "seal_file": _seal_file,
}


class _Sealing:
    def __init__(self, missing: list[str], told: _Told) -> None:
        self._missing = missing
        self._told = told
        self._vaults: dict[str, Vault] = {}

    def answer(self, ask: wire.Ask) -> wire.Answer:
        try:
            value, refused = self._value(ask), None
        except SecretRefusal as refusal:
            value, refused = None, (refusal.key, refusal.why, refusal.fix, refusal.code)
        except TrueupError as error:
            return wire.Failed(error.attempted, error.why, error.fix, error.code, error.retryable)
        return wire.Done(_Answered(value, refused, self._told.taken()))

    def _value(self, ask: wire.Ask) -> Any:
        if ask.what == "open_or_create":
            self._vaults[ask.repository] = Vault.open_or_create(Path(ask.repository))
            return self._missing
        if ask.repository not in self._vaults:
            self._vaults[ask.repository] = Vault(Path(ask.repository))
        return QUESTIONS[ask.what](self._vaults[ask.repository], *ask.arguments)


def main() -> int:
    limits = msgspec.json.decode(sys.argv[1], type=Limits)
    told = _Told()
    logging.getLogger().handlers[:] = [told]
    logging.getLogger("trueup").setLevel(logging.INFO)
    sealing = _Sealing(confine(limits), told)
    questions, answers = sys.stdin.buffer, wire.answers(sys.stdout, sys.stderr)
    while True:
        try:
            body = wire.read_frame(questions.read, limits.request_bytes)
        except wire.FrameError:
            return 0  # the controller is gone
        try:
            answers.write(wire.frame(sealing.answer(msgspec.msgpack.decode(body, type=wire.Ask))))
            answers.flush()
        except MemoryError:
            os._exit(limits.memory_exit)
