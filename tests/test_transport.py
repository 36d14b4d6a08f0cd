"""The one door outward, against a real server on loopback that behaves as badly as it is told."""

import asyncio
import contextlib
import gzip
import random
import socket
import ssl
import zlib

import pytest
from aiohttp.abc import AbstractResolver

from embedway.provider import HttpRequest, TransportError
from embedway.transport import Transport, _PublicResolver

SECRET = "sk-never-to-be-seen-0123456789"


class BadServer:
    """Answers each request with what `answer(head, body, writer)` writes; then closes."""

    def __init__(self):
        self.requests = []
        self.connections = 0
        self.answer = b""
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._converse(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:] if line)
            lower = {name.lower(): value for name, value in headers.items()}
            body = await reader.readexactly(int(lower.get("content-length", "0")))
            self.requests.append((lines[0], lower, body))
            answer = self.answer
            if callable(answer):
                answer = await answer(writer)
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()
            if b"connection: close" in answer.lower():
                return


@pytest.fixture
async def server():
    """A running bad server."""
    async with BadServer() as server:
        yield server


@pytest.fixture
async def send():
    """An open transport."""
    async with Transport() as transport:
        yield transport


def make_http(body, *headers, status="200 OK"):
    """The bytes of an HTTP answer."""
    head = [f"HTTP/1.1 {status}", *headers]
    if not any(header.lower().startswith(("content-length", "transfer")) for header in headers):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def make_request(url, *, is_private=True, **headers):
    """A request with a credential."""
    return HttpRequest(
        "POST",
        f"{url}/v1/embeddings",
        {"authorization": f"Bearer {SECRET}", "content-type": "application/json", **headers},
        b'{"model":"m"}',
        is_private,
    )


async def exchange(send, server, *, timeout_s=20.0, max_bytes=1000):
    """One request that is answered."""
    return await send(make_request(server.url), timeout_s=timeout_s, max_bytes=max_bytes)


async def refuse(send, url, **limits):
    """The TransportError of one request, checked to hold nothing that is secret."""
    with pytest.raises(TransportError) as caught:
        await send(make_request(url), **{"timeout_s": 20.0, "max_bytes": 1000, **limits})
    error = caught.value
    shown = f"{error} {error!r} {error.reason}"
    assert SECRET not in shown
    assert "127.0.0.1" not in shown
    assert "http" not in shown
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return error


async def test_sends_what_was_built(server, send):
    """Method, path, headers and body arrive as they were built, without cookies or proxies."""
    server.answer = make_http(b"{}")

    await exchange(send, server)
    await exchange(send, server)

    (line, headers, body), _ = server.requests
    assert line == "POST /v1/embeddings HTTP/1.1"
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["content-type"] == "application/json"
    assert body == b'{"model":"m"}'
    assert "cookie" not in headers


async def test_path_is_not_changed(server, send):
    """A path arrives escaped exactly as it was built, since a signature may cover it."""
    server.answer = make_http(b"{}")
    path = "/model/amazon.titan%3Av2%2F0/x?a=%2b+%20"

    await send(HttpRequest("POST", server.url + path, {}, b"", True), timeout_s=20.0, max_bytes=100)

    assert server.requests[0][0] == f"POST {path} HTTP/1.1"


async def test_answer(server, send):
    """The status, the lower-case headers and the whole body come back, whatever the status."""
    for status in ("200 OK", "201 Created", "400 Bad", "429 Slow", "500 Oops", "599 Odd"):
        server.answer = make_http(b"b" * 1000, "X-Request-ID: 7", "RETRY-AFTER: 2", status=status)
        response = await exchange(send, server)

        assert response.status == int(status[:3])
        assert response.headers["x-request-id"] == "7"
        assert response.headers["retry-after"] == "2"
        assert not any(name != name.lower() for name in response.headers)
        assert response.body == b"b" * 1000


