"""The sealer, from the controller's side: asked with a bound, killed when it does not answer, started anew.

`reconciler.bootstrap` makes one for the controller. It answers as `reconciler.vault.Vault` does, and nothing of what it
answers is a value. Blocks: call it in a worker thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kit import logs
from kit.errors import Transient
from kit.sealed_file import Binding
from reconciler.core.secret_file import ResolvedSecret, SecretManifest, SecretRefusal
from reconciler.git.bounded import wire
from reconciler.git.bounded.limits import Limits
from reconciler.git.bounded.process import ReaderDied, ReadingProcess
from reconciler.vault import STRICT, Accepted
from reconciler.vault.opening import stamp_of

SEALER_LIMITS = Limits(
    memory_bytes=1 << 30, question_s=20.0, note_bytes=16 * 1024, open_files=32, request_bytes=8 << 20
)
TRIES = 2
"""A question can be asked again: it changes nothing."""
RECIPIENTS_KEPT_MAX = 4096
_T = TypeVar("_T")
_log = logs.get("sealer")


class Sealer:
    """`key`: the platform's key file, which this process never reads."""

    def __init__(self, key: Path, limits: Limits = SEALER_LIMITS) -> None:
        self._key = key
        self._process = ReadingProcess(limits, ("-m", "reconciler.sealer"))
        self._recipients: dict[tuple[str, str], str] = {}
        self._stamp: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def open_or_create(cls, key: Path) -> Sealer:
        """See `reconciler.vault.key_file.read_or_create`."""
        sealer = cls(key)
        try:
            missing = sealer._ask(list[str], "open_or_create")
        except BaseException:
            sealer.close()
            raise
        if missing:
            _log.warning("the sealer is less confined than it could be", missing="; ".join(missing))
        return sealer

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def close(self) -> None:
        self._process.close()

    def recipient_of(self, org: str, project: str) -> str:
        """Remembered, because status pages ask for all of them; asked anew when the key file is another one."""
        stamp = stamp_of(self._key)
        if stamp != self._stamp or len(self._recipients) >= RECIPIENTS_KEPT_MAX:
            self._recipients, self._stamp = {}, stamp
        if (org, project) not in self._recipients:
            self._recipients[org, project] = self._ask(str, "recipient_of", org, project)
        return self._recipients[org, project]

    def resolve(self, secret: SecretManifest, accepted: Accepted = STRICT) -> ResolvedSecret:
        return self._ask(ResolvedSecret, "resolve", secret, accepted)

    def fits(self, secret: SecretManifest, version_id: str) -> bool:
        return self._ask(bool, "fits", secret, version_id)

    def seal_file(self, parts: Sequence[tuple[SecretManifest, str]], recipient: str, binding: Binding) -> bytes:
        return self._ask(bytes, "seal_file", list(parts), recipient, binding)

    def _ask(self, kind: type[_T], what: str, *arguments: Any) -> _T:
        for left in reversed(range(TRIES)):
            try:
                (done,) = self._process.ask(what, str(self._key), *arguments)
                break
            except ReaderDied as died:
                _log.warning("the sealer ended", question=what, how=died.how)
                if died.cut_off or not left:
                    raise _ended(what, died) from died
        assert isinstance(done, wire.Done)
        answered = done.value
        for level, message, fields in answered["told"]:
            (_log.warning if level in ("warning", "error") else _log.info)(message, **fields)
        if answered["refused"] is not None:
            raise SecretRefusal(*answered["refused"])
        return msgspec.convert(answered["value"], kind)


def _ended(what: str, died: ReaderDied) -> Transient:
    fix = "nothing is changed, and it is started anew; if it stays so, look at the host's memory"
    return Transient(f"ask the sealer ({what})", f"it ended: {died.how}", fix=fix, code="sealer_ended")
