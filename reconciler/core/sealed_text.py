"""Secret manifests as text: which values stand where, and other ones put in their place.

Called by `trueup secret rewrap` and `edit`. Whatever is not such a value stays byte by byte: comments, layout, other
documents. What comes out is read again and has to say what was asked for, or nothing does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kit.errors import Refusal
from reconciler.core.declared import Declared, Scope, place_of
from reconciler.core.findings import Finding
from reconciler.core.language.context import Context, Memory
from reconciler.core.language.documents import parse_file
from reconciler.core.language.outline import outline
from reconciler.core.language.resolve import resolve_file
from reconciler.core.schema import pointer_join
from reconciler.core.secret_file import SecretManifest
from reconciler.core.yaml_reader import Mark

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BLOCK = re.compile(
    r"\|[^\n]*\n(?P<indent> +)-----BEGIN AGE ENCRYPTED FILE-----(?P<end>\r?\n)"
    r"(?: +[A-Za-z0-9+/=]+\r?\n)+ +-----END AGE ENCRYPTED FILE-----(?:\r?\n|\Z)"
)
"""A value as a block of text, from its `|` to the end of its last line."""
Changes = Mapping[tuple[str, str], str | None]
"""(secret id, key) -> its new armored text; None: the key goes. A key that is not there is added."""


@dataclass(frozen=True, slots=True)
class StandingSecret:
    """`marks`: where the value of each key begins."""

    manifest: SecretManifest
    line: int
    marks: Mapping[str, Mark]


def secrets_in(content: bytes, path: str, scope: Scope) -> tuple[list[StandingSecret], list[Finding]]:
    """All secrets that a file declares. Findings are about its syntax and its Secret manifests alone: for anything else
    in the file more than the file is needed."""
    parsed = parse_file(content, path, "")
    if parsed.findings:
        return [], list(parsed.findings)
    of = outline(parsed)
    file = resolve_file(parsed, of, Context({path: of}, Memory()), scope).file
    found = [_standing(each, each.secret) for each in file.declared if each.secret is not None]
    expected = sum(document.kind == "secret" for document in parsed.documents)
    return found, [] if len(found) == expected else list(file.findings)


def _standing(each: Declared, secret: SecretManifest) -> StandingSecret:
    marks = {key: place_of(each, pointer_join("/spec/values", key)) for key in secret.values}
    return StandingSecret(secret, each.resource.origin.line, marks)


def with_values(content: bytes, path: str, scope: Scope, values: Changes) -> bytes:
    """The file with other armored texts in it. `Refusal` where that cannot be done without touching more."""
    secrets, _ = secrets_in(content, path, scope)
    text = content.decode()
    places = [(mark.line, mark.column, mark, each, key) for each in secrets for key, mark in each.marks.items()]
    for *_, mark, each, key in sorted(places, key=lambda place: place[:2], reverse=True):
        of = str(each.manifest.id)
        if mark is list(each.marks.values())[-1]:
            added = {name: new for (secret, name), new in values.items() if secret == of and name not in each.marks}
            text = _added(text, mark, {name: new for name, new in sorted(added.items()) if new}, path)
        if (of, key) in values:
            text = _replaced(text, mark, values[of, key], path)
    _compare(secrets, secrets_in(text.encode(), path, scope)[0], values, path)
    return text.encode()


def _replaced(text: str, mark: Mark, armored: str | None, path: str) -> str:
    start = offset_of(text, mark)
    if block := _BLOCK.match(text, start):
        if armored is None:
            return text[: text.rfind("\n", 0, start) + 1] + text[block.end() :]
        new = "".join(f"{block['indent']}{line}{block['end']}" for line in armored.strip().splitlines())
        return text[: block.start("indent")] + new + text[block.end() :]
    if armored is not None and (quoted := _QUOTED.match(text, start)):
        return text[:start] + json.dumps(armored) + text[quoted.end() :]
    raise _not_rewritable(path, f"the value at {path}:{mark.line} is not a block of text")


def _added(text: str, last: Mark, added: Mapping[str, str], path: str) -> str:
    """New keys below the last one, laid out as it is."""
    if not added:
        return text
    start = offset_of(text, last)
    block = _BLOCK.match(text, start)
    if block is None:
        raise _not_rewritable(path, f"the value at {path}:{last.line} is not a block of text")
    line = text[text.rfind("\n", 0, start) + 1 : start]
    margin, indent, end = line[: len(line) - len(line.lstrip(" "))], block["indent"], block["end"]
    before = "" if block[0].endswith("\n") else end
    new = "".join(
        f"{margin}{key}: |{end}" + "".join(f"{indent}{each}{end}" for each in armored.strip().splitlines())
        for key, armored in added.items()
    )
    return text[: block.end()] + before + new + text[block.end() :]


def offset_of(text: str, mark: Mark) -> int:
    start = 0
    for _ in range(mark.line - 1):
        start = text.find("\n", start) + 1
    return start + mark.column - 1


def _compare(before: list[StandingSecret], after: list[StandingSecret], values: Changes, path: str) -> None:
    """A last look: exactly what was asked for, and nothing else."""
    wanted: dict[str, dict[str, str]] = {str(each.manifest.id): dict(each.manifest.values) for each in before}
    for (secret, key), armored in values.items():
        wanted[secret].pop(key, None)
        wanted[secret] |= {key: armored} if armored is not None else {}
    found = {str(each.manifest.id): each.manifest.values for each in after}
    if _stripped(wanted) != _stripped(found):
        raise _not_rewritable(path, "what would come out does not say what was asked for")


def _stripped(secrets: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {name: {key: text.strip() for key, text in values.items()} for name, values in secrets.items()}


def _not_rewritable(path: str, why: str) -> Refusal:
    return Refusal(f"rewrite {path}", why, fix="write its values as KEY: | and the lines below", code="not_rewritable")
