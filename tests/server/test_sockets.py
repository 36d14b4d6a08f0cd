from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import orjson
import pytest

from tests.asgi import MODEL

BODY = orjson.dumps({"model": MODEL, "input": "a text", "encoding_format": "base64"})


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to the gateway."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        yield connection


def head(url: str, *lines: str, method: str = "POST", path: str = "/v1/embeddings") -> bytes:
    """The head of a request."""
    host = urlsplit(url).netloc
    return "\r\n".join((f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", "")).encode()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case) and body of one answer; what came behind it is left unread."""
    top = b""
    while not top.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        assert part, top
        top += part
    status, *lines = top[:-4].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (i.partition(":") for i in lines)}
    body = b""
    while missing := int(headers["content-length"]) - len(body):
        part = connection.recv(missing)
        assert part, body
        body += part
    return int(status.split()[1]), headers, body


def ask_well(url: str) -> None:
    """A good request on a new connection is answered."""
    with connected(url) as connection:
        connection.sendall(head(url, f"Content-Length: {len(BODY)}") + BODY)
        assert read_answer(connection)[0] == 200


def test_a_long_body_is_answered_before_it_is_sent(server_url: str) -> None:
    """Whoever announces 100 MB has his answer before he sends a byte, and the connection ends."""
    with connected(server_url) as connection:
        started = time.perf_counter()
        connection.sendall(head(server_url, f"Content-Length: {100 * 2**20}"))
        status, headers, body = read_answer(connection)
        took = time.perf_counter() - started
    assert (status, orjson.loads(body)["error"]["code"]) == (413, "request_too_large")
    assert headers["connection"] == "close"
    assert took < 1
    ask_well(server_url)


@pytest.mark.parametrize("length", ["Content-Length: 104857600", "Transfer-Encoding: chunked"])
def test_a_long_body_that_is_sent_is_answered(server_url: str, length: str) -> None:
    """A caller who sends 100 MB at once finds his 413 and not only a broken connection, and not
    all of it is kept."""
    block = b"x" * 2**20
    piece = b"100000\r\n" + block + b"\r\n" if "chunked" in length else block
    sent = 0
    with connected(server_url) as connection:
        connection.sendall(head(server_url, length))
        connection.setblocking(False)
        deadline = time.monotonic() + 5
        view = memoryview(piece)
        while sent < 100 and time.monotonic() < deadline:
            try:
                view = view[connection.send(view) :]
            except BlockingIOError:
                if _has_answer(connection):
                    break
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            if not view:
                view, sent = memoryview(piece), sent + 1
        connection.settimeout(10)
        status, _, body = read_answer(connection)
    assert (status, orjson.loads(body)["error"]["code"]) == (413, "request_too_large")
    ask_well(server_url)


def test_a_caller_who_reads_late_finds_his_answer(server_url: str) -> None:
    """The connection stays open for as long as a usual client needs to send his long body, since
    a reset would take the answer from him."""
    length = 20 * 2**20
    with connected(server_url) as connection:
        connection.sendall(head(server_url, f"Content-Length: {length}"))
        for _ in range(20):
            connection.sendall(b"x" * 2**20)
        status, _, _ = read_answer(connection)
    assert status == 413


def _has_answer(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize(
    "request_head",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/embeddings HTTP/9.9\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\nhello",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"zz\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nX y: z\r\n\r\n",
    ],
)
def test_what_is_no_http_ends_its_connection(server_url: str, request_head: bytes) -> None:
    """Rubbish, double lengths and lengths that are none get at most a 400; then the connection is
    closed, so that what follows is never taken for another request."""
    with connected(server_url) as connection:
        connection.sendall(request_head)
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while part := connection.recv(65_536):
            data += part
    assert data == b"" or data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413")), data[:200]
    assert data.count(b"HTTP/1.1 ") <= 1
    ask_well(server_url)


def test_an_endless_head_is_not_kept(server_url: str) -> None:
    """A head of megabytes is refused, whatever it holds."""
    with connected(server_url) as connection:
        try:
            connection.sendall(head(server_url, *(f"X-{i}: {'x' * 1000}" for i in range(2000))))
            status, _, _ = read_answer(connection)
            assert status in (400, 431)
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed while it was sent, which is a refusal, too
    ask_well(server_url)


def test_two_requests_on_one_connection(server_url: str) -> None:
    """Requests sent one behind the other on a connection are answered in their order."""
    one = BODY
    other = orjson.dumps({"model": MODEL, "input": ""})
    with connected(server_url) as connection:
        for body in (one, other, one):
            connection.sendall(head(server_url, f"Content-Length: {len(body)}") + body)
            status, _, _ = read_answer(connection)
            assert status == (400 if body is other else 200)


def test_the_slash_of_a_model_may_be_encoded(server_url: str) -> None:
    """`%2F` in the path of a model reaches it through the real server, too."""
    with connected(server_url) as connection:
        path = f"/v1/models/{MODEL.replace('/', '%2F')}"
        connection.sendall(head(server_url, method="GET", path=path))
        status, _, body = read_answer(connection)
    assert (status, orjson.loads(body)["id"]) == (200, MODEL)
