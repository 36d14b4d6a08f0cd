"""Every error code: when it happens and what to do, for `/openapi.json` and `/docs#code`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from embedway.errors import EmbedError

MEANINGS: dict[str, tuple[str, str]] = {
    "invalid_parameter": (
        "A field is unknown, missing, or has a value it cannot have.",
        "Change the field that param names; the message says what it takes.",
    ),
    "invalid_input": (
        "The inputs are empty, of a wrong type, of several kinds, or too many.",
        "Send 1 to 2,048 inputs of one kind, none empty; param names the bad one.",
    ),
    "token_limit_exceeded": (
        "One input, or all together, have more tokens than the model takes.",
        "Split the text into shorter ones, or send fewer at once.",
    ),
    "unsupported_dimensions": (
        "The model cannot give vectors of that length.",
        "Ask for one of the lengths that the message names.",
    ),
    "model_not_found": (
        "There is no such model, or no account of this gateway serves it.",
        "Choose one that GET /v1/models lists as available, or do what the message says.",
    ),
    "not_found": ("There is no such route or record.", "Check the path, or the id."),
    "method_not_allowed": (
        "The route does not take this HTTP method.",
        "Use one that the Allow header names.",
    ),
    "request_timeout": (
        "The body of the request did not come in time.",
        "Send fewer inputs in each request, or look at the way to the gateway.",
    ),
    "request_too_large": (
        "The body has more bytes than the gateway reads.",
        "Send fewer inputs in each request.",
    ),
    "unsupported_media_type": (
        "The body is not JSON, or is compressed.",
        "Send plain JSON with Content-Type: application/json.",
    ),
    "headers_too_large": (
        "The head of the request has too many bytes or fields.",
        "Send fewer and shorter headers.",
    ),
    "missing_api_key": ("No key was sent.", "Add the header Authorization: Bearer <key>."),
    "invalid_api_key": (
        "The key is not one of this gateway's.",
        "Check it for a slip; 'embedway keys list' shows which keys there are.",
    ),
    "expired_api_key": ("The key's time is over.", "Ask the operator for a new key."),
    "revoked_api_key": ("The key was revoked.", "Use another key."),
    "insufficient_permissions": (
        "The caller is known, or need not be, but may not do this.",
        "Use a key that allows it; the message says what was missing.",
    ),
    "model_not_allowed": (
        "The key may not use this model.",
        "Use a model that the message names, or another key.",
    ),
    "space_mismatch": (
        "The key is pinned to one vector space, and the answer would live in another.",
        "Ask for the model and dimensions of the key's space, or use another key.",
    ),
    "budget_exceeded": (
        "The key's budget is spent.",
        "Wait until the budget starts anew, or have it raised.",
    ),
    "rate_limit_exceeded": (
        "The key asked too often, or every provider's limit is reached.",
        "Try again after the seconds in Retry-After.",
    ),
    "overloaded": (
        "The gateway has more work waiting than it can do in time.",
        "Try again after the seconds in Retry-After.",
    ),
    "ledger_unavailable": (
        "A paid call cannot be written down, so it is not made.",
        "Try again soon; the operator must look at the database.",
    ),
    "provider_unavailable": (
        "The provider failed or cannot be reached.",
        "Try again later, or name fallbacks in the request.",
    ),
    "provider_timeout": (
        "The answer took too long.",
        "Try again, with fewer inputs at once.",
    ),
    "provider_unauthorized": (
        "The provider refused the gateway's own credential, not the caller's key.",
        "The operator must check the credential of the account.",
    ),
    "provider_invalid_response": (
        "The provider's answer would have given a wrong vector; it was not passed on.",
        "Try again later, or name fallbacks in the request.",
    ),
    "internal_error": (
        "This is a bug in the gateway.",
        "Tell the operator the request id.",
    ),
}
"""By code: when it happens, and what a caller can do."""


def error_table() -> list[dict[str, Any]]:
    """One row for each code: `code`, its `statuses` and `types`, `when`, and `advice`."""
    rows: dict[str, dict[str, Any]] = {}
    for kind in sorted(error_classes(), key=lambda kind: kind.status):
        when, advice = MEANINGS[kind.code]
        new = {"code": kind.code, "statuses": [], "types": [], "when": when, "advice": advice}
        row = rows.setdefault(kind.code, new)
        if kind.status not in row["statuses"]:
            row["statuses"].append(kind.status)
        if kind.type not in row["types"]:
            row["types"].append(kind.type)
    return list(rows.values())


def error_classes(kind: type[EmbedError] = EmbedError) -> Iterator[type[EmbedError]]:
    """The whole tree, each class once."""
    yield kind
    for child in kind.__subclasses__():
        yield from error_classes(child)
