"""Whether the database is sound and can be written, for `embedway doctor`."""

from __future__ import annotations

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from embedway.store.database import StoreError, reason


def check_database(engine: Engine) -> None:
    """Read every page, and write without leaving a trace. Raises StoreError saying what is wrong.

    May take seconds for a large file: `quick_check` reads all of it
    (https://sqlite.org/pragma.html). The pages of a PostgreSQL are its own affair.
    """
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                found = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
                if found != "ok":
                    raise StoreError(f"the database is damaged: {found}")
            connection.execute(text("UPDATE migrations SET name = name"))
            connection.rollback()
    except SQLAlchemyError as error:
        raise StoreError(f"the database cannot be written: {reason(error)}") from None
