"""A writer of SOPS documents, after the format's specification; it shares no code with what reads them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping

import pyrage
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LAST_MODIFIED = "2026-11-26T01:00:00Z"
Value = str | int | float | bool


def encrypted(value: Value, data_key: bytes, path: str) -> str:
    kind = {str: "str", int: "int", float: "float", bool: "bool"}[type(value)]
    if value == "" and kind == "str":
        return ""
    nonce = os.urandom(32)
    out = AESGCM(data_key).encrypt(nonce, _bytes(value), path.encode())
    data, tag = out[:-16], out[-16:]
    parts = (base64.b64encode(part).decode() for part in (data, nonce, tag))
    return "ENC[AES256_GCM,data:{},iv:{},tag:{},type:{}]".format(*parts, kind)


def mac_of(values: Mapping[str, Value], *, only_encrypted: bool = False) -> str:
    digest = hashlib.sha512(hashlib.sha256(b"sops").digest() if only_encrypted else b"")
    for value in values.values():
        digest.update(_bytes(value))
    return digest.hexdigest().upper()


def document(
    form: str,
    values: Mapping[str, Value],
    *recipients: str,
    data_key: bytes | None = None,
    mac: str = "",
    only_encrypted: bool = False,
) -> str:
    key = os.urandom(32) if data_key is None else data_key
    leaves = {name: encrypted(value, key, f"{name}:") for name, value in values.items()}
    mac = encrypted(mac or mac_of(values, only_encrypted=only_encrypted), key, LAST_MODIFIED)
    keys = [(each, _armored(key, each)) for each in recipients]
    return {"dotenv": _dotenv, "json": _json, "yaml": _yaml}[form](leaves, keys, mac, only_encrypted)


def _bytes(value: Value) -> bytes:
    return (str(value) if isinstance(value, bool | str | int) else repr(value)).encode()


def _armored(key: bytes, recipient: str) -> str:
    return str(pyrage.encrypt(key, [pyrage.x25519.Recipient.from_str(recipient)], armored=True).decode())


def _dotenv(leaves: Mapping[str, str], keys: list[tuple[str, str]], mac: str, only_encrypted: bool) -> str:
    lines = [
        "#ENC[AES256_GCM,data:Zm9v,iv:Zm9v,tag:Zm9v,type:comment]",
        *(f"{key}={leaf}" for key, leaf in leaves.items()),
    ]
    for place, (recipient, armored) in enumerate(keys):
        lines.append(f"sops_age__list_{place}__map_enc=" + armored.replace("\n", "\\n"))
        lines.append(f"sops_age__list_{place}__map_recipient={recipient}")
    lines += [f"sops_lastmodified={LAST_MODIFIED}", f"sops_mac={mac}"]
    lines += ["sops_mac_only_encrypted=true"] if only_encrypted else []
    return "\n".join([*lines, "sops_unencrypted_suffix=_unencrypted", "sops_version=3.10.2", ""])


def _json(leaves: Mapping[str, str], keys: list[tuple[str, str]], mac: str, only_encrypted: bool) -> str:
    metadata: dict[str, object] = {
        "age": [{"recipient": recipient, "enc": armored} for recipient, armored in keys],
        "lastmodified": LAST_MODIFIED,
        "mac": mac,
        "unencrypted_suffix": "_unencrypted",
        "version": "3.10.2",
    }
    metadata |= {"mac_only_encrypted": True} if only_encrypted else {}
    return json.dumps({**leaves, "sops": metadata}, indent="\t") + "\n"


def _yaml(leaves: Mapping[str, str], keys: list[tuple[str, str]], mac: str, only_encrypted: bool) -> str:
    lines = ["#ENC[AES256_GCM,data:Zm9v,iv:Zm9v,tag:Zm9v,type:comment]"]
    lines += [f"{key}: {leaf or chr(34) * 2}" for key, leaf in leaves.items()]
    lines += ["sops:", "    kms: []", "    age:"]
    for recipient, armored in keys:
        lines += [f"        - recipient: {recipient}", "          enc: |"]
        lines += [f"            {line}" for line in armored.splitlines()]
    lines += [f'    lastmodified: "{LAST_MODIFIED}"', f"    mac: {mac}"]
    lines += ["    mac_only_encrypted: true"] if only_encrypted else []
    return "\n".join([*lines, "    unencrypted_suffix: _unencrypted", "    version: 3.10.2", ""])
