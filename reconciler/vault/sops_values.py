"""The values of a SOPS document, with its data key. Called by `reconciler.vault.opening` alone.

Each value is AES-256-GCM with its path as additional data, and the MAC is SHA-512 over all of them in their order,
encrypted with the time beside it: so a value that was moved to another key, left out, or put in from another document
does not open. The document says for which ENV/APP/NAME it is with the value of `PLACE_KEY`, under the same data key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.core.secret_file import PLACE_KEY, SecretRefusal, SopsDocument

DATA_KEY_BYTES = 32
_ENCRYPTED = re.compile(r"ENC\[AES256_GCM,data:(.+),iv:(.+),tag:(.+),type:(str|int|int64|float|bool|bytes|time)\]")
_ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()
"""What the MAC begins with where it is over the encrypted values only, so that the two kinds differ."""


def sops_values(document: SopsDocument, data_key: bytes) -> tuple[str | None, dict[str, bytes]]:
    """The place that it says, if it says one, and its values. `SecretRefusal` when anything does not fit."""
    mac = hashlib.sha512(_ONLY_ENCRYPTED if document.mac_only_encrypted else b"")
    values: dict[str, bytes] = {}
    before, after = (document.plain_before, document.plain_after) if not document.mac_only_encrypted else ((), ())
    mac.update("".join(before).encode())
    for key, text in document.values:
        plain, kind = _decrypted(text, data_key, f"{document.path}{key}:", key) if text else (b"", "str")
        mac.update(plain)
        values[key] = plain.lower() if kind == "bool" else plain
    mac.update("".join(after).encode())
    told, _ = _decrypted(document.mac, data_key, document.last_modified, "")
    if not hmac.compare_digest(told, mac.hexdigest().upper().encode()):
        what = "values or what stands beside them (env, app, name, protect)" if document.path else "values"
        why = f"the document's MAC does not fit its {what}: some were changed, moved or left out after it was encrypted"
        raise SecretRefusal("", why, "change it with: sops edit; not by hand", "secret_sops_damaged")
    place = values.pop(PLACE_KEY, None)
    return None if place is None else place.decode("utf-8", "replace"), values


def _decrypted(text: str, data_key: bytes, path: str, key: str) -> tuple[bytes, str]:
    match = _ENCRYPTED.fullmatch(text)
    parts, kind = (match.groups()[:3], match[4]) if match else (("", "", ""), "str")
    try:
        data, nonce, tag = (base64.b64decode(part, validate=True) for part in parts)
        return AESGCM(data_key).decrypt(nonce, data + tag, path.encode()), kind
    except (InvalidTag, ValueError, binascii.Error):
        what = f"the value of {key}" if key else "the document's MAC"
        why = f"{what} does not open with the document's data key: it was changed, or is from elsewhere"
        raise SecretRefusal(key, why, "change it with: sops edit; not by hand", "secret_sops_damaged") from None
