"""The keys in memory: read again beside the requests, and known for a while when they cannot be."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Mapping

from embedway.clock import Clock
from embedway.errors import ExpiredKey, InvalidKey, Overloaded, RevokedKey
from embedway.store.database import StoreError
from embedway.store.keys import Key, KeyStore

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
