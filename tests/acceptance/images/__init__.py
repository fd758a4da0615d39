"""The demo's images, built from Debian packages only. Served by tests/acceptance/registry.py."""

from tests.acceptance.images.build import build_images

__all__ = ["build_images"]
