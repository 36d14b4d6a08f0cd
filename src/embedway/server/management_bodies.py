"""What comes in at the management routes: read within bounds, decoded, and checked.

Raises InvalidRequest naming the field or the query parameter that is wrong.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request

from embedway.errors import InvalidRequest, RequestTooLarge
from embedway.server.doubles import refuse_doubles
from embedway.server.media_type import check_head
from embedway.server.messages import read_head
from embedway.server.wire import refuse

_LENGTH_DIGITS = 18  # Python refuses to read very long numbers
_Kind = TypeVar("_Kind", bound=Struct)


async def read_object(request: Request, kind: type[_Kind], max_bytes: int) -> _Kind:
    """The body as *kind*."""
    check_head(read_head(request.scope), is_form_allowed=False)
    body = await read_body(request, max_bytes)
    try:
        decoded = msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        refuse(error, body, kind)
    refuse_doubles(body)
    return decoded


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body. Raises RequestTooLarge before too much of it is read."""
    length = request.headers.get("content-length", "0")
    if not _is_number(length) or int(length) > max_bytes:
        raise _too_large(max_bytes)
    parts, size = [], 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The caller hung up before the body was whole.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return b"".join(parts)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LENGTH_DIGITS


def _too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is longer than {max_bytes} bytes. Send less; an export may be sent in parts, or "
        "with 'embedway cache warm', which has no such bound."
    )


def read_query(request: Request, kind: type[_Kind]) -> _Kind:
    """The query as *kind*. A parameter that is misspelt would otherwise mean everything."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in kind.__struct_fields__:
            raise InvalidRequest(f"There is no query parameter {name[:100]!r}.", param=name[:100])
        if name in given:
            raise InvalidRequest(f"The query parameter {name} stands twice.", param=name)
        given[name] = value
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`")
        raise InvalidRequest(f"{name} is wrong: {text.lower()}.", param=name) from None
