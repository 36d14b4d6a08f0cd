"""The databases of these tests."""

from tests.store.conftest import engine, place, running_postgres

__all__ = ["engine", "place", "running_postgres"]
