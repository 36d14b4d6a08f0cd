"""What comes in at `/v1/management/cache`: read within bounds, decoded, and checked.

Raises InvalidRequest naming the field, the query parameter or the line that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace
from starlette.requests import Request

from embedway.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from embedway.server.doubles import refuse_doubles
from embedway.server.management_schemas import Choice, PurgeBody
from embedway.server.media_type import check_head
from embedway.server.messages import Incoming, read_head
from embedway.server.wire import refuse
from embedway.vector_files import MEDIA_TYPE, Entry, Unsound, read_line

_ONE = "application/json"
_LINES = (MEDIA_TYPE, "application/x-ndjson", "", _ONE)
_LENGTH_DIGITS = 18  # Python refuses to read very long numbers
_decode_purge = msgspec.json.Decoder(PurgeBody).decode


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
        f"The body is longer than {max_bytes} bytes. Send it in parts, or use "
        "'embedway cache warm', which has no such bound."
    )


async def read_purge(request: Request, max_bytes: int) -> PurgeBody:
    """What to purge, if the body says clearly what."""
    check_head(read_head(request.scope), is_form_allowed=False)
    body = await read_body(request, max_bytes)
    try:
        decoded = _decode_purge(body)
    except (ValueError, RecursionError) as error:
        refuse(error, body, PurgeBody)
    refuse_doubles(body)
    is_chosen = not (decoded.model is decoded.space is decoded.project is None)
    if bool(decoded.all) == is_chosen:
        raise InvalidRequest(
            'Say what to purge: model, space or project, or {"all": true} and nothing else.',
            param="all",
        )
    return decoded


def read_query(request: Request) -> Choice:
    """What to export. A parameter that is misspelt would otherwise mean everything."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in Choice.__struct_fields__:
            raise InvalidRequest(f"There is no query parameter {name[:100]!r}.", param=name[:100])
        if name in given:
            raise InvalidRequest(f"The query parameter {name} stands twice.", param=name)
        given[name] = value
    try:
        return msgspec.convert(given, Choice)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`")
        raise InvalidRequest(f"{name} is wrong: {text.lower()}.", param=name) from None


def check_lines_head(incoming: Incoming) -> bool:
    """Whether many lines follow, not one row alone. Raises UnsupportedMediaType for others."""
    media_type = incoming.header(b"content-type").partition(";")[0].strip().lower()
    if media_type not in _LINES:
        raise UnsupportedMediaType(
            f"The Content-Type is {media_type[:100]!r}; send 'Content-Type: {MEDIA_TYPE}'."
        )
    others = {name: value for name, value in incoming.headers.items() if name != b"content-type"}
    check_head(replace(incoming, headers=others), is_form_allowed=False)
    return media_type != _ONE


def read_lines(lines: Sequence[bytes]) -> list[Entry]:
    """All lines of an export, or none. Takes a while: not for the event loop."""
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entries.append(read_line(line))
        except Unsound as error:
            raise InvalidRequest(
                f"Line {number} is not a vector as it was exported: {error}. Nothing was stored.",
                param=f"line {number}",
            ) from None
    if not entries:
        raise InvalidRequest("The body is empty; send the lines of an export.")
    return entries
