"""Who is asking: bearer keys and tokens, and the rule of the open loopback server.

With no key ever made and a loopback listener, every loopback caller is let in, whatever it sends
as key. A web page must not reach such a server, so a foreign `Host` (DNS rebinding) or `Origin` is
refused. The first key closes it, for good.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from urllib.parse import urlsplit

from embedway.errors import (
    InvalidKey,
    InvalidRequest,
    MissingKey,
    PermissionDenied,
)
from embedway.grants import grant_of
from embedway.networks import is_within
from embedway.server.key_ring import KeyRing
from embedway.server.last_used import LastUsed
from embedway.server.messages import Incoming
from embedway.types import Grant

Verify = Callable[[bytes], Awaitable[Grant]]
"""The grant of a JSON Web Token. Raises an Unauthenticated, or Overloaded."""


class Guard:
    """Decides who may come in. `is_loopback_only`: no address but loopback is listened on.

    origins: other web origins whose pages the operator lets in.
    verify: for what has the shape of a JSON Web Token; without it none is known.
    last_used: is told of each use of a key.
    """

    def __init__(
        self,
        ring: KeyRing,
        *,
        is_loopback_only: bool,
        origins: Collection[str] = (),
        verify: Verify | None = None,
        last_used: LastUsed | None = None,
    ) -> None:
        self._ring = ring
        self._verify = verify
        self._last_used = last_used
        self.is_loopback_only = is_loopback_only
        self._origins = frozenset(origins)

    async def has_keys(self) -> bool:
        """Whether a key was ever made."""
        return bool(await self._ring.current())

    def renew_keys(self) -> None:
        """A key was made, rotated or revoked here: that counts from now on."""
        self._ring.renew()

    async def enter(self, incoming: Incoming) -> bool:
        """Let a request in at all; True if the server is open. Raises PermissionDenied."""
        if await self.has_keys() or not self.is_loopback_only:
            return False
        _refuse_foreign(incoming, self._origins)
        return True

    async def identify(self, incoming: Incoming) -> Grant:
        """The grant of the caller. Raises an Unauthenticated or PermissionDenied."""
        if await self.enter(incoming):
            return Grant.open()
        if incoming.credentials > 1:
            raise InvalidRequest("Send one Authorization header, not several.")
        scheme, _, token = incoming.headers.get(b"authorization", b"").strip().partition(b" ")
        if not scheme:
            raise MissingKey("No API key was sent; add the header 'Authorization: Bearer <key>'.")
        if scheme.lower() != b"bearer" or not token.strip():
            raise InvalidKey("The Authorization header must be 'Bearer <key>'.")
        return await self._grant(token.strip(), incoming.peer)

    async def _grant(self, token: bytes, peer: str | None) -> Grant:
        if self._verify is not None and _is_jwt(token):
            grant = await self._verify(token)
            _refuse_address(grant, peer)
            return grant
        key = self._ring.check(token)
        grant = grant_of(key)
        _refuse_address(grant, peer)
        if self._last_used is not None:
            self._last_used.note(key)
        return grant

    async def may_watch(self, incoming: Incoming) -> None:
        """Let through a loopback peer or an admin key, for metrics.

        What a proxy on this machine passes on comes from a loopback peer too, but not from us.
        """
        is_forwarded = b"forwarded" in incoming.headers or b"x-forwarded-for" in incoming.headers
        if incoming.peer is not None and is_loopback(incoming.peer) and not is_forwarded:
            await self.enter(incoming)
            return
        if not (await self.identify(incoming)).is_admin:
            raise PermissionDenied("Metrics are for loopback callers and admin keys.")


def _is_jwt(token: bytes) -> bool:
    """By its shape: three parts. No key of ours has a dot, and none is shown to others."""
    return token.count(b".") == 2 and not token.startswith(b"gw_")


def _refuse_address(grant: Grant, peer: str | None) -> None:
    if grant.ips is not None and not is_within(peer, grant.ips):
        raise PermissionDenied(
            f"The key {grant.name!r} may be used from certain networks only, and this request "
            "comes from elsewhere. Send it from one of them, or ask the gateway's operator."
        )


def is_loopback(host: str) -> bool:
    """Whether *host* is `localhost` or a loopback address."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _names_loopback(host: str) -> bool:
    """Whether a `Host` header, with its port, names this machine's loopback."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _refuse_foreign(incoming: Incoming, origins: frozenset[str]) -> None:
    host = incoming.header(b"host")
    if not _names_loopback(host):
        raise PermissionDenied(
            "This gateway has no key yet and answers to loopback names only. Create a key with "
            "'embedway keys create NAME' to use it under another name."
        )
    origin = incoming.header(b"origin")
    if b"origin" in incoming.headers and origin not in (f"http://{host}", *origins):
        raise PermissionDenied(
            "This gateway has no key yet and does not answer web pages of other origins."
        )
