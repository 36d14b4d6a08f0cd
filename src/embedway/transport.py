"""The one door to other HTTP servers, and the only import of the HTTP client.

No redirects, no proxy variables, no cookies; connecting, sending and reading share one time limit;
a body is read up to a bound, counted after decompression; a host name that leads to an address
inside the operator's network is refused unless the account is marked private. Errors of the client
are mapped here and nowhere else, in words of our own, because the client's may hold URLs.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import lru_cache, partial
from types import TracebackType
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from embedway.addresses import is_public
from embedway.provider import HttpRequest, HttpResponse, TransportError

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_LOOKUPS = 8
_RESOLVE_TIMEOUT_S = 5.0  # what a resolver of libc waits for one name server
_CONNECT_TIMEOUT_S = 10.0  # openai-python allows 5, aiohttp 30; a TLS handshake across an ocean
_READ_TIMEOUT_S = 60.0  # between two pieces of an answer; 2,048 long texts take some 20
_CONNECTIONS = 512
# Vectors hardly shrink, and to inflate them costs more than to read them.
_ADDED = {"accept-encoding": "identity", "user-agent": "embedway"}
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class _SystemNames(AbstractResolver):
    """Asks the system, in threads of its own: while name servers hang, so do these, and whoever
    reads keys or files in the loop's own threads would wait behind them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _BoundedResolver(AbstractResolver):
    """Gives up on a name in time. The client bounds connecting, but not looking up, and every
    later request would wait for a look-up that hangs."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
                return await self._inner.resolve(host, port, family)
        except TimeoutError:
            raise OSError(None, "looking up the name took too long") from None

    async def close(self) -> None:
        await self._inner.close()


class _PublicResolver(AbstractResolver):
    """Resolves a name to public addresses only: the address that is checked is the one connected
    to, so that a name that changes its mind finds nothing (DNS rebinding)."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(one["host"]) for one in found):
            raise OSError(None, "the name leads to an address that is not public")
        return found

    async def close(self) -> None:
        await self._inner.close()


class _Connector(aiohttp.TCPConnector):
    """Does not use a connection again on which something came that nobody had asked for: it would
    be taken for the next answer, and every text after it would get the vector of another."""

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is None or not connection.protocol.should_close:
                break
            connection.close()
        return connection


class Transport:
    """Pools of connections. Use it as an async context manager; call it to send."""

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver
        self._stack = AsyncExitStack()
        self._public: aiohttp.ClientSession | None = None
        self._private: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        inner = _BoundedResolver(self._resolver or _SystemNames())
        self._stack.push_async_callback(inner.close)
        self._public = await self._open(_PublicResolver(inner))
        self._private = await self._open(inner)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _open(self, resolver: AbstractResolver) -> aiohttp.ClientSession:
        return await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=_Connector(limit=_CONNECTIONS, resolver=resolver),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                raise_for_status=False,
                skip_auto_headers=_NOT_ADDED,
                headers=_ADDED,
            )
        )

    async def __call__(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse:
        """Send *request* and read the answer whole. Raises TransportError."""
        session = self._private if request.is_private else self._public
        if session is None:
            raise RuntimeError("the transport is not open")
        try:
            async with session.request(
                request.method,
                _url(request.url),
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_READ_TIMEOUT_S
                ),
            ) as response:
                body = await _read_bounded(response, max_bytes)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HttpResponse(response.status, headers, body)
        except TransportError:
            raise
        except aiohttp.ClientConnectorCertificateError:
            raise TransportError("its TLS certificate is not valid", was_sent=False) from None
        except aiohttp.ClientConnectorDNSError:
            raise TransportError("its name leads to no public address", was_sent=False) from None
        except aiohttp.ClientConnectorError:
            raise TransportError("it cannot be reached", was_sent=False) from None
        except aiohttp.ConnectionTimeoutError:
            raise TransportError(
                "connecting took too long", was_sent=False, is_timeout=True
            ) from None
        except TimeoutError:
            raise TransportError(
                "it did not answer in time", was_sent=True, is_timeout=True
            ) from None
        except aiohttp.ClientPayloadError:
            raise TransportError("its answer broke off", was_sent=True) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise TransportError("the connection broke", was_sent=True) from None


@lru_cache(maxsize=1024)
def _url(text: str) -> URL:
    """Exactly as built: a signature covers the path."""
    return URL(text, encoded=True)


async def _read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body. Raises TransportError if it is longer than *max_bytes*."""
    parts, length = [], 0
    async for part in response.content.iter_any():
        length += len(part)
        if length > max_bytes:
            raise TransportError(f"its answer is longer than {max_bytes} bytes", was_sent=True)
        parts.append(part)
    return b"".join(parts)
