"""Fixtures that every test may use."""

from tests.postgres import cluster, database, store, store_settings, superuser_url

__all__ = ["cluster", "database", "store", "store_settings", "superuser_url"]
