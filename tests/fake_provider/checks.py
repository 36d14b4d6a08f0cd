"""What real services check before they answer; each names what is wrong as they would."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson

from tests.fake_provider.exchange import KEY, Refused, Request, refuse


def check_bearer(request: Request) -> None:
    """The credential stands in `authorization`, as a bearer, and is ours."""
    check_header(request, "authorization", f"Bearer {KEY}")


def check_header(request: Request, name: str, expected: str) -> None:
    """The credential stands in the header *name* and in no other."""
    others = {"authorization", "api-key", "x-api-key", "x-goog-api-key"} - {name}
    if request.headers.get(name) != expected or others & request.headers.keys():
        refuse(401, f"The credential must be in {name} and be right.", "invalid_api_key")


def read_object(
    request: Request, *, known: Collection[str], required: Collection[str] = (), status: int = 400
) -> dict[str, Any]:
    """The body, an object with *required* fields and none that is not *known*.

    A field that is null counts as absent, as it does for the services whose SDKs send nulls.
    """
    if not request.headers.get("content-type", "application/json").startswith("application/json"):
        refuse(415, "The body must be JSON.")
    try:
        body = request.json()
    except orjson.JSONDecodeError:
        refuse(status, "The body is not JSON.")
    if not isinstance(body, dict):
        refuse(status, "The body must be an object.")
    if unknown := body.keys() - set(known):
        raise Refused(status, f"Unknown field: {min(unknown)}", details={"field": min(unknown)})
    body = {name: value for name, value in body.items() if value is not None}
    if missing := set(required) - body.keys():
        raise Refused(status, f"Field required: {min(missing)}", details={"field": min(missing)})
    return body


def read_texts(value: Any, *, limit: int, too_many: str, status: int = 400) -> list[str]:
    """A text, or a list of 1 to *limit* texts, none of them empty. too_many: the refusal."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(type(t) is str and t for t in texts):
        refuse(status, "The texts must be a list of texts, none of them empty.")
    if len(texts) > limit:
        refuse(status, too_many)
    return texts


def read_choice(value: Any, allowed: Collection[Any], name: str, status: int = 400) -> Any:
    """*value*, one of *allowed* or absent."""
    if value is not None and value not in allowed:
        refuse(status, f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}.")
    return value
