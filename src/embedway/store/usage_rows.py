"""A usage line as the database takes it."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec.structs import astuple

from embedway.ledger import UsageLine

_TAGS = UsageLine.__struct_fields__.index("tags")


def usage_values(line: UsageLine) -> tuple[Any, ...]:
    """The line's values in the order of its fields, which is that of the columns."""
    values = [
        _sound(value) if type(value) is str and "\0" in value else value for value in astuple(line)
    ]
    tags = line.tags
    values[_TAGS] = orjson.dumps([*map(_sound, tags)]).decode() if tags else "[]"
    return tuple(values)


def _sound(text: str) -> str:
    """PostgreSQL takes no NUL in a text; it is shown as what stands for no character."""
    return text.replace("\0", "\ufffd")


def usage_row(line: UsageLine) -> dict[str, Any]:
    """The same by column."""
    return dict(zip(UsageLine.__struct_fields__, usage_values(line), strict=True))
