"""Who is asking: bearer keys and tokens, and the rule of the open loopback server.

With no key ever made and a loopback listener, every loopback caller is let in, whatever it sends
as key. A web page must not reach such a server, so a foreign `Host` (DNS rebinding) or `Origin` is
refused. The first key closes it, for good.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
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
from embedway.grants import grant_of
from embedway.networks import is_within
from embedway.server.last_used import LastUsed
from embedway.server.messages import Incoming
from embedway.store.database import StoreError
from embedway.store.keys import Key, KeyStore
from embedway.types import Grant

_FRESH_S = 1.0
"""How old the keys in memory may be: a new or revoked key counts after that long at most."""
_RENEWED_S = 0.5
"""How old they are when they are read again, while those who come are still let in by what is
known: to wait for the store takes long when there is much to do."""
_STALE_S = 60.0
"""How long they still count while the store cannot be read."""
_NO_HASH = bytes(32)
_NOBODY = Key(id="", name="", type="dev", hash=_NO_HASH, created_ms=0)
_log = logging.getLogger("embedway.auth")

Verify = Callable[[bytes], Awaitable[Grant]]
"""The grant of a JSON Web Token. Raises an Unauthenticated, or Overloaded."""


class KeyRing:
    """The keys in memory, read again from the store when they are older than a second."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._keys: Mapping[str, Key] = {}
        self._read_at = float("-inf")
        self._is_outdated = False
        self._is_failing = False
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the keys in memory may be used as they are."""
        return not self._is_outdated and self._age_s < _FRESH_S

    @property
    def _age_s(self) -> float:
        return self._clock.monotonic() - self._read_at

    def renew(self) -> None:
        """This process has changed a key: read them all before one is checked again."""
        self._is_outdated = True

    async def current(self) -> Mapping[str, Key]:
        """All keys by id. Raises Overloaded if the store cannot be read for long."""
        if self.is_fresh:
            if self._age_s >= _RENEWED_S:
                self._renewed()
            return self._keys
        reading = self._renewed()
        if not self._serves_stale:
            await asyncio.shield(reading)
            if self._is_outdated:  # it had begun before the change that made them so
                await asyncio.shield(self._renewed())
        return self._keys

    def _renewed(self) -> asyncio.Task[None]:
        """They are being read; for all who want it at once."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(_see)  # nobody may wait for it
        return self._reading

    @property
    def _serves_stale(self) -> bool:
        """Whether the store failed last time: then nobody waits for it while the keys in memory
        still count."""
        return self._is_failing and self._age_s <= _STALE_S

    async def _read(self) -> None:
        self._is_outdated = False
        try:
            keys = await asyncio.to_thread(self._store.all)
            self._keys = {key.id: key for key in keys}
            self._read_at = self._clock.monotonic()
            self._is_failing = False
        except StoreError as error:
            _log.error("%s", error)
            self._is_failing = True
            if self._age_s > _STALE_S:
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
        digest, now_ms = self._store.hash(token), self._clock.now() * 1000
        is_right = hmac.compare_digest(digest, key.hash)
        was_right = hmac.compare_digest(digest, key.previous_hash or _NO_HASH)
        if key is _NOBODY or not (is_right or was_right):
            raise InvalidKey("The API key is not one of this gateway's; check it for a slip.")
        state = key.state(now_ms)
        if state == "revoked":
            raise RevokedKey(f"The API key {key.prefix} was revoked; use another one.")
        if state == "expired":
            raise ExpiredKey(f"The API key {key.prefix} has expired; ask for a new one.")
        if not is_right and now_ms >= (key.previous_until_ms or 0):
            raise ExpiredKey(
                f"The API key {key.prefix} was rotated, and its old text works no longer; use the "
                "new one."
            )
        return key


def _see(reading: asyncio.Task[None]) -> None:
    if not reading.cancelled():
        reading.exception()


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
