"""Which store keeps vectors for longer than a process lives, as the settings have it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from embedway.cached import CountCache, VectorStore
from embedway.clock import Clock
from embedway.settings import Settings
from embedway.store.recent import RecentVectors
from embedway.wrong_settings import SettingsError

_PURGES_SEEN_S = 1.0
"""How long a vector that another process has purged may still be answered from memory."""


async def follow_purges(
    recent: RecentVectors, store: VectorStore, sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Forget in memory what any process purges in the store. Runs until it is cancelled."""
    mark, _ = await store.purged_since(-1)
    while True:
        await sleep(_PURGES_SEEN_S)
        mark, purged = await store.purged_since(mark)
        for selection in purged:
            recent.purge(selection)


def open_vector_store(settings: Settings, clock: Clock, count: CountCache) -> VectorStore | None:
    """Redis where one is set, else the file `vectors.db`; None where neither is wanted.

    Nothing is connected or read yet. Raises SettingsError if the package for Redis is missing.
    """
    cache = settings.cache
    if not cache.enabled:
        return None
    if settings.redis_url is not None:
        try:
            from embedway.store.redis import RedisVectors
        except ModuleNotFoundError as error:
            if error.name != "redis":
                raise
            raise SettingsError(
                "redis_url needs a package more: pip install 'embedway[redis]'"
            ) from None
        return RedisVectors(settings.redis_url, ttl_s=cache.ttl_s, clock=clock, count=count)
    if not cache.disk_bytes:
        return None
    from embedway.store.vectors import SqliteVectors

    return SqliteVectors(
        settings.home_path / "vectors.db",
        max_bytes=cache.disk_bytes,
        ttl_s=cache.ttl_s,
        clock=clock,
        count=count,
    )
