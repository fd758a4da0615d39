"""The sealer: the one process of the control plane that holds the platform's key.

The controller asks it through `client`, over pipes: what a secret's version is, and a secret file, sealed to a node.
Plain values exist in `child` alone, for one question; `confinement` says what that process cannot do.
"""

from reconciler.sealer.client import SEALER_LIMITS, Sealer

__all__ = ["SEALER_LIMITS", "Sealer"]
