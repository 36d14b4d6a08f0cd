"""When each key was used last: written beside the requests, at most once a minute for each key."""

from __future__ import annotations

import asyncio
import logging

from embedway.clock import Clock
from embedway.store.database import StoreError
from embedway.store.keys import Key, KeyStore

_EVERY_MS = 60_000
_log = logging.getLogger("embedway.auth")


class LastUsed:
    """No request waits for it, and none fails with it."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._told: dict[str, int] = {}
        """When each key was last handed to the store, by this process."""
        self._waiting: dict[str, int] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, key: Key) -> None:
        """*key* is used now."""
        now_ms = int(self._clock.now() * 1000)
        if now_ms < max(key.last_used_ms or 0, self._told.get(key.id, 0)) + _EVERY_MS:
            return
        self._told[key.id] = self._waiting[key.id] = now_ms
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Write what waits."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        try:
            while self._waiting:
                used_ms, self._waiting = self._waiting, {}
                await asyncio.to_thread(self._store.mark_used, used_ms)
        except StoreError as error:  # the next use, a minute from now, will be written
            _log.warning("when keys were used last is not noted: %s", error)
        finally:
            self._writing = None
