"""A join token: join:KIND:NAME:ID:SECRET:FINGERPRINT. Pure.

Made by the controller, read by it again and by the machine that joins. The machine takes from it who it is, and the
SHA-256 of the roots that it may trust, so that nobody in between can pass for the controller.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kit.errors import Refusal
from kit.machine_names import MachineKind

TOKEN_CHARS_MAX = 256
_TOKEN = re.compile(
    r"join:(node|edge):([a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?):(j-[a-z0-9]{4,40}):([A-Za-z0-9_-]{43}):([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class JoinToken:
    kind: MachineKind
    name: str
    token_id: str
    secret: str
    fingerprint: str

    def __str__(self) -> str:
        return f"join:{self.kind}:{self.name}:{self.token_id}:{self.secret}:{self.fingerprint}"

    def __repr__(self) -> str:
        return f"JoinToken({self.kind} {self.name}, {self.token_id})"


def parse_join_token(text: str) -> JoinToken:
    """`Refusal` for anything else; the text is not repeated."""
    found = _TOKEN.fullmatch(text.strip()) if len(text) <= TOKEN_CHARS_MAX else None
    if found is None:
        fix = "`trueup node token NAME` or `trueup edge token NAME` makes one"
        raise Refusal("join", "that is no join token", fix=fix, code="join_refused")
    return JoinToken("node" if found[1] == "node" else "edge", found[2], found[3], found[4], found[5])
