"""Who signed a commit, and who may. Pure: bytes in, verdicts out; `reconciler.git.signatures` reads and calls."""
