"""Errors as callers see them: OpenAI's envelope, all four keys always there."""

from __future__ import annotations

import math
import re
from typing import Any

import orjson

from embedway.errors import EmbedError, MethodNotAllowed, UpstreamError
from embedway.server.messages import JSON, Headers, Incoming, Outgoing
from embedway.server.routing import gateflow_routing, gateway_routing

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_RETRY_AFTER_S = 120
"""openai-python does not retry at all if told to wait longer."""


def error_fields(error: EmbedError) -> dict[str, Any]:
    """`{"message", "type", "param", "code", "doc_url"}`, with `provider` if one answered."""
    fields: dict[str, Any] = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
        "doc_url": f"/docs#{error.code}",
    }
    if isinstance(error, UpstreamError):
        fields["provider"] = error.provider
    return fields


def error_headers(error: EmbedError) -> Headers:
    """Whether and when the caller's client should try again."""
    headers: list[tuple[bytes, bytes]] = []
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if error.retry_after_s is not None:
        seconds = min(_LONGEST_RETRY_AFTER_S, max(0, math.ceil(error.retry_after_s)))
        headers.append((b"retry-after", str(seconds).encode()))
    if not error.caller_may_retry:
        # Official clients retry 408, 409, 429 and 5xx unless told: our own attempts are spent.
        headers.append((b"x-should-retry", b"false"))
    return tuple(headers)


def request_id(incoming: Incoming, id: str) -> str:
    """The caller's own `x-request-id` if it is sound, else ours."""
    theirs = incoming.header(b"x-request-id")
    return theirs if _REQUEST_ID.fullmatch(theirs) else f"req_{id}"


def render_error(error: EmbedError, incoming: Incoming, id: str) -> Outgoing:
    """The whole answer. id: the request's ULID."""
    name = (b"x-request-id", request_id(incoming, id).encode())
    body = orjson.dumps(
        {"error": error_fields(error), **gateway_metadata(error, id), **_gateflow(error, id)}
    )
    return Outgoing(error.status, (JSON, name, *error_headers(error)), body)


def gateway_metadata(error: EmbedError, id: str) -> dict[str, Any]:
    """`providerMetadata`, as far as a failed request has it; nothing where nothing was tried."""
    if error.plan is None or not error.attempts:
        return {}
    routing = gateway_routing(error.plan, error.attempts)
    gateway = {"routing": routing, "cost": "0", "generationId": f"gen_{id}"}
    return {"providerMetadata": {"gateway": gateway}}


def _gateflow(error: EmbedError, id: str) -> dict[str, Any]:
    """`gateflow`, likewise."""
    if error.plan is None or not error.attempts:
        return {}
    routing = gateflow_routing(error.plan.model, error.attempts)
    return {"gateflow": {"request_id": f"req_{id}", "routing": routing}}


def internal_error(id: str) -> EmbedError:
    """What a caller is told of a bug: the request's id, and nothing else."""
    return EmbedError(f"The gateway failed unexpectedly. Tell its operator this id: req_{id}.")
