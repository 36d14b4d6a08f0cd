"""While the gateway is full, callers hear so before a request is kept: over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.server.serving import serving
from tests.server.test_sockets import BODY, ask_well, connected, head, read_answer

PLAIN = f"Content-Length: {len(BODY)}"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that takes one request at a time."""
    with serving(tmp_path_factory.mktemp("small"), max_requests_in_flight=1) as (address, _):
        yield address


@contextmanager
def full(url: str) -> Iterator[socket.socket]:
    """A request whose body has begun keeps its place until the block ends, and is answered then."""
    with connected(url) as first:
        first.sendall(head(url, PLAIN) + BODY[:-1])
        while ask(url)[0] != 503:
            pass
        yield first
        first.sendall(BODY[-1:])
        assert read_answer(first)[0] == 200


def ask(url: str) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    with connected(url) as connection:
        connection.sendall(head(url, PLAIN) + BODY)
        return read_answer(connection)


def test_a_refusal_is_an_answer_like_any_other(url: str) -> None:
    """It has the usual envelope and headers, says when to try again, and the caller's own id."""
    with full(url), connected(url) as connection:
        connection.sendall(head(url, PLAIN, "X-Request-Id: mine") + BODY)
        status, headers, body = read_answer(connection)
        assert status == 503
        error = orjson.loads(body)["error"]
        assert (error["type"], error["code"]) == ("overloaded_error", "overloaded")
        assert headers["x-request-id"] == "mine"
        assert headers["retry-after"] == "1"
        assert headers["content-type"] == "application/json"
        assert "date" in headers
        assert "x-should-retry" not in headers
    ask_well(url)


def test_the_connection_goes_on(url: str) -> None:
    """On the connection of a refusal the next requests are answered, however they are cut."""
    with connected(url) as connection:
        with full(url):
            for cut in (1, 30, len(head(url, PLAIN)), len(head(url, PLAIN)) + 1, -1):
                request = head(url, PLAIN) + BODY
                connection.sendall(request[:cut])
                connection.sendall(request[cut:])
                assert read_answer(connection)[0] == 503
        connection.sendall(head(url, PLAIN) + BODY)
        assert read_answer(connection)[0] == 200


def test_two_requests_at_once(url: str) -> None:
    """Of requests sent behind each other each has its refusal, in order."""
    with full(url), connected(url) as connection:
        named = [head(url, PLAIN, f"X-Request-Id: r{i}") + BODY for i in range(3)]
        connection.sendall(b"".join(named))
        data = b""
        while data.count(b"HTTP/1.1 503") < 3 or not data.endswith(b"}}"):
            part = connection.recv(65_536)
            assert part, data
            data += part
        places = [data.index(b"x-request-id: r%d" % i) for i in range(3)]
        assert places == sorted(places)


def test_a_request_behind_one_that_is_in(url: str) -> None:
    """Who waits for an answer on a connection hears of it before his next request is refused."""
    with full(url) as first:
        first.sendall(BODY[-1:] + head(url, PLAIN) + BODY)
        assert read_answer(first)[0] == 200
        assert read_answer(first)[0] in (200, 503)
        first.sendall(head(url, PLAIN) + BODY[:-1])  # for the end of `full`


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("/v1/embeddings", ["Transfer-Encoding: chunked"]),
        ("/v1/embeddings", [PLAIN, "Connection: close"]),
        ("/v1/embeddings", [PLAIN, "Expect: 100-continue"]),
        ("/v4/ai/embedding-model", [PLAIN, "ai-model-id: local/wordllama-256"]),
    ],
)
def test_all_callers_are_refused(url: str, path: str, lines: list[str]) -> None:
    """However a request is framed, it is refused in its route's own envelope."""
    is_chunked = "chunked" in lines[0]
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) if is_chunked else BODY
    with full(url), connected(url) as connection:
        connection.sendall(head(url, *lines, "Content-Type: application/json", path=path) + body)
        status, _, told = read_answer(connection)
        assert status == 503
        assert "error" in orjson.loads(told)


def test_too_long_a_body_is_still_told_so(url: str) -> None:
    """Who announces more than is ever read hears that, not that he should try again."""
    with full(url), connected(url) as connection:
        connection.sendall(head(url, f"Content-Length: {100 * 2**20}"))
        assert read_answer(connection)[0] == 413


def test_other_routes_are_answered(url: str) -> None:
    """Health and models do not wait for embeddings."""
    with full(url), connected(url) as connection:
        for path in ("/health", "/v1/models"):
            connection.sendall(head(url, method="GET", path=path))
            assert read_answer(connection)[0] == 200


def test_refusals_are_counted(url: str) -> None:
    """Those refused at the door stand in the metrics with all others."""

    def refused() -> float:
        with connected(url) as connection:
            connection.sendall(head(url, method="GET", path="/metrics"))
            lines = read_answer(connection)[2].decode().splitlines()
        found = [line for line in lines if 'status="503"' in line and "/v1/embeddings" in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    with full(url):
        before = refused()
        assert ask(url)[0] == 503
        assert refused() == before + 1


def test_a_slow_refused_body_is_not_waited_for(tmp_path: Path) -> None:
    """A caller who is refused and does not send the rest of his request is closed."""
    with serving(tmp_path / "hasty", max_requests_in_flight=1, body_timeout_s=1.0) as (url, _):
        with connected(url) as first, connected(url) as slow:
            first.sendall(head(url, PLAIN) + BODY[:-1])
            while ask(url)[0] != 503:
                pass
            slow.sendall(head(url, PLAIN) + BODY[:-1])
            assert read_answer(slow)[0] == 503
            while slow.recv(65_536):
                pass
        ask_well(url)
