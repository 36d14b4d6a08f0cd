"""Callers who send slowly, send nothing, or do not read: over real sockets, with short limits."""

from __future__ import annotations

import re
import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from embedway.server.receipt import Patience, is_late
from tests.asgi import MODEL
from tests.server.serving import serving
from tests.server.test_sockets import BODY, ask_well, connected, head, read_answer

LIMIT_S = 0.4
UNREAD_S = 1.0
PACE_S = 0.05
LARGE = orjson.dumps({"model": MODEL, "input": [f"a text {i}" for i in range(2048)]})
"""Its answer is megabytes long: more than the system keeps for a caller who does not read."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that waits for nobody for long."""
    with serving(
        tmp_path_factory.mktemp("hasty"),
        head_timeout_s=LIMIT_S,
        body_timeout_s=LIMIT_S,
        keep_alive_s=LIMIT_S,
        unread_timeout_s=UNREAD_S,
    ) as (address, _):
        yield address


def read_to_end(connection: socket.socket) -> bytes:
    """All that comes until the gateway closes."""
    data = b""
    try:
        while part := connection.recv(1 << 20):
            data += part
    except ConnectionResetError:
        pass
    return data


def drip(connection: socket.socket, data: bytes) -> bytes:
    """Send byte by byte until something comes back, or it is closed; what came then."""
    for i in range(len(data)):
        try:
            connection.sendall(data[i : i + 1])
        except (BrokenPipeError, ConnectionResetError):
            break
        if select.select([connection], [], [], PACE_S)[0]:
            break
    else:
        raise AssertionError("all of it was taken")
    return read_to_end(connection)


def test_a_silent_caller_is_closed(url: str) -> None:
    """Who connects and says nothing is closed."""
    with connected(url) as connection:
        assert read_to_end(connection) == b""


def test_a_slow_head_is_closed(url: str) -> None:
    """A head that comes byte by byte is not waited for, while others are answered."""
    with connected(url) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\n")
        ask_well(url)
        assert drip(connection, b"X-Slow: " + b"x" * 1000) == b""


def test_a_slow_second_head_is_closed(url: str) -> None:
    """On a kept connection the head of the next request has no more time than the first one's."""
    with connected(url) as connection:
        connection.sendall(head(url, f"Content-Length: {len(BODY)}") + BODY)
        assert read_answer(connection)[0] == 200
        assert drip(connection, b"GET /" + b"x" * 1000) == b""


@pytest.mark.parametrize(
    ("path", "lines", "body"),
    [
        ("/v1/embeddings", ["Content-Length: 1000"], b"x" * 999),
        ("/v1/embeddings", ["Transfer-Encoding: chunked"], b"1000\r\n" + b"x" * 999),
        ("/v4/ai/embedding-model", ["Content-Length: 1000"], b"x" * 999),
        ("/v1/management/cache/warm", ["Content-Length: 1000"], b"x" * 999),
    ],
)
def test_a_slow_body_is_told_so(url: str, path: str, lines: list[str], body: bytes) -> None:
    """A body that comes byte by byte gets 408 in the usual envelope, on every route, and is never
    taken for a whole one."""
    with connected(url) as connection:
        connection.sendall(head(url, "Content-Type: application/json", *lines, path=path))
        top, _, told = drip(connection, body).partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 408")
    assert b"x-request-id" in top
    assert b"x-should-retry" not in top
    assert orjson.loads(told)["error"]["code"] == "request_timeout"


def test_the_rest_of_a_refused_body_is_not_waited_for(url: str) -> None:
    """Who was refused by his head has his answer, and is closed if his body does not come."""
    with connected(url) as connection:
        connection.sendall(head(url, "Content-Type: text/xml", "Content-Length: 1000"))
        assert read_answer(connection)[0] == 415
        assert drip(connection, b"x" * 999) == b""


def test_an_idle_connection_is_closed(url: str) -> None:
    """After an answer the connection is kept for the next request, but not for ever."""
    with connected(url) as connection:
        connection.sendall(head(url, f"Content-Length: {len(BODY)}") + BODY)
        assert read_answer(connection)[0] == 200
        connection.sendall(b"\r\n\r\n")  # begins no request
        assert read_to_end(connection) == b""


def test_an_endless_head_is_refused_while_it_comes(url: str) -> None:
    """A head is not kept until it ends: past twice what is allowed nothing more is read."""
    with connected(url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 100_000)
        assert read_to_end(connection) in (
            b"",  # closed with unread bytes, which may take the answer along
            b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
            b"content-length: 0\r\nconnection: close\r\n\r\n",
        )


