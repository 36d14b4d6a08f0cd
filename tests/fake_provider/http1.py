"""HTTP/1.1 from the server's side, no more than is needed, so that it can be broken."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from tests.fake_provider.exchange import Answer, Request

_CHUNK = 4096


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None if the other side has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(_header(line) for line in lines if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Request.of(method, target, headers, body)


def as_bytes(answer: Answer, *, is_last: bool) -> bytes:
    """The whole answer. is_last: the connection is closed after it."""
    headers = dict(answer.headers)
    body = answer.body
    if answer.is_chunked:
        headers["transfer-encoding"] = "chunked"
        parts = [body[start : start + _CHUNK] for start in range(0, len(body), _CHUNK)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))
    else:
        headers.setdefault("content-length", str(len(body)))
    headers["connection"] = "close" if is_last else "keep-alive"
    try:
        reason = HTTPStatus(answer.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
