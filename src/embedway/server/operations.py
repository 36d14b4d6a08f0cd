"""What the routes of `/openapi.json` are written with: operations, parameters, refusals."""

from __future__ import annotations

from typing import Any

from embedway.server.components import reference
from embedway.server.error_codes import error_table

EVERY_ROUTE = (403, 405, 431, 500, 503)
"""What any route may answer; the others add to it."""
WITH_KEY = (*EVERY_ROUTE, 400, 401)
WITH_BODY = (*WITH_KEY, 408, 413, 415)
REQUEST_ID = {
    "x-request-id": {
        "description": "The caller's own id if it was sound, else ours.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    }
}


def operation(
    method: str,
    summary: str,
    answer: str | None = None,
    parameters: list[dict[str, Any]] | None = None,
    *,
    body: str | None = None,
    lines_type: str | None = None,
    media_type: str = "application/json",
    text_type: str | None = None,
    error: str = "ErrorAnswer",
    errors: tuple[int, ...] = EVERY_ROUTE,
    headers: dict[str, Any] | None = None,
    about: str = "",
) -> dict[str, Any]:
    """One method of a path. answer, body, error: names of schemas.

    lines_type: the media type of a body that is many of *body*, a line each.
    text_type: another media type of the answer, beside JSON.
    """
    told: dict[str, Any] = {"summary": summary, "parameters": parameters or []}
    if about:
        told["description"] = about
    if body:
        content: dict[str, Any] = {"application/json": {"schema": reference(body)}}
        if lines_type:  # the same, as often as wanted
            content[lines_type] = {"schema": {"type": "string", "minLength": 1}}
        told["requestBody"] = {"required": True, "content": content}
    if 401 in errors:
        told["security"] = [{"key": []}, {}]
    schema = reference(answer) if answer else {"type": "object"}
    if media_type != "application/json":
        schema = {"type": "string"}
    done: dict[str, Any] = {media_type: {"schema": schema}}
    if text_type:
        done[text_type] = {"schema": {"type": "string"}}
    told["responses"] = {
        "200": {
            "description": "Done",
            "content": done,
            **({"headers": headers} if headers else {}),
        },
        **{str(status): _refusal(status, error) for status in sorted(errors)},
    }
    return {method: told}


def _refusal(status: int, error: str) -> dict[str, Any]:
    codes = [row["code"] for row in error_table() if status in row["statuses"]]
    return {
        "description": "Refused: " + ", ".join(codes),
        "content": {"application/json": {"schema": reference(error)}},
        "headers": REQUEST_ID,
    }


def parameter(
    name: str,
    place: str,
    example: str,
    longest: int | None = None,
    *,
    is_required: bool = True,
    about: str = "",
    **schema: Any,
) -> dict[str, Any]:
    """A parameter in the path, the query or the head: text, narrowed by *schema*."""
    return {
        "name": name,
        "in": place,
        "required": is_required,
        **({"description": about} if about else {}),
        "schema": {
            "type": "string",
            "minLength": 1,
            **({"maxLength": longest} if longest else {}),
            **schema,
        },
        "example": example,
    }