async def test_chunks(server, send):
    """A body that comes in chunks is read whole."""
    server.answer = make_http(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "Transfer-Encoding: chunked")

    assert (await exchange(send, server)).body == b"abcde"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(server, send, code):
    """A redirect is handed back as an answer: a credential goes to its own address only."""
    server.answer = make_http(b"", f"Location: {server.url}/elsewhere", status=f"{code} Moved")

    assert (await exchange(send, server)).status == code
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
async def test_proxy_variables_are_ignored(server, send, monkeypatch, name):
    """No variable of the environment can lead a request through somebody else."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.answer = make_http(b"{}")

    assert (await exchange(send, server)).status == 200


async def test_cookies_are_not_kept(server):
    """A cookie that one answer sets is not sent with the next request."""
    server.answer = make_http(b"{}", "Set-Cookie: a=b; Path=/")
    async with Transport(FixedResolver("127.0.0.1")) as send:
        for _ in range(2):
            request = make_request(f"http://inside.example:{server.port}")
            await send(request, timeout_s=20.0, max_bytes=100)

    assert len(server.requests) == 2
    assert "cookie" not in server.requests[1][1]


async def test_connections_are_kept(server, send):
    """Requests one after the other share a connection."""
    server.answer = make_http(b"{}")
    for _ in range(5):
        await exchange(send, server)

    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        make_http(b"x" * 1001),
        make_http(b"x" * 10, "Content-Length: 99999999"),
        make_http(b"%x\r\n" % 2000 + b"x" * 2000 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        make_http(gzip.compress(bytes(100_000_000 // 50)), "Content-Encoding: gzip"),
        make_http(zlib.compress(bytes(2_000_000)), "Content-Encoding: deflate"),
    ],
    ids=["length", "announced", "chunked", "gzip", "deflate"],
)
async def test_body_bound(server, send, answer):
    """A body that is longer than allowed is refused, counted after decompression."""

    async def close(_):
        return answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)

    server.answer = close
    error = await refuse(send, server.url)

    assert error.was_sent
    assert error.reason in ("its answer is longer than 1000 bytes", "its answer broke off")


async def test_body_at_the_bound(server, send):
    """A body of exactly the allowed length is read, compressed or not."""
    server.answer = make_http(b"x" * 1000)
    assert len((await exchange(send, server)).body) == 1000

    server.answer = make_http(gzip.compress(b"x" * 1000), "Content-Encoding: gzip")
    assert (await exchange(send, server)).body == b"x" * 1000


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (make_http(b"half", "Content-Length: 10", "Connection: close"), "its answer broke off"),
        (
            make_http(b"5\r\nab", "Transfer-Encoding: chunked", "Connection: close"),
            "its answer broke off",
        ),
        (
            make_http(b"zz\r\nab\r\n", "Transfer-Encoding: chunked", "Connection: close"),
            "the connection broke",
        ),
        (
            make_http(b"no gzip", "Content-Encoding: gzip", "Connection: close"),
            "its answer broke off",
        ),
        (b"SSH-2.0-OpenSSH_9.9\r\nconnection: close\r\n\r\n", "the connection broke"),
        (b"HTTP/1.1 abc\r\nconnection: close\r\n\r\n", "the connection broke"),
        (b"HTTP/1.1 200 OK\r\nBad Header\r\nconnection: close\r\n\r\n", "the connection broke"),
        (
            b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\nconnection: close\r\n\r\n",
            "the connection broke",
        ),
        (b"connection: close", "the connection broke"),
        (b"\x00\xff\xfe" * 100 + b"connection: close\r\n\r\n", "the connection broke"),
    ],
)
async def test_broken_answers(server, send, answer, reason):
    """An answer that breaks off, or is no HTTP, is a TransportError in words of our own."""
    server.answer = answer

    error = await refuse(send, server.url)

    assert (error.reason, error.was_sent, error.is_timeout) == (reason, True, False)


async def test_hang_up(server, send):
    """A server that hangs up without a word may have seen the request."""

    async def nothing(_):
        return None

    server.answer = nothing
    error = await refuse(send, server.url)

    assert (error.reason, error.was_sent) == ("the connection broke", True)


async def test_refused(send):
    """Where nobody listens, the request was not sent."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        error = await refuse(send, f"http://127.0.0.1:{port}")

    assert (error.reason, error.was_sent, error.is_timeout) == (
        "it cannot be reached",
        False,
        False,
    )


@pytest.mark.parametrize("when", ["before the head", "within the body"])
async def test_timeout(server, send, when):
    """A server that is silent for too long, before its answer or within, has timed out."""
    head = b"" if when == "before the head" else make_http(b"a", "Content-Length: 10")

    async def hang(writer):
        writer.write(head)
        await asyncio.get_running_loop().create_future()

    server.answer = hang
    error = await refuse(send, server.url, timeout_s=0.02)

    assert (error.reason, error.was_sent, error.is_timeout) == (
        "it did not answer in time",
        True,
        True,
    )


async def test_connect_timeout(send, monkeypatch):
    """Where connecting takes too long, the request was not sent, and it is told as a timeout."""
    monkeypatch.setattr("embedway.transport._CONNECT_TIMEOUT_S", 0.02)

    async def hang(*_, **__):
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", hang)
    error = await refuse(send, "http://127.0.0.1:9")

    assert (error.reason, error.was_sent, error.is_timeout) == (
        "connecting took too long",
        False,
        True,
    )


