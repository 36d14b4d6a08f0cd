"""Everything a provider is made to do wrong, one line each, and how the caller's request must end.

A single account is asked, so that what goes wrong shows. What an answer's payload can have wrong is
mostly in `tests/fake_provider/payloads.py`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson

from tests.fake_provider.exchange import KEY, NOT_GIVEN, Asked, Shape
from tests.fake_provider.faults import Fault, answers, cut, html, raw, reset, status, usage, wrong
from tests.fake_provider.payloads import WRONG_PAYLOADS, reverse
from tests.faults import outages, plays
from tests.faults.outages import Outage


@dataclass(frozen=True)
class End:
    """What the caller gets."""

    status: int
    code: str | None = None


RIGHT = End(200)
UNAVAILABLE = End(503, "provider_unavailable")
LATE = End(504, "provider_timeout")
WRONG = End(502, "provider_invalid_response")
LIMITED = End(429, "rate_limit_exceeded")
NOT_LET_IN = End(502, "provider_unauthorized")


@dataclass(frozen=True)
class Behaviour:
    """One of them. once: what happens to the first answers. always: to all of them. outage: what
    keeps requests from arriving."""

    end: End
    always: Fault | None = None
    once: tuple[Fault, ...] = ()
    outage: Outage = outages.nothing
    is_slow: bool = False
    """Whether it would take for ever: the caller is in a hurry."""
    is_large: bool = False
    """Whether it would take all memory: that is measured."""
    is_secure: bool = False
    """Whether the provider speaks TLS."""
    is_public: bool = False
    """Whether the account may only lead to public addresses: on loopback it never gets well."""
    or_else: End | None = None
    """Another end, where it is for the adapter or for the network to say which comes first."""
    texts: int = 1
    """How many texts it needs."""
    calls: int = 3
    """The most upstream calls of one request. A refused batch is halved until it is clear which
    text is to blame, so that takes more."""
    needs: Callable[[Shape, Asked], bool] | None = None
    """Which shapes can answer so; all, unless it says."""


def _has_length(shape: Shape, asked: Asked) -> bool:
    return shape.name != "ollama"  # it answers in chunks


def _has_key(shape: Shape, asked: Asked) -> bool:
    return shape.name != "ollama"  # it asks for none, so there is nothing to echo


def _limited(**headers: str) -> Behaviour:
    body = b'{"error":{"message":"slow down"},"message":"slow down"}'
    return Behaviour(LIMITED, answers(body, 429, **headers))


def _says(message: str) -> bytes:
    """An error in everybody's form."""
    return orjson.dumps({"error": {"message": message}, "message": message, "detail": message})


_NOW = datetime.now(UTC)
_SOON = {
    "date": format_datetime(_NOW, usegmt=True),
    "retry_after": format_datetime(_NOW + timedelta(seconds=2), usegmt=True),
}
_METADATA = "http://169.254.169.254/latest/meta-data/"
_ECHO = f"bad key {KEY} \x1b[31mred\x1b[0m\r\nset-cookie: a=b\x00\x9b"

CONNECTING: dict[str, Behaviour] = {
    "refused": Behaviour(UNAVAILABLE, outage=outages.refused),
    "no such name": Behaviour(UNAVAILABLE, outage=outages.unresolved(socket.EAI_NONAME)),
    "name server fails": Behaviour(UNAVAILABLE, outage=outages.unresolved(socket.EAI_AGAIN)),
    "name server hangs": Behaviour(UNAVAILABLE, outage=outages.unanswered),
    "private address": Behaviour(UNAVAILABLE, is_secure=True, is_public=True),
    "black hole": Behaviour(LATE, outage=outages.black_hole, is_slow=True),
    "certificate expired": Behaviour(UNAVAILABLE, outage=outages.expired, is_secure=True),
    "certificate of another": Behaviour(UNAVAILABLE, outage=outages.another_host, is_secure=True),
    "handshake reset": Behaviour(UNAVAILABLE, outage=outages.handshake_reset, is_secure=True),
}

