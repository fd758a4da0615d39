"""Bugs that are planted on purpose: docs/PLANTED-BUGS.md. `make planted` runs them."""
