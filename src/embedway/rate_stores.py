"""Where keys' rates are counted, as the settings have it."""

from __future__ import annotations

from collections.abc import Callable

from embedway.clock import Clock
from embedway.rates import RateStore
from embedway.settings import Settings
from embedway.store.rate_memory import MemoryRates
from embedway.wrong_settings import SettingsError


def open_rate_store(settings: Settings, clock: Clock, count: Callable[[], None]) -> RateStore:
    """Redis where one is set, since several processes may share it; else this process.

    count: counts each question that Redis did not answer. Nothing is connected yet. Raises
    SettingsError if the URL is wrong or the package for Redis is missing.
    """
    if settings.redis_url is None:
        return MemoryRates(clock)
    try:
        from embedway.store.rate_redis import RedisRates
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise SettingsError(
            "redis_url needs a package more: pip install 'embedway[redis]'"
        ) from None
    return RedisRates(settings.redis_url, clock=clock, count=count)