FRAMING: dict[str, Behaviour] = {
    "accepted and closed": Behaviour(UNAVAILABLE, outage=outages.accepted_and_closed),
    "read and reset": Behaviour(UNAVAILABLE, reset()),
    "closed after the head": Behaviour(UNAVAILABLE, cut(0)),
    "half a body": Behaviour(UNAVAILABLE, plays.sends(lambda h, b: h + b[: len(b) // 2])),
    "a byte too few": Behaviour(UNAVAILABLE, plays.sends(lambda h, b: h + b[:-1])),
    "longer than its length": Behaviour(
        RIGHT, plays.sends(lambda h, b: h + b + b"and more"), or_else=UNAVAILABLE
    ),
    "answered twice": Behaviour(RIGHT, plays.answers_twice()),
    "chunks cut": Behaviour(UNAVAILABLE, plays.chunked(lambda b: plays.chunk(b)[:-9])),
    "no last chunk": Behaviour(UNAVAILABLE, plays.chunked(plays.chunk)),
    "no size of a chunk": Behaviour(UNAVAILABLE, plays.chunked(lambda b: b"zz\r\n" + b)),
    "negative chunk": Behaviour(UNAVAILABLE, plays.chunked(lambda b: b"-1\r\n" + b)),
    "no length and closed": Behaviour(RIGHT, plays.until_closed(), needs=_has_length),
    "no length and cut": Behaviour(WRONG, plays.sends(lambda h, b: _no_length(b[: len(b) // 2]))),
    "two lengths": Behaviour(UNAVAILABLE, plays.sends(lambda h, b: _two_lengths(b))),
    "HTTP/0.9": Behaviour(UNAVAILABLE, raw(b"<html>It works!</html>")),
    "no HTTP": Behaviour(UNAVAILABLE, raw(b"\x00\xff\xfe" * 100 + b"\r\n\r\n")),
    "a header of 100 KB": Behaviour(
        UNAVAILABLE, raw(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n")
    ),
    "flaps": Behaviour(RIGHT, once=(reset(), raw(b""))),
}

SLOW: dict[str, Behaviour] = {
    "silent": Behaviour(LATE, plays.hangs(lambda answer: 0), is_slow=True),
    "silent in the head": Behaviour(LATE, plays.hangs(lambda answer: 20), is_slow=True),
    "silent in the body": Behaviour(LATE, plays.hangs(lambda a: len(a) - 9), is_slow=True),
    "a byte a second": Behaviour(LATE, plays.drips(), is_slow=True),
    "endless body": Behaviour(UNAVAILABLE, plays.endless_body, is_large=True),
    "endless heads": Behaviour(LATE, plays.endless_heads, is_slow=True, is_large=True),
    "reads nothing": Behaviour(LATE, outage=outages.never_read, is_slow=True),
}

STATUS: dict[str, Behaviour] = {
    "429": Behaviour(LIMITED, status(429, "Rate limit reached.")),
    "429 for 2 s": _limited(retry_after="2"),
    "429 until a date": _limited(**_SOON),
    "429 for 0 s": _limited(retry_after="0"),
    "429 for -1 s": _limited(retry_after="-1"),
    "429 for 10^9 s": _limited(retry_after="1000000000"),
    "429 for NaN s": _limited(retry_after="nan"),
    "429 for 1500 ms": _limited(retry_after_ms="1500"),
    "429 once": Behaviour(RIGHT, once=(status(429, "Rate limit reached.", retry_after_s=1),)),
    "500": Behaviour(UNAVAILABLE, status(500)),
    "503": Behaviour(UNAVAILABLE, status(503)),
    "5xx twice": Behaviour(RIGHT, once=(status(500), status(502))),
    "500 every other time": Behaviour(RIGHT, once=(status(500),)),
    "401": Behaviour(NOT_LET_IN, status(401)),
    "403 for want of quota": Behaviour(NOT_LET_IN, status(403, "Quota exceeded.")),
    "302 to the metadata": Behaviour(UNAVAILABLE, answers(b"", 302, location=_METADATA)),
    "302 to itself": Behaviour(UNAVAILABLE, answers(b"", 302, location="/trap")),
    "307 to itself": Behaviour(UNAVAILABLE, answers(b"", 307, location="/trap")),
    "HTML": Behaviour(WRONG, html()),
    "204": Behaviour(WRONG, answers(b"", 204)),
    "echo of the credential": Behaviour(UNAVAILABLE, answers(_says(_ECHO), 500), needs=_has_key),
    "echo to the caller's blame": Behaviour(
        End(400, "invalid_parameter"), answers(_says(_ECHO), 400), needs=_has_key, calls=6
    ),
}

PAYLOAD: dict[str, Behaviour] = {
    **{
        name: Behaviour(WRONG, payload.fault, texts=payload.texts, needs=payload.needs)
        for name, payload in WRONG_PAYLOADS.items()
    },
    "BOM": Behaviour(WRONG, Fault(body=lambda body: b"\xef\xbb\xbf" + body)),
    "true, but UTF-16": Behaviour(
        WRONG, Fault(body=lambda body: body.decode().encode("utf-16")), or_else=UNAVAILABLE
    ),
    "another charset": Behaviour(
        RIGHT, Fault(headers={"content-type": "application/json; charset=utf-7"})
    ),
    "gzip bomb": Behaviour(UNAVAILABLE, plays.bomb(), is_large=True),
    "no gzip": Behaviour(UNAVAILABLE, Fault(headers={"content-encoding": "gzip"})),
    "wrong order, right index": Behaviour(
        RIGHT, wrong(reverse), texts=3, needs=lambda shape, asked: shape.has_index
    ),
    "another model": Behaviour(
        RIGHT, Fault(body=lambda body: body.replace(b'"model":"', b'"model":"another-'))
    ),
    "no usage": Behaviour(RIGHT, usage(NOT_GIVEN)),
    "negative usage": Behaviour(RIGHT, usage(-5)),
    "usage of 2^63": Behaviour(RIGHT, usage(2**63)),
    "usage of 10^30": Behaviour(RIGHT, usage(10**30)),
    "usage with a fraction": Behaviour(WRONG, usage(4.5), or_else=RIGHT),
    "usage in words": Behaviour(WRONG, usage("four"), or_else=RIGHT),
}

BEHAVIOURS: Mapping[str, Behaviour] = {**CONNECTING, **FRAMING, **SLOW, **STATUS, **PAYLOAD}


def _no_length(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body


def _two_lengths(body: bytes) -> bytes:
    lengths = b"content-length: %d\r\ncontent-length: 7\r\n\r\n" % len(body)
    return b"HTTP/1.1 200 OK\r\n" + lengths + body
