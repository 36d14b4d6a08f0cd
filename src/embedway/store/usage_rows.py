"""A usage line as the database takes it."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec.structs import astuple

from embedway.ledger import UsageLine


def usage_values(line: UsageLine) -> tuple[Any, ...]:
    """The line's values in the order of its fields, which is that of the columns.

    PostgreSQL takes no NUL in a text; it is shown as what stands for no character.
    """
    return tuple(
        value.replace("\0", "\ufffd")
        if type(value) is str
        else orjson.dumps([tag.replace("\0", "\ufffd") for tag in value]).decode()
        if type(value) is tuple
        else value
        for value in astuple(line)
    )


def usage_row(line: UsageLine) -> dict[str, Any]:
    """The same by column."""
    return dict(zip(UsageLine.__struct_fields__, usage_values(line), strict=True))