async def test_no_tls(send):
    """A server that does not speak TLS is sent nothing, and no credential in the clear."""
    heard = []

    async def answer(reader, writer):
        heard.append(await reader.read(1000))
        writer.write(make_http(b"{}"))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        error = await refuse(send, f"https://127.0.0.1:{port}")

    assert not error.was_sent
    assert SECRET.encode() not in b"".join(heard)


async def test_untrusted_certificate(send, monkeypatch):
    """A certificate that cannot be verified is told as such, and the request was not sent."""
    import aiohttp
    from aiohttp.client_reqrep import ConnectionKey

    key = ConnectionKey("127.0.0.1", 443, True, True, None, None, None)

    async def refuse_certificate(*_, **__):
        raise aiohttp.ClientConnectorCertificateError(
            key, ssl.SSLCertVerificationError(f"{SECRET} at 127.0.0.1")
        )

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", refuse_certificate)
    error = await refuse(send, "https://127.0.0.1:9")

    assert (error.reason, error.was_sent) == ("its TLS certificate is not valid", False)


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {"x": "a\x00"}], ids=["newline", "nul"])
async def test_bad_headers(server, send, headers):
    """A header that would break the request is refused here, and never sent."""
    server.answer = make_http(b"{}")
    request = make_request(server.url, **headers)

    with pytest.raises(TransportError):
        await send(request, timeout_s=20.0, max_bytes=100)
    assert not any("b" in received for _, received, _ in server.requests)


async def test_bad_url(send):
    """A URL that is none is a TransportError like any other."""
    for url in ("http://[::1", "nonsense", "ftp://127.0.0.1"):
        with pytest.raises(TransportError):
            await send(HttpRequest("POST", url, {}, b"", True), timeout_s=20.0, max_bytes=100)


class FixedResolver(AbstractResolver):
    """Knows one address for every name."""

    def __init__(self, address):
        self._address = address

    async def resolve(self, host, port=0, family=socket.AF_INET):
        """The one address."""
        return [
            {
                "hostname": host,
                "host": self._address,
                "port": port,
                "family": socket.AF_INET6 if ":" in self._address else socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self):
        """Nothing to close."""


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fd00::1"]
)
async def test_private_addresses(address):
    """A name that leads into the operator's own network is not connected to."""
    async with Transport(FixedResolver(address)) as send:
        request = make_request("http://innocent.example:9", is_private=False)
        with pytest.raises(TransportError) as caught:
            await send(request, timeout_s=20.0, max_bytes=100)

    assert not caught.value.was_sent
    assert "public address" in caught.value.reason


async def test_private_account(server):
    """An account that is marked private may have its server inside."""
    server.answer = make_http(b"{}")
    async with Transport(FixedResolver("127.0.0.1")) as send:
        request = make_request(f"http://inside.example:{server.port}")
        assert (await send(request, timeout_s=20.0, max_bytes=100)).status == 200


async def test_not_open():
    """A transport that was not opened says so: a bug, not an upstream's fault."""
    with pytest.raises(RuntimeError, match="not open"):
        await Transport()(make_request("http://127.0.0.1:9"), timeout_s=1.0, max_bytes=1)


async def test_cancellation_leaves_no_slot_taken(server, send, monkeypatch):
    """After ten thousand requests cancelled at random moments no connection counts as in use, and
    the next request is answered."""
    draw = random.Random(11)

    async def answer(writer):
        await asyncio.sleep(0)
        if draw.random() < 0.3:
            writer.write(make_http(b"ab", "Content-Length: 4"))
            await asyncio.sleep(0)
            return b"cd"
        return make_http(b"abcd")

    server.answer = answer
    tasks = []
    for _ in range(20_000):
        task = asyncio.create_task(exchange(send, server))
        tasks.append(task)
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
        for one in draw.sample(tasks[-12:], min(len(tasks), 2)):
            one.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) > 10_000
    assert not any(
        isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError)
        for result in results
    )

    for session in (send._private, send._public):
        assert not session.connector._acquired
        assert not session.connector._waiters
    assert (await exchange(send, server)).body == b"abcd"


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111"])
async def test_public_addresses(address):
    """A name that leads to the public internet is resolved to the very address that was checked."""
    resolver = _PublicResolver(FixedResolver(address))
    found = await resolver.resolve("public.example", 443)
    await resolver.close()

    assert [one["host"] for one in found] == [address]
