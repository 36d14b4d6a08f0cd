"""Who is asking: bearer keys, and the rule of the open loopback server.

With no key ever made and a loopback listener, every loopback caller is let in, whatever it sends
as key. A web page must not reach such a server, so a foreign `Host` (DNS rebinding) or `Origin` is
refused. The first key closes it, for good.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
from collections.abc import Collection, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from embedway.clock import Clock
from embedway.errors import (
    ExpiredKey,
    InvalidKey,
    InvalidRequest,
    MissingKey,
    Overloaded,
    PermissionDenied,
    RevokedKey,
)
from embedway.server.messages import Incoming
from embedway.store.database import StoreError
from embedway.store.keys import Key, KeyStore
from embedway.types import Grant

_FRESH_S = 1.0
"""How old the keys in memory may be: a new or revoked key counts after that long at most."""
_STALE_S = 60.0
"""How long they still count while the store cannot be read."""
_NOBODY = Key(id="", name="", type="dev", hash=bytes(32), created_ms=0)
_log = logging.getLogger("embedway.auth")


class KeyRing:
    """The keys in memory, read again from the store when they are older than a second."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._keys: Mapping[str, Key] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the keys in memory may be used as they are."""
        return self._clock.monotonic() - self._read_at < _FRESH_S

    async def current(self) -> Mapping[str, Key]:
        """All keys by id. Raises Overloaded if the store cannot be read for long."""
        if not self.is_fresh:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)
        return self._keys

    async def _read(self) -> None:
        try:
            keys = await asyncio.to_thread(self._store.all)
            self._keys = {key.id: key for key in keys}
            self._read_at = self._clock.monotonic()
        except StoreError as error:
            _log.error("%s", error)
            if self._clock.monotonic() - self._read_at > _STALE_S:
                raise Overloaded(
                    "The gateway cannot read its keys; try again soon.", retry_after_s=5
                ) from None
        finally:
            self._reading = None

    def check(self, token: bytes) -> Key:
        """The active key that *token* is. Raises an Unauthenticated.

        An unknown id is compared with a dummy, so that it takes as long as a known one.
        """
        parts = token.split(b"_", 3)
        key_id = parts[2].decode("latin-1") if len(parts) == 4 else ""
        key = self._keys.get(key_id, _NOBODY)
        is_right = hmac.compare_digest(self._store.hash(token), key.hash)
        if key is _NOBODY or not is_right:
            raise InvalidKey("The API key is not one of this gateway's; check it for a slip.")
        state = key.state(self._clock.now() * 1000)
        if state == "revoked":
            raise RevokedKey(f"The API key {key.prefix} was revoked; use another one.")
        if state == "expired":
            raise ExpiredKey(f"The API key {key.prefix} has expired; ask for a new one.")
        return key


class Guard:
    """Decides who may come in. `is_loopback_only`: no address but loopback is listened on.

    origins: other web origins whose pages the operator lets in.
    """

    def __init__(
        self, ring: KeyRing, *, is_loopback_only: bool, origins: Collection[str] = ()
    ) -> None:
        self._ring = ring
        self.is_loopback_only = is_loopback_only
        self._origins = frozenset(origins)

    async def has_keys(self) -> bool:
        """Whether a key was ever made."""
        return bool(await self._ring.current())

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
        key = self._ring.check(token.strip())
        return Grant(
            key_id=key.id,
            name=key.name,
            is_admin=key.type == "admin",
            models=key.models,
            project=key.project,
            allows_fallbacks=key.allows_fallbacks,
            space=key.space,
        )

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
