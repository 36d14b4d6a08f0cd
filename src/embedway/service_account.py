"""Access tokens of a Google service account, fetched through the transport and kept until they
expire. google-auth (the extra `vertex`) makes and signs the assertion; it opens no socket here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedway.clock import Clock
from embedway.errors import UpstreamUnauthorized
from embedway.provider import HttpRequest, HttpResponse, Send, TransportError
from embedway.secret import Secret

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_EARLY_S = 300.0
"""A token is renewed so long before its end, as google-auth itself does."""
_TIMEOUT_S = 20.0
_MAX_BYTES = 1 << 20


class ServiceAccount:
    """Call it for the token that is valid now. One renewal serves all who wait for it."""

    def __init__(self, path: Path, send: Send, clock: Clock) -> None:
        self._path = path
        self._send = send
        self._clock = clock
        self._token: Secret | None = None
        self._expires_at = 0.0
        self._lock = asyncio.Lock()

    async def __call__(self) -> Secret:
        """The access token. Raises UpstreamUnauthorized if Google gives none."""
        async with self._lock:
            if self._token is None or self._clock.now() > self._expires_at - _EARLY_S:
                loop = asyncio.get_running_loop()
                await asyncio.to_thread(self._renew, _Request(self._send, loop))
            assert self._token is not None
            return self._token

    def _renew(self, request: _Request) -> None:
        """Blocking, in a thread: google-auth's own interface is."""
        try:
            from google.auth import exceptions
            from google.oauth2 import service_account
        except ImportError:
            raise self._refusal("install embedway[vertex] to use credentials_file") from None
        try:
            credentials: Any = service_account.Credentials.from_service_account_file(
                str(self._path), scopes=[_SCOPE]
            )
            credentials.refresh(request)
        except exceptions.GoogleAuthError as error:
            raise self._refusal(f"Google gave no token ({type(error).__name__})") from None
        except (OSError, ValueError):
            raise self._refusal("credentials_file is not a service account's JSON") from None
        self._token = Secret(credentials.token)
        self._expires_at = credentials.expiry.timestamp() if credentials.expiry else 0.0

    def _refusal(self, reason: str) -> UpstreamUnauthorized:
        return UpstreamUnauthorized(
            f"The service account of Vertex cannot be used: {reason}. "
            "The operator must check the account.",
            provider="vertex",
        )


class _Request:
    """google-auth's transport, over ours."""

    def __init__(self, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        self._send = send
        self._loop = loop

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> _Response:
        from google.auth import exceptions

        request = HttpRequest(method, url, headers or {}, body or b"")
        work = self._send(request, timeout_s=timeout or _TIMEOUT_S, max_bytes=_MAX_BYTES)
        try:
            response = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop).result()
        except TransportError as error:
            raise exceptions.TransportError(error.reason) from None
        return _Response(response)


async def _awaited(work: Any) -> HttpResponse:
    response: HttpResponse = await work
    return response


class _Response:
    """What google-auth reads of an answer."""

    def __init__(self, response: HttpResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.data = response.body
