"""What the management routes share: where they stand, and how their answers are written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, overload
from urllib.parse import urlsplit, urlunsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response

ROOT = "/v1/management"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Methods = Mapping[str, Callable[[Request], Awaitable[Response]]]
"""HTTP method to what answers it."""


def json_answer(value: Any) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(value), media_type="application/json")


def list_answer(items: Iterable[Any]) -> Response:
    """Many of a kind, in the envelope of OpenAI's lists."""
    return json_answer({"object": "list", "data": list(items)})


@overload
def moment(milliseconds: int) -> str: ...
@overload
def moment(milliseconds: int | None) -> str | None: ...
def moment(milliseconds: int | None) -> str | None:
    """Milliseconds since 1970 as RFC 3339 has it, in UTC: "2027-01-15T08:00:00.000Z"."""
    if milliseconds is None:
        return None
    whole = _EPOCH + timedelta(milliseconds=milliseconds)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def public_url(url: str) -> str:
    """Where it leads, without what may be a secret: user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
