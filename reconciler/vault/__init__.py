"""The platform's key, and the only place where a secret's plain value exists in the controller.

    platform.agekey (`key_file`) -> a key for each project (`project_keys`) -> `sealing` and `opening`

A value belongs to the project whose key it was sealed to, and to the environment, app, secret and key that are written
in it. Copied anywhere else it does not open, or is refused. docs/decisions/0027 says why.
"""

from reconciler.vault.offline import resolve_offline
from reconciler.vault.opening import STRICT, Accepted, Vault
from reconciler.vault.project_keys import project_identity
from reconciler.vault.sealing import bound, place_of, seal

__all__ = [
    "STRICT",
    "Accepted",
    "Vault",
    "bound",
    "place_of",
    "project_identity",
    "resolve_offline",
    "seal",
]
