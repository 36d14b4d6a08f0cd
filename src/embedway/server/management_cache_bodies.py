"""What comes in at `/v1/management/cache`: decoded, and checked.

Raises InvalidRequest naming the field or the line that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace
from starlette.requests import Request

from embedway.errors import InvalidRequest, UnsupportedMediaType
from embedway.server.management_bodies import read_object
from embedway.server.management_cache_schemas import PurgeBody
from embedway.server.media_type import check_head
from embedway.server.messages import Incoming
from embedway.vector_files import MEDIA_TYPE, Entry, Unsound, read_line

_ONE = "application/json"
_LINES = (MEDIA_TYPE, "application/x-ndjson", "", _ONE)


async def read_purge(request: Request, max_bytes: int) -> PurgeBody:
    """What to purge, if the body says clearly what."""
    decoded = await read_object(request, PurgeBody, max_bytes)
    is_chosen = not (decoded.model is decoded.space is decoded.project is None)
    if bool(decoded.all) == is_chosen:
        raise InvalidRequest(
            'Say what to purge: model, space or project, or {"all": true} and nothing else.',
            param="all",
        )
    return decoded


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
