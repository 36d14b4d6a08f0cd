"""What a caller says in headers about his request, besides who he is."""

from __future__ import annotations

import re

from msgspec import Struct

from embedway.errors import InvalidRequest
from embedway.server.messages import Incoming
from embedway.settings import ServerSettings

_TIMEOUT = b"x-request-timeout-ms"
_MILLISECONDS = re.compile(r"0*([1-9][0-9]*)")
_MILLISECONDS_DIGITS = 15  # Python refuses to read very long numbers
_TRACE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TAG = re.compile(r"[\x20-\x7e]{1,64}")


class Said(Struct, frozen=True, gc=False, kw_only=True):
    """What the headers say; the empty values where they say nothing."""

    timeout_s: float
    is_no_store: bool = False
    """Whether nothing is to be kept, and nothing kept to be answered."""
    user: str = ""
    tags: str = ""
    trace: str | None = None
    app: str | None = None


_SAYING = frozenset(
    {
        _TIMEOUT,
        b"cache-control",
        b"ai-reporting-user",
        b"ai-reporting-tags",
        b"x-gateflow-trace-id",
        b"traceparent",
        b"x-title",
        b"http-referer",
    }
)


def read_said(incoming: Incoming, settings: ServerSettings) -> Said:
    """All of it. Most callers say nothing: that is found out in one step."""
    if _SAYING.isdisjoint(incoming.headers):
        return Said(timeout_s=settings.request_timeout_s)
    header = incoming.header
    return Said(
        timeout_s=read_timeout_s(incoming, settings),
        is_no_store="no-store" in header(b"cache-control").lower(),
        user=header(b"ai-reporting-user")[:256],
        tags=header(b"ai-reporting-tags"),
        trace=read_trace(incoming),
        app=(header(b"x-title") or header(b"http-referer"))[:128] or None,
    )


def read_timeout_s(incoming: Incoming, settings: ServerSettings) -> float:
    """How long the request may take in all: as the caller says, within the operator's limit."""
    if _TIMEOUT not in incoming.headers:
        return settings.request_timeout_s
    found = _MILLISECONDS.fullmatch(incoming.header(_TIMEOUT).strip())
    if found is None:
        raise InvalidRequest(
            "The header X-Request-Timeout-Ms must be a whole number of milliseconds, at least 1, "
            "in digits.",
            param="x-request-timeout-ms",
        )
    is_endless = len(found[1]) > _MILLISECONDS_DIGITS
    most = settings.max_request_timeout_s
    return most if is_endless else min(int(found[1]) / 1000, most)


def read_tags(body_tags: tuple[str, ...], header: str) -> tuple[str, ...]:
    """The body's tags and those of the header `ai-reporting-tags`, each once."""
    if not header and len(body_tags) < 2:
        return body_tags
    named = [tag.strip() for tag in header.split(",") if tag.strip()]
    if any(not _TAG.fullmatch(tag) for tag in named):
        raise InvalidRequest(
            "The header ai-reporting-tags holds a tag of more than 64 characters, or one with "
            "characters other than printable ASCII.",
            param="ai-reporting-tags",
        )
    tags = tuple(dict.fromkeys((*body_tags, *named)))
    if len(tags) > 10:
        raise InvalidRequest(
            f"The body and the header ai-reporting-tags name {len(tags)} tags; at most 10 are "
            "allowed.",
            param="ai-reporting-tags",
        )
    return tags


def read_trace(incoming: Incoming) -> str | None:
    """The caller's own trace id, if it is sound."""
    named = incoming.header(b"x-gateflow-trace-id")
    # traceparent is version-traceid-spanid-flags (https://www.w3.org/TR/trace-context/).
    trace = named or "".join(incoming.header(b"traceparent").split("-")[1:2])
    return trace if _TRACE.fullmatch(trace) else None