@pytest.fixture
def small(url: str) -> Iterator[socket.socket]:
    """A connection that asked for a long answer, and for which the system keeps little of it."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.settimeout(10)
        host, _, port = url.removeprefix("http://").partition(":")
        connection.connect((host, int(port)))
        lines = (f"Content-Length: {len(LARGE)}", "Content-Type: application/json")
        connection.sendall(head(url, *lines) + LARGE)
        yield connection


def load(url: str) -> dict[str, float]:
    """The gauges of the server's load, by their last word."""
    with connected(url) as connection:
        connection.sendall(head(url, "Connection: close", method="GET", path="/metrics"))
        text = read_to_end(connection).decode()
    return {
        name: float(value)
        for name, value in re.findall(r"^embedway_(bytes_in_flight|connections) (\S+)$", text, re.M)
    }


def test_who_reads_nothing_is_dropped(url: str, small: socket.socket) -> None:
    """An answer that nobody takes is in flight, and counted, until its time is over; then its
    connection and its memory are given back, while others are answered."""
    while load(url)["bytes_in_flight"] < 2**20:
        ask_well(url)
    assert load(url)["connections"] >= 2
    while load(url) != {"bytes_in_flight": 0, "connections": 1}:
        ask_well(url)
    length, body = length_told(small)
    assert len(body + read_to_end(small)) < length


def length_told(connection: socket.socket) -> tuple[int, bytes]:
    """How long the answer's body is, and what came of it with the head."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(512)
    top, _, body = data.partition(b"\r\n\r\n")
    told = next(i for i in top.lower().split(b"\r\n") if i.startswith(b"content-length:"))
    return int(told.partition(b":")[2]), body


def test_who_reads_slowly_gets_it_all(small: socket.socket) -> None:
    """A caller who takes a little now and then has his whole answer, however long it takes."""
    length, body = length_told(small)
    paces = 0
    received = len(body)
    while received < length:
        if paces < 1.5 * UNREAD_S / PACE_S:  # well over the limit, and never still for so long
            paces += 1
            select.select([], [], [], PACE_S)
        part = small.recv(1 << 16)
        assert part, f"{received} of {length}"
        received += len(part)


def test_the_bounds() -> None:
    """A body is late if it takes too long in all, or, after a while, comes at less than 240 bytes
    a second."""
    assert not is_late(4.9, 0, 30)
    assert is_late(5.1, 1000, 30)
    assert not is_late(5.1, 1300, 30)
    assert not is_late(29, 240 * 29, 30)
    assert is_late(30.1, 10**9, 30)


def test_connections_are_looked_at_often_enough() -> None:
    """Every second, or ten times within the shortest limit."""
    usual = Patience(10, 30, 75, 60, 1, 1, 1)
    assert usual.look_every_s == 1
    assert Patience(10, 0.5, 75, 60, 1, 1, 1).look_every_s == 0.05


def test_too_many_connections(tmp_path: Path) -> None:
    """One connection more than allowed is answered 503 and closed; the others go on, and its place
    is free when one of them ends."""
    with serving(tmp_path, max_connections=2) as (url, _):
        with connected(url) as first, connected(url) as second:
            for one in (first, second):
                one.sendall(head(url, f"Content-Length: {len(BODY)}") + BODY)
                assert read_answer(one)[0] == 200
            with connected(url) as third:
                assert read_to_end(third).startswith(b"HTTP/1.1 503 ")
            first.sendall(head(url, f"Content-Length: {len(BODY)}") + BODY)
            assert read_answer(first)[0] == 200
        with connected(url) as later:
            later.sendall(head(url, f"Content-Length: {len(BODY)}") + BODY)
            assert read_answer(later)[0] in (200, 503)


def test_ten_thousand_silent_callers(tmp_path: Path) -> None:
    """Ten thousand connections that say nothing cost less than 1 GiB, do not keep others from
    their answers, and are all closed in the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(10_000, hard - 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 1000), hard))
    with serving(tmp_path, head_timeout_s=5) as (url, process):
        host, _, port = url.removeprefix("http://").partition(":")
        silent = [socket.create_connection((host, int(port)), 10) for _ in range(number)]
        try:
            ask_well(url)
            status = Path(f"/proc/{process.pid}/status")
            if status.exists():
                kilobytes = next(
                    int(line.split()[1])
                    for line in status.read_text().split("\n")
                    if "VmRSS" in line
                )
                assert kilobytes < 2**20
            for one in silent:
                assert one.recv(1) == b""
            ask_well(url)
        finally:
            for one in silent:
                one.close()
