"""One transaction at a time, for whoever is told at once when the database fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from embedway.store.database import StoreError, reason


@contextmanager
def reading(engine: Engine, what: str) -> Iterator[Connection]:
    """To read *what*, such as "the keys". Raises StoreError."""
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StoreError(f"{what} cannot be read: {type(error).__name__}") from None


@contextmanager
def writing(engine: Engine, what: str) -> Iterator[Connection]:
    """To write *what*: all of it or nothing. Raises StoreError."""
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StoreError(f"{what} cannot be written: {reason(error)}") from None
